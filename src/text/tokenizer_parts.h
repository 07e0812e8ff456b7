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

/* What tokenizer_config.json and special_tokens_map.json say, read once for both kinds. Missing files are empty ones. */
typedef struct tokenizer_settings {
    json_document config, map;
} tokenizer_settings;

bool tokenizer_settings_load(const char *folder, tokenizer_settings *s, error *e);
void tokenizer_settings_free(tokenizer_settings *s);
/* The text of a named special token ("eos_token"), a string or an object with "content", or `fallback`. Borrowed. */
const char *tokenizer_settings_special(const tokenizer_settings *s, const char *name, const char *fallback);
/* model_max_length where it is sane, else 0. */
size_t tokenizer_settings_max_length(const tokenizer_settings *s);
/* Adds added_tokens_decoder of the config, and added_tokens of a tokenizer.json (may have no value), to the tokenizer's. */
bool tokenizer_settings_add_tokens(const tokenizer_settings *s, json added, tokenizer *t, error *e);

#endif
