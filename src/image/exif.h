/* The little of EXIF that matters here: the orientation and the UserComment, in the TIFF structure that JPEG's APP1 and WebP's EXIF chunk
 * hold (CIPA DC-008, TIFF 6.0). Image tools keep a picture's settings in the UserComment, as UTF-16. */
#ifndef IMAGINED_IMAGE_EXIF_H
#define IMAGINED_IMAGE_EXIF_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* 1–8; 1 (as stored) where the block says nothing sane. The block may begin with "Exif\0\0". */
int exif_orientation(const uint8_t *exif, size_t size);
/* Appends the UserComment as UTF-8, characters that are none as U+FFFD; nothing where there is no such entry. */
void exif_comment(const uint8_t *exif, size_t size, buffer *out);
/* Appends a TIFF block (without "Exif\0\0") with this UserComment; `text` is valid UTF-8 of less than 2^30 bytes. */
void exif_write_comment(const char *text, buffer *out);

#endif
