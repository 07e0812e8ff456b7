/* What one file format is to image.c; its table holds one row for each. Only the files of this room include it.
 *
 * Callees may rely on what image.c has checked: `read` and `metadata` get bytes that `matches` took, `read` pixels that the caps allow. */
#ifndef IMAGINED_IMAGE_CODEC_H
#define IMAGINED_IMAGE_CODEC_H

#include "image/image.h"

typedef struct image_codec {
    const char *name, *type, *extension;
    bool (*matches)(const uint8_t *bytes, size_t size); /* by its first bytes */
    /* Width, height and channels, not yet held against the caps. */
    bool (*probe)(const uint8_t *bytes, size_t size, image_info *out, error *e);
    /* Fills out->pixels, allocated by image.c for what `probe` said. */
    bool (*read)(const uint8_t *bytes, size_t size, image *out, error *e);
    bool (*write)(const image *i, int quality, const char *parameters, buffer *out, error *e);
    bool (*metadata)(const uint8_t *bytes, size_t size, buffer *out, error *e);
} image_codec;

extern const image_codec image_codec_png, image_codec_jpeg, image_codec_webp;

#endif
