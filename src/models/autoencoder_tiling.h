/* Decoding a latent in overlapping tiles, a bounded slice of work and of memory at a time, blended linearly across the seams.
 *
 * After diffusers' AutoencoderKL.tiled_decode (overlap of a quarter of a tile, linear blends), with one difference: its tiles stand at
 * equal strides from the left and top, so that the last ones are narrow rests, whose group norms see too little of the picture. Here the
 * same number of tiles is spread evenly, so that all have the full size; their overlaps are the wider for it, and one graph serves them
 * all. Tiled against whole, PSNR on latents that the demo model made (its VAE has no attention; group norms are what differs):
 *
 *     tile (latent cells)           48      32      24      16       8
 *     256×256, diffusers' tiles     –     49.4    48.1    38.5    36.8 dB
 *     256×256, even tiles           –    whole    50.7    46.5    37.3 dB
 *     512×384, diffusers' tiles     –     49.6    47.6    43.4    38.6 dB
 *     512×384, even tiles         63.1    51.6    51.9    45.5    38.9 dB
 *
 * so the smallest tile is 16 cells. Overlaps of a half instead of a quarter gain 0 to 1.5 dB for up to twice the work; narrower ramps in
 * the middle of the overlap, with the margins cut off, gain nothing. Sizes are in latent cells unless they are said to be pixels. One
 * thread; the VAE outlives the tiles. */
#ifndef IMAGINED_MODELS_AUTOENCODER_TILING_H
#define IMAGINED_MODELS_AUTOENCODER_TILING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "models/autoencoder_kl.h"

enum { AUTOENCODER_MIN_TILE = 16, AUTOENCODER_TILE_SIZES = 8 };

extern const int autoencoder_tile_sizes[AUTOENCODER_TILE_SIZES]; /* that are tried, largest first */

typedef struct autoencoder_tiles autoencoder_tiles; /* one picture on its way: pictures of a batch are decoded one after the other */

/* `latents` [latent_channels][height][width] as autoencoder_kl_decode takes them; copied. `tile` 0: the whole picture is the only tile;
 * else at least AUTOENCODER_MIN_TILE. */
bool autoencoder_tiles_new(autoencoder_kl *vae, const float *latents, int width, int height, int tile, autoencoder_tiles **out, error *e);
void autoencoder_tiles_free(autoencoder_tiles *t); /* NULL is fine */
size_t autoencoder_tiles_bytes(const autoencoder_tiles *t); /* main memory it holds; 0 for NULL */
int autoencoder_tiles_count(const autoencoder_tiles *t);
/* Decodes the next tile; false in *more after the last. Other pictures may be decoded between two calls. After ERROR_OUT_OF_MEMORY the same
 * tile may be tried again, or the picture with smaller tiles. */
bool autoencoder_tiles_decode_next(autoencoder_tiles *t, bool *more, error *e);
/* The picture, [out_channels][height·factor][width·factor], about −1 … 1, once there is no tile left. Borrowed until _free. */
const float *autoencoder_tiles_planes(const autoencoder_tiles *t);

/* What a tile size takes: bytes of device memory for its compute buffers, by ggml's own figures. */
typedef struct autoencoder_tile_need {
    int tile;
    size_t bytes;
} autoencoder_tile_need;

/* The sizes that are worth trying for a latent of width × height, largest first, all smaller than the whole: their number, 0 to
 * AUTOENCODER_TILE_SIZES, to *count. Allocates nothing on the device. */
bool autoencoder_tiles_measure(const autoencoder_kl *m, int width, int height, autoencoder_tile_need needs[AUTOENCODER_TILE_SIZES],
                               int *count, error *e);
/* The largest tile whose compute buffers take at most `available_bytes`; 0 for the whole picture. ERROR_OUT_OF_MEMORY, with the smallest
 * tile's figure, where none does. */
bool autoencoder_kl_tile_for(const autoencoder_kl *m, int width, int height, size_t available_bytes, int *tile, error *e);

#endif
