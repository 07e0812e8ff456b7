/* The pictures that a client brought for a task, from their files to what the pipeline takes. Whoever made the files may mean ill: what is
 * malformed is an error of the task and nothing else. No state. */
#ifndef IMAGINED_ENGINE_INPUT_PICTURE_H
#define IMAGINED_ENGINE_INPUT_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* The picture to begin from: width × height × 3 bytes of RGB, malloc'ed into *rgb. One of another size is stretched (Lanczos, as diffusers
 * does), one with alpha is laid over white. `fd`, a regular file open for reading, stays open. */
bool input_picture_read(int fd, int width, int height, uint8_t **rgb, error *e);
/* As it is shown; its pixels are not decoded. */
bool input_picture_size(int fd, int *width, int *height, error *e);
/* The mask of a picture of width × height pixels, for latents of `factor` pixels a cell: a number a cell, malloc'ed into *mask, the share
 * of the cell's pixels that are to be painted anew. It is stretched to the picture's size; a pixel counts where it is at least half white,
 * or with `alpha` at least half transparent. The sides are multiples of the factor. */
bool input_mask_read(int fd, bool alpha, int width, int height, int factor, float **mask, error *e);

#endif
