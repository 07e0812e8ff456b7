/* The Unigram language model: of all ways to cut a text into known pieces, the one with the largest sum of scores (Viterbi), unknown
 * characters at a penalty and joined. Kudo 2018; the `tokenizers` library's Unigram model. */
#ifndef IMAGINED_TEXT_UNIGRAM_H
#define IMAGINED_TEXT_UNIGRAM_H

#include "base/error.h"
#include "text/ids.h"
#include "text/vocabulary.h"

typedef struct unigram {
    vocabulary pieces;
    double *scores; /* by id */
    size_t count, capacity;
    double lowest;
    int32_t unknown;
} unigram;

bool unigram_init(unigram *u, size_t pieces, int32_t unknown, error *e);
/* Appends a piece; its id is the count before. `source` names the file in errors. */
bool unigram_add(unigram *u, const char *piece, size_t size, double score, const char *source, error *e);
void unigram_free(unigram *u); /* takes a zeroed one */

/* Appends the ids of text. False when memory is short. */
bool unigram_encode(const unigram *u, const char *text, size_t size, id_list *out);

#endif
