/* Pictures in other sizes, and masks. No state: any thread may use it. */
#ifndef IMAGINED_IMAGE_RESAMPLE_H
#define IMAGINED_IMAGE_RESAMPLE_H

#include "image/image.h"

/* A copy of width × height pixels: Lanczos with three lobes, widened over all that a pixel covers where it gets smaller (as Pillow's
 * LANCZOS). Colours are weighted by their alpha, so that what is invisible leaves no fringe. */
bool image_resize(const image *from, int width, int height, image *out, error *e);

/* Lays the picture over this colour: RGB, in the same memory. One without alpha stays as it is. */
void image_flatten(image *i, const uint8_t rgb[3]);

typedef enum mask_source {
    MASK_FROM_ALPHA, /* what is transparent is to be painted; without alpha: nothing */
    MASK_FROM_LIGHT, /* what is white is to be painted (Rec. 601 luma, over black) */
} mask_source;

/* width × height bytes, 255 where is to be painted, 0 where to be kept; malloc'ed into *out. */
bool image_mask(const image *i, mask_source source, uint8_t **out, error *e);

#endif
