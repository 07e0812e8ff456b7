/* The questions tokenizers ask of a character. Categories come from utf8proc. */
#ifndef IMAGINED_TEXT_UNICODE_H
#define IMAGINED_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

bool unicode_is_letter(int32_t c); /* \p{L} */
bool unicode_is_number(int32_t c); /* \p{N} */
bool unicode_is_word(int32_t c);   /* \w: letters, marks, digits, joiners, connecting punctuation, alphabetic symbols */
bool unicode_is_space(int32_t c);  /* the White_Space property: Rust's char::is_whitespace, \s of a Unicode regular expression */

/* Appends text in normalization form C / with each character lower-cased by itself (Rust's char::to_lowercase). Text is valid UTF-8. False
 * when memory is short. */
bool unicode_nfc(const char *text, size_t size, buffer *out);
bool unicode_lower(const char *text, size_t size, buffer *out);

/* The end of the extended grapheme cluster that begins at `from`. */
size_t unicode_grapheme_end(const char *text, size_t size, size_t from);

#endif
