/* The inside of a tokenizer, shared by the files that load one and the one that runs it. */
#ifndef IMAGINED_TEXT_TOKENIZER_PARTS_H
#define IMAGINED_TEXT_TOKENIZER_PARTS_H

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/charsmap.h"
#include "text/tokenizer.h"
#include "text/unigram.h"

typedef enum tokenizer_kind { TOKENIZER_CLIP, TOKENIZER_T5 } tokenizer_kind;

struct tokenizer {
    tokenizer_kind kind;
    bpe bpe;           /* CLIP */
    unigram unigram;   /* T5 */
    charsmap charsmap; /* T5 */
    added_tokens added;
    int32_t start, end, pad; /* start: CLIP only */
    int32_t vocabulary;      /* largest id + 1 */
    size_t max_length;
};

/* Appends the text as the tokenizer's model is to see it: CLIP's NFC, single spaces and lower case; T5's charsmap. False when memory is short. */
bool tokenizer_normalize(const tokenizer *t, const char *text, size_t size, buffer *out);

/* What tokenizer_config.json and special_tokens_map.json say, read once for both kinds. Missing files are empty ones. */
typedef struct tokenizer_settings {
    json_document config, map;
} tokenizer_settings;

bool tokenizer_settings_load(const char *folder, tokenizer_settings *s, error *e);
void tokenizer_settings_free(tokenizer_settings *s);
/* A special token as a file describes it. Borrowed. */
typedef struct token_description {
    const char *text;
    size_t size;
    bool strip_left, strip_right, normalized;
} token_description;

/* A named special token ("eos_token"), a string or an object with "content", or `fallback`. */
token_description tokenizer_settings_special(const tokenizer_settings *s, const char *name, const char *fallback);
/* Adds the token with its id to those found in text; one that is there already stays as it is. The tokenizer must be able to normalise. */
bool tokenizer_add_token(tokenizer *t, const token_description *d, int32_t id, error *e);
/* model_max_length where it is sane, else 0. */
size_t tokenizer_settings_max_length(const tokenizer_settings *s);
/* Adds added_tokens_decoder of the config, and added_tokens of a tokenizer.json (may have no value), to the tokenizer's. */
bool tokenizer_settings_add_tokens(const tokenizer_settings *s, json added, tokenizer *t, error *e);

#endif
