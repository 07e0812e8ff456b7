/* The picture that a denoising begins from, on its way through the autoencoder's encoder: a tile a call.
 *
 * The encoder comes where it is not here; who wants it gone drops FLUX_IMAGE_ENCODER. One thread; the pipeline outlives its pictures. */
#ifndef IMAGINED_MODELS_FLUX_PICTURE_H
#define IMAGINED_MODELS_FLUX_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/flux_pipeline.h"

typedef struct flux_picture flux_picture;

/* rgb: width × height × 3 bytes, copied; the sides are multiples of the model's size_multiple. tile: latent cells, 0 the whole picture at
 * once. */
bool flux_picture_new(flux_pipeline *p, const uint8_t *rgb, int width, int height, int tile, flux_picture **out, error *e);
void flux_picture_free(flux_picture *f); /* NULL is fine */
/* Encodes a tile; false in *more after the last. After ERROR_OUT_OF_MEMORY it may be tried again, with other tiles. */
bool flux_picture_encode_next(flux_picture *f, bool *more, error *e);
/* As flux_denoise_request.image takes them, borrowed; NULL until all of it is encoded. */
const float *flux_picture_latents(const flux_picture *f);
/* What was encoded so far is encoded anew; nothing happens to one that is encoded. */
void flux_picture_set_tile(flux_picture *f, int tile);
size_t flux_picture_bytes(const flux_picture *f); /* main memory it holds; 0 for NULL */

#endif
