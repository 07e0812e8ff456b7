/* Base 64 (RFC 4648 §4): bytes as letters that go through JSON and headers unharmed.
 *
 * No state: any thread may use it. */
#ifndef IMAGINED_BASE_BASE64_H
#define IMAGINED_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* Digits for `size` bytes, padding among them. */
#define BASE64_SIZE(size) (((size) + 2) / 3 * 4)

/* Writes BASE64_SIZE(size) characters and no NUL. */
void base64_encode(const uint8_t *bytes, size_t size, char *out);
/* The most bytes that `size` characters stand for. */
#define BASE64_BYTES(size) ((size) / 4 * 3 + 2)

/* Writes the bytes that the text stands for, at most BASE64_BYTES(size), and how many. Blanks and line breaks may stand anywhere, the
 * padding may be missing; anything else that is not base 64 is ERROR_INVALID, as are a last digit alone and bits beyond the last byte: each
 * run of bytes has one text. */
bool base64_decode(const char *text, size_t size, uint8_t *out, size_t *count, error *e);
/* The same, appended; on failure *out holds what it held before. */
bool base64_append(const char *text, size_t size, buffer *out, error *e);
/* Where the digits begin: behind "data:…;base64," (RFC 2397; its words in any case) where the text begins so, else 0. False: a data URL
 * that is not base 64. */
bool base64_data_url(const char *text, size_t size, size_t *digits, error *e);

#endif
