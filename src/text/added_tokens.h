/* Tokens that are found in the text before it is split into words: "</s>", "<|endoftext|>", "<extra_id_7>". The leftmost match wins, of
 * those the longest.
 *
 * Most are looked for in the raw text. Those with normalized = true are looked for in the normalised text, in what the others left, and are
 * normalised themselves: CLIP's published start token is one, so "<|StartOfText|>" in a prompt is the token. The `tokenizers` library's
 * AddedVocabulary. */
#ifndef IMAGINED_TEXT_ADDED_TOKENS_H
#define IMAGINED_TEXT_ADDED_TOKENS_H

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

typedef struct added_token {
    const char *text;
    size_t size;
    const char *normal; /* what is looked for in normalised text; NULL: `text` in the raw text */
    size_t normal_size;
    int32_t id;
    bool strip_left, strip_right; /* takes the white space on that side with it */
    bool single_word;             /* not where a letter, digit, mark or _ is beside it */
    bool listed;                  /* from a list with ids; no matter here */
} added_token;

typedef struct added_tokens {
    added_token *tokens;
    size_t count, capacity;
    bool starts[2][256]; /* bytes some token begins with, in raw and in normalised text */
    arena memory;
} added_tokens;

void added_tokens_free(added_tokens *a); /* takes a zeroed one */
/* Copies the texts. A text that is there already is described anew. False (ERROR_OUT_OF_MEMORY, ERROR_BAD_FILE over a cap). */
bool added_tokens_add(added_tokens *a, const added_token *t, error *e);
const added_token *added_tokens_get(const added_tokens *a, const char *text, size_t size); /* NULL: none */

/* The first token at or after `from` in raw or in normalised text: *start and *end of what it takes from the text (with stripped white
 * space). NULL when there is none. */
const added_token *added_tokens_find(const added_tokens *a, bool normalized, const char *text, size_t size, size_t from, size_t *start,
                                     size_t *end);

#endif
