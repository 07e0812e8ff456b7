/* Pixels to a PNG file in memory.
 *
 * The same pixels and texts give the same bytes: no time chunk, fixed compression settings. */
#ifndef IMAGINED_IMAGE_PNG_H
#define IMAGINED_IMAGE_PNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum { PNG_IMAGE_MAX_SIDE = 16384, PNG_TEXT_MAX_BYTES = 1 << 20, PNG_MAX_TEXTS = 16 };

/* One text chunk. Written as tEXt where the text is Latin-1, else as iTXt (UTF-8); readers such as Pillow take both. */
typedef struct png_text_entry {
    const char *keyword; /* 1–79 printable ASCII characters, no space at either end or doubled */
    const char *text;    /* valid UTF-8 */
} png_text_entry;

/* Appends the PNG of `width` × `height` pixels of three bytes, rows from the top without gaps, to *out. On failure *out holds what it held
 * before, and no more. */
bool png_encode(const uint8_t *rgb, int width, int height, const png_text_entry *texts, size_t count, buffer *out, error *e);
/* The same with four bytes a pixel: alpha, not multiplied in. */
bool png_encode_rgba(const uint8_t *rgba, int width, int height, const png_text_entry *texts, size_t count, buffer *out, error *e);

#endif
