/* Encoding a picture in overlapping tiles, a bounded slice of work and of memory at a time, blended linearly across the seams.
 *
 * After diffusers' AutoencoderKL.tiled_encode, with tiles that are spread evenly, as those of autoencoder_tiling.h are, which has the
 * reasons. Tiled against whole, PSNR of pictures that the demo model decodes from the latents (tests/golden/test_tiles.c):
 *
 *     tile (latent cells)     48      32      24      16
 *     256×256                  –   whole    55.6    47.0 dB
 *     512×384               64.1    52.7    56.0    48.4 dB
 *
 * Sizes of tiles are in latent cells, `factor` pixels each way. One thread; the encoder outlives the tiles. */
#ifndef IMAGINED_MODELS_AUTOENCODER_ENCODER_TILING_H
#define IMAGINED_MODELS_AUTOENCODER_ENCODER_TILING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "models/autoencoder_encoder.h"
#include "models/autoencoder_tiling.h"

typedef struct autoencoder_encoder_tiles autoencoder_encoder_tiles; /* one picture on its way */

/* `pixels` [in_channels][height][width] as autoencoder_encoder_encode takes them; borrowed until the last tile. `tile` 0: the whole picture
 * is the only tile; else at least AUTOENCODER_MIN_TILE. */
bool autoencoder_encoder_tiles_new(autoencoder_encoder *m, const float *pixels, int width, int height, int tile,
                                   autoencoder_encoder_tiles **out, error *e);
void autoencoder_encoder_tiles_free(autoencoder_encoder_tiles *t); /* NULL is fine */
size_t autoencoder_encoder_tiles_bytes(const autoencoder_encoder_tiles *t); /* main memory it holds; 0 for NULL */
/* Encodes the next tile; false in *more after the last. Other pictures may be encoded between two calls. After ERROR_OUT_OF_MEMORY the same
 * tile may be tried again, or the picture with smaller tiles. */
bool autoencoder_encoder_tiles_encode_next(autoencoder_encoder_tiles *t, bool *more, error *e);
/* [latent_channels][height / factor][width / factor], as autoencoder_encoder_encode gives them, once there is no tile left. Borrowed until
 * _free. */
const float *autoencoder_encoder_tiles_latents(const autoencoder_encoder_tiles *t);

/* As autoencoder_tiles_measure, of encoding a picture of width × height pixels. */
bool autoencoder_encoder_tiles_measure(const autoencoder_encoder *m, int width, int height,
                                       autoencoder_tile_need needs[AUTOENCODER_TILE_SIZES], int *count, error *e);

#endif
