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

/* Appends the text as the tokenizer's model is to see it: CLIP's NFC, single spaces and lower case; T5's charsmap. False when memory is
 * short. */
bool tokenizer_normalize(const tokenizer *t, const char *text, size_t size, buffer *out);

/* What tokenizer_config.json and special_tokens_map.json say, read once for both kinds. Missing files are empty ones. */
typedef struct tokenizer_settings {
    json_document config, map;
} tokenizer_settings;

bool tokenizer_settings_load(const char *folder, tokenizer_settings *s, error *e);
void tokenizer_settings_free(tokenizer_settings *s);
/* A token as a file describes it. Borrowed. */
typedef struct token_description {
    const char *text;
    size_t size;
    bool is_text; /* given as a string, not as an object with "content" */
    bool strip_left, strip_right, single_word, normalized;
} token_description;

/* False when it is neither a string nor an object with "content". `special`: a token of that kind is normalised only where the object says
 * so. */
bool token_describe(yyjson_val *v, bool special, token_description *out);
/* A named special token ("eos_token"), or `fallback`; false where there is neither. */
bool tokenizer_settings_special(const tokenizer_settings *s, const char *name, const char *fallback, token_description *out);
/* The config's added_tokens_decoder, or NULL. With it, special_tokens_map.json and tokenizer.json's added_tokens do not count. */
yyjson_val *tokenizer_settings_decoder(const tokenizer_settings *s);
/* model_max_length where it is sane, else 0. */
size_t tokenizer_settings_max_length(const tokenizer_settings *s);

/* Adds all tokens that are to be found in text, in the order of transformers' TokenizersBackend: those of added_tokens_decoder or of
 * tokenizer.json (`added`, may have no value); the named ones, by their fallback where no file names them; the extra ones the files list,
 * or else <extra_id_0> … (`extra` of them). Of several descriptions of one text the list's stands, else the last. A text that the
 * vocabulary lacks gets the next id. The tokenizer's model and normalisation must be there. */
typedef struct token_fallbacks {
    const char *start, *end, *unknown, *pad; /* NULL: none */
} token_fallbacks;
bool tokenizer_add_tokens(tokenizer *t, const tokenizer_settings *s, json added, const token_fallbacks *fallbacks, size_t extra, error *e);

#endif
