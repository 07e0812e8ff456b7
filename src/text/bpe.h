/* Byte-pair encoding as CLIP uses it: text is split into words by a fixed pattern, a word's bytes become visible characters (GPT-2's
 * byte-level alphabet), the last one carries "</w>", and pairs merge in the order of merges.txt. The `tokenizers` library's BPE model with
 * ByteLevel pre-tokenization. */
#ifndef IMAGINED_TEXT_BPE_H
#define IMAGINED_TEXT_BPE_H

#include "base/error.h"
#include "base/json.h"
#include "text/ids.h"
#include "text/vocabulary.h"

typedef struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: empty slot */
    int32_t rank, id;
} bpe_merge;

typedef struct bpe {
    vocabulary pieces;
    bpe_merge *merges; /* hash table */
    size_t merge_mask;
    int32_t unknown;   /* id for what has no piece; −1: dropped */
    int32_t alphabet[256], last[256]; /* id of each byte inside a word and at its end; −1 none */
} bpe;

/* From {"piece": id, …} and "left right" lines. The pieces must hold each merge's result. `source` names the files in errors. */
bool bpe_init(bpe *b, json pieces, error *e);
bool bpe_add_merges_text(bpe *b, const char *text, size_t size, const char *source, error *e);
bool bpe_add_merges_json(bpe *b, json merges, error *e);
void bpe_free(bpe *b); /* takes a zeroed one */

/* Appends the ids of text, which is normalised (NFC, lower case, single spaces). False when memory is short. */
bool bpe_encode(const bpe *b, const char *text, size_t size, id_list *out);

#endif
