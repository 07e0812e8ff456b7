/* sentencepiece's compiled normalisation rules, applied as the `tokenizers` library's Precompiled normalizer applies them.
 *
 * Format: 4 bytes little-endian size of a double-array trie (darts-clone units of 4 bytes), the trie, then NUL-terminated replacements that
 * the trie's values point into. Each grapheme cluster of fewer than 6 bytes is looked up whole, longer ones and those not found character
 * by character. */
#ifndef IMAGINED_TEXT_CHARSMAP_H
#define IMAGINED_TEXT_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

typedef struct charsmap {
    uint32_t *units; /* NULL: no rules, text passes unchanged */
    size_t unit_count;
    char *replacements;
    size_t replacements_size;
} charsmap;

/* Copies what it needs. `source` names the file in errors. An empty map is no rules. */
bool charsmap_init(charsmap *m, const void *bytes, size_t size, const char *source, error *e);
/* As charsmap_init, from base64 as tokenizer.json has it. */
bool charsmap_init_base64(charsmap *m, const char *text, const char *source, error *e);
void charsmap_free(charsmap *m); /* takes a zeroed one */

/* Appends the normalised text. False when memory is short. */
bool charsmap_apply(const charsmap *m, const char *text, size_t size, buffer *out);

#endif
