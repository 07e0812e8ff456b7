#include "models/autoencoder_encoder_tiling.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/tile_axis.h"

struct autoencoder_encoder_tiles {
    autoencoder_encoder *encoder;
    const float *pixels; /* borrowed */
    tile_axis across, down;
    int channels, planes, factor, next;
    float *tile_pixels;            /* NULL where the whole is the only tile */
    float *latents, *tile_latents; /* what is blended so far; a tile */
    float *weights;                /* of one row of a tile's cells, then of one column */
};

static float *allocate(int planes, int width, int height, error *e) {
    size_t count = 0;
    float *result = NULL;
    if (checked_mul((size_t)width, (size_t)height, &count) && checked_mul(count, (size_t)planes, &count))
        result = calloc(count, sizeof *result);
    if (result == NULL) error_no_memory(e, "encoding a picture in tiles", count * sizeof *result);
    return result;
}

bool autoencoder_encoder_tiles_new(autoencoder_encoder *m, const float *pixels, int width, int height, int tile,
                                   autoencoder_encoder_tiles **out, error *e) {
    *out = NULL;
    int factor = autoencoder_encoder_factor(m);
    if (width < 1 || height < 1 || width > AUTOENCODER_KL_MAX_SIDE || height > AUTOENCODER_KL_MAX_SIDE || width % factor != 0 ||
        height % factor != 0)
        return error_set(e, ERROR_INVALID, "a picture of %d × %d: an image encoder takes sides from 1 to %d that are multiples of %d",
                         width, height, AUTOENCODER_KL_MAX_SIDE, factor);
    if (tile != 0 && tile < AUTOENCODER_MIN_TILE)
        return error_set(e, ERROR_INVALID, "tiles of %d latent cells: at least %d are needed", tile, AUTOENCODER_MIN_TILE);
    autoencoder_encoder_tiles *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "encoding a picture", sizeof *t);
    *t = (autoencoder_encoder_tiles){.encoder = m,
                                     .pixels = pixels,
                                     .across = tile_axis_of(width / factor, tile),
                                     .down = tile_axis_of(height / factor, tile),
                                     .channels = (int)autoencoder_encoder_config(m)->latent_channels,
                                     .planes = (int)autoencoder_encoder_config(m)->in_channels,
                                     .factor = factor};
    bool whole = t->across.count * t->down.count == 1;
    if ((whole || (t->tile_pixels = allocate(t->planes, t->across.size * factor, t->down.size * factor, e)) != NULL) &&
        (t->latents = allocate(t->channels, t->across.length, t->down.length, e)) != NULL &&
        (t->tile_latents = allocate(t->channels, t->across.size, t->down.size, e)) != NULL &&
        (t->weights = allocate(1, t->across.size + t->down.size, 1, e)) != NULL) {
        *out = t;
        return true;
    }
    autoencoder_encoder_tiles_free(t);
    return false;
}

void autoencoder_encoder_tiles_free(autoencoder_encoder_tiles *t) {
    if (t == NULL) return;
    free(t->tile_pixels);
    free(t->latents);
    free(t->tile_latents);
    free(t->weights);
    free(t);
}

size_t autoencoder_encoder_tiles_bytes(const autoencoder_encoder_tiles *t) {
    if (t == NULL) return 0;
    size_t w = (size_t)t->across.size, h = (size_t)t->down.size,
           f = (size_t)t->factor; /* no product overflows, as all of it is allocated */
    size_t latents = ((size_t)t->across.length * (size_t)t->down.length + w * h) * (size_t)t->channels;
    size_t pixels = t->tile_pixels != NULL ? w * h * f * f * (size_t)t->planes : 0;
    return (latents + pixels + w + h) * sizeof(float) + sizeof *t;
}

const float *autoencoder_encoder_tiles_latents(const autoencoder_encoder_tiles *t) { return t->latents; }

/* The tile's pixels. left, top: pixels. */
static const float *cut(const autoencoder_encoder_tiles *t, size_t left, size_t top) {
    if (t->tile_pixels == NULL) return t->pixels;
    size_t f = (size_t)t->factor, width = (size_t)t->across.length * f, height = (size_t)t->down.length * f;
    size_t w = (size_t)t->across.size * f, h = (size_t)t->down.size * f;
    for (size_t p = 0; p < (size_t)t->planes; p++)
        for (size_t y = 0; y < h; y++)
            memcpy(t->tile_pixels + (p * h + y) * w, t->pixels + (p * height + top + y) * width + left, w * sizeof *t->pixels);
    return t->tile_pixels;
}

static void blend(const autoencoder_encoder_tiles *t, int column, int row) {
    size_t w = (size_t)t->across.size, h = (size_t)t->down.size, width = (size_t)t->across.length, height = (size_t)t->down.length;
    size_t left = (size_t)tile_axis_first(&t->across, column), top = (size_t)tile_axis_first(&t->down, row);
    const float *across = t->weights, *down = t->weights + w;
    tile_axis_weigh(&t->across, column, 1, t->weights);
    tile_axis_weigh(&t->down, row, 1, t->weights + w);
    for (size_t c = 0; c < (size_t)t->channels; c++)
        for (size_t y = 0; y < h; y++) {
            const float *from = t->tile_latents + (c * h + y) * w;
            float *to = t->latents + (c * height + top + y) * width + left;
            for (size_t x = 0; x < w; x++) to[x] += from[x] * (across[x] * down[y]);
        }
}

bool autoencoder_encoder_tiles_encode_next(autoencoder_encoder_tiles *t, bool *more, error *e) {
    int count = t->across.count * t->down.count, column = t->next % t->across.count, row = t->next / t->across.count, f = t->factor;
    if (t->next >= count) return error_set(e, ERROR_INTERNAL, "all tiles of the picture are encoded");
    const float *pixels = cut(t, (size_t)tile_axis_first(&t->across, column) * (size_t)f,
                              (size_t)tile_axis_first(&t->down, row) * (size_t)f);
    if (!autoencoder_encoder_encode(t->encoder, pixels, t->across.size * f, t->down.size * f, 1, t->tile_latents, e)) return false;
    blend(t, column, row);
    *more = ++t->next < count;
    return true;
}

bool autoencoder_encoder_tiles_measure(const autoencoder_encoder *m, int width, int height,
                                       autoencoder_tile_need needs[AUTOENCODER_TILE_SIZES], int *count, error *e) {
    int f = autoencoder_encoder_factor(m), columns = width / f, rows = height / f;
    *count = 0;
    for (int i = 0; i < AUTOENCODER_TILE_SIZES; i++) {
        int tile = autoencoder_tile_sizes[i];
        if (tile >= columns && tile >= rows) continue;
        needs[*count].tile = tile;
        if (!autoencoder_encoder_measure(m, tile_axis_of(columns, tile).size * f, tile_axis_of(rows, tile).size * f, 1,
                                         &needs[*count].bytes, e))
            return false;
        (*count)++;
    }
    return true;
}
