/* UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef IMAGINED_BASE_UTF8_H
#define IMAGINED_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the character at *at (at < size), moves *at past it and returns its code point; on a malformed sequence moves *at by one
 * byte and returns -1. */
int32_t utf8_next(const char *text, size_t size, size_t *at);
/* Writes a code point's 1–4 bytes and returns their count. The code point must be a Unicode scalar value. */
size_t utf8_encode(uint32_t code_point, char out[4]);
/* Whether all of text is well-formed; *bad (may be NULL) gets the offset of the first byte that is not. */
bool utf8_valid(const char *text, size_t size, size_t *bad);

#endif
