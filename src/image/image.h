/* Pictures from files and to files: PNG, JPEG and WebP, in memory.
 *
 * Whoever made the bytes may mean ill. A picture's size is read and held against the caps before anything of its size is allocated; what is
 * malformed, cut short or beyond a cap is an error, never a crash. All errors are the file's (ERROR_INVALID, ERROR_UNSUPPORTED,
 * ERROR_TOO_LARGE), except for ERROR_OUT_OF_MEMORY.
 *
 * No state: any thread may use it. */
#ifndef IMAGINED_IMAGE_IMAGE_H
#define IMAGINED_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    IMAGE_MAX_SIDE = 16384,
    IMAGE_MAX_PIXELS = 64 << 20,    /* 64 megapixels: 256 MiB with alpha */
    IMAGE_TEXT_MAX_BYTES = 1 << 20, /* of metadata that is read */
};

typedef enum image_format { IMAGE_PNG, IMAGE_JPEG, IMAGE_WEBP, IMAGE_FORMATS } image_format;

typedef struct image_info {
    image_format format;
    int width, height; /* as shown: a JPEG's EXIF orientation is followed */
    int channels;      /* 3, or 4 with alpha, as image_decode gives them */
} image_info;

/* Pixels of 8 bits a channel, rows from the top without gaps: RGB, or RGBA with alpha not multiplied in. */
typedef struct image {
    uint8_t *pixels; /* width × height × channels; malloc'ed */
    int width, height, channels;
} image;

/* What the file's head says, within the caps; decodes no pixels and allocates next to nothing. */
bool image_probe(const void *bytes, size_t size, image_info *out, error *e);
/* The picture itself; one that ends early is refused. Grey and palettes become RGB, 16 bits 8, CMYK RGB; colour profiles are not
 * applied. */
bool image_decode(const void *bytes, size_t size, image *out, error *e);
/* Allocates width × height pixels, not initialised. Only the caps can be wrong here (ERROR_TOO_LARGE), or memory. */
bool image_new(int width, int height, int channels, image *out, error *e);
void image_free(image *i); /* NULL, zeroed and freed ones are fine */

/* Appends the picture as a file of this format. quality: 1–100, for JPEG and WebP (there, 100 is without loss); ignored for PNG.
 * `parameters` (UTF-8, or NULL: none) goes where the tools that read it look: a PNG's text chunk, and EXIF's UserComment in JPEG and WebP;
 * there it must fit into 64 KiB as UTF-16 (JPEG) or IMAGE_TEXT_MAX_BYTES. JPEG carries no alpha: it must have been flattened
 * (ERROR_INVALID). The same input gives the same bytes. On failure *out holds what it held before. */
bool image_encode(const image *i, image_format format, int quality, const char *parameters, buffer *out, error *e);

/* Appends the settings text ("parameters", as A1111 and this program write it) that the file carries, as valid UTF-8; nothing where there
 * is none. False only for what is no picture, for a text over IMAGE_TEXT_MAX_BYTES, or without memory. */
bool image_metadata_read(const void *bytes, size_t size, buffer *out, error *e);

const char *image_format_name(image_format f);      /* "png", "jpeg", "webp" */
const char *image_format_type(image_format f);      /* "image/png", … */
const char *image_format_extension(image_format f); /* "png", "jpg", "webp" */
/* By name, extension or media type, in any case. */
bool image_format_parse(const char *text, image_format *out);

#endif
