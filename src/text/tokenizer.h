/* Text to token ids, exactly as transformers' tokenizers do it.
 *
 * Two kinds: CLIP's byte-level BPE (lower-cased, NFC; vocab.json + merges.txt, or tokenizer.json) and T5's Unigram
 * (tokenizer.json with its normalizer and pre-tokenizer, or spiece.model). A tokenizer is immutable after loading and may be used by many
 * threads. Errors name the file. */
#ifndef IMAGINED_TEXT_TOKENIZER_H
#define IMAGINED_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct tokenizer tokenizer;

/* Loads CLIP's tokenizer (CLIPTokenizer) / T5's (T5TokenizerFast) from a folder, whichever of the on-disk dialects it holds. */
bool tokenizer_load_clip(const char *folder, tokenizer **out, error *e);
bool tokenizer_load_t5(const char *folder, tokenizer **out, error *e);
void tokenizer_free(tokenizer *t); /* NULL is fine */

/* Ids of `text` (valid UTF-8 of `size` bytes, NULs and all), with the tokenizer's special tokens (CLIP: start … end; T5: … end), cut to
 * `length` as transformers' truncation does (the end token stays) and padded to `length` with the pad token: exactly `length` ids are
 * written, as tokenizer(text, padding="max_length", max_length=length, truncation=True) gives. *used (may be NULL) is the count before
 * padding and after truncation. Fails on invalid UTF-8 (ERROR_INVALID) and when memory is short; length is at least the count of special
 * tokens: 2 for CLIP, 1 for T5. */
bool tokenizer_encode(const tokenizer *t, const char *text, size_t size, size_t length, int32_t *ids, size_t *used, error *e);

size_t tokenizer_vocabulary(const tokenizer *t); /* ids are below this */
/* model_max_length of tokenizer_config.json where it is sane (1 … 1,000,000), else 0. */
size_t tokenizer_max_length(const tokenizer *t);

#endif
