#include "models/autoencoder_tiling.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/tile_axis.h"

const int autoencoder_tile_sizes[AUTOENCODER_TILE_SIZES] = {192, 128, 96, 64, 48, 32, 24, AUTOENCODER_MIN_TILE};

struct autoencoder_tiles {
    autoencoder_kl *vae;
    tile_axis across, down;
    int channels, planes, factor, next;
    float *latents, *tile_latents; /* of the picture, of a tile */
    float *picture, *tile_picture; /* what is blended so far; a tile */
    float *weights;                /* of one row of a tile's pixels, then of one column */
};

/* Numbers of `planes` planes of width × height, as bytes of floats. */
static bool plane_bytes(size_t planes, size_t width, size_t height, size_t *bytes) {
    return checked_mul(width, height, bytes) && checked_mul(*bytes, planes, bytes) && checked_mul(*bytes, sizeof(float), bytes);
}

static float *allocate(size_t planes, int width, int height, error *e) {
    size_t bytes;
    float *result = NULL;
    if (!plane_bytes(planes, (size_t)width, (size_t)height, &bytes) || (result = calloc(1, bytes)) == NULL)
        error_no_memory(e, "decoding a picture in tiles", planes * (unsigned long long)width * (unsigned long long)height * sizeof *result);
    return result;
}

static bool allocate_all(autoencoder_tiles *t, const float *latents, error *e) {
    int width = t->across.length, height = t->down.length, f = t->factor;
    size_t channels = (size_t)t->channels, planes = (size_t)t->planes, values = (size_t)width * (size_t)height * channels;
    if ((t->latents = allocate(channels, width, height, e)) == NULL) return false;
    memcpy(t->latents, latents, values * sizeof *latents);
    return (t->picture = allocate(planes, width * f, height * f, e)) != NULL &&
           (t->tile_latents = allocate(channels, t->across.size, t->down.size, e)) != NULL &&
           (t->tile_picture = allocate(planes, t->across.size * f, t->down.size * f, e)) != NULL &&
           (t->weights = allocate(1, (t->across.size + t->down.size) * f, 1, e)) != NULL;
}

bool autoencoder_tiles_new(autoencoder_kl *vae, const float *latents, int width, int height, int tile, autoencoder_tiles **out, error *e) {
    *out = NULL;
    int factor = autoencoder_kl_factor(vae), most = AUTOENCODER_KL_MAX_SIDE / factor;
    if (width < 1 || height < 1 || width > most || height > most)
        return error_set(e, ERROR_INVALID, "a latent of %d × %d: an image decoder takes sides from 1 to %d", width, height, most);
    if (tile != 0 && tile < AUTOENCODER_MIN_TILE)
        return error_set(e, ERROR_INVALID, "tiles of %d latent cells: at least %d are needed", tile, AUTOENCODER_MIN_TILE);
    autoencoder_tiles *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "decoding a picture", sizeof *t);
    t->vae = vae;
    t->across = tile_axis_of(width, tile);
    t->down = tile_axis_of(height, tile);
    t->channels = (int)autoencoder_kl_config_of(vae)->latent_channels;
    t->planes = (int)autoencoder_kl_config_of(vae)->out_channels;
    t->factor = factor;
    if (!allocate_all(t, latents, e)) {
        autoencoder_tiles_free(t);
        return false;
    }
    *out = t;
    return true;
}

void autoencoder_tiles_free(autoencoder_tiles *t) {
    if (t == NULL) return;
    free(t->latents);
    free(t->tile_latents);
    free(t->picture);
    free(t->tile_picture);
    free(t->weights);
    free(t);
}

size_t autoencoder_tiles_bytes(const autoencoder_tiles *t) {
    if (t == NULL) return 0;
    size_t width = (size_t)t->across.length, height = (size_t)t->down.length, w = (size_t)t->across.size, h = (size_t)t->down.size,
           f = (size_t)t->factor;
    size_t cells = width * height + w * h; /* of the picture and of a tile: no product overflows, as all of it is allocated */
    return (cells * (size_t)t->channels + cells * f * f * (size_t)t->planes + (w + h) * f) * sizeof(float) + sizeof *t;
}

int autoencoder_tiles_count(const autoencoder_tiles *t) { return t->across.count * t->down.count; }
const float *autoencoder_tiles_planes(const autoencoder_tiles *t) { return t->picture; }

static void cut(const autoencoder_tiles *t, int left, int top) {
    size_t width = (size_t)t->across.length, height = (size_t)t->down.length, w = (size_t)t->across.size, h = (size_t)t->down.size;
    for (size_t c = 0; c < (size_t)t->channels; c++)
        for (size_t y = 0; y < h; y++)
            memcpy(t->tile_latents + (c * h + y) * w, t->latents + (c * height + (size_t)top + y) * width + (size_t)left,
                   w * sizeof *t->latents);
}

static void blend(const autoencoder_tiles *t, int column, int row) {
    size_t f = (size_t)t->factor, w = (size_t)t->across.size * f, h = (size_t)t->down.size * f;
    size_t width = (size_t)t->across.length * f, height = (size_t)t->down.length * f;
    size_t left = (size_t)tile_axis_first(&t->across, column) * f, top = (size_t)tile_axis_first(&t->down, row) * f;
    const float *across = t->weights, *down = t->weights + w;
    tile_axis_weigh(&t->across, column, t->factor, t->weights);
    tile_axis_weigh(&t->down, row, t->factor, t->weights + w);
    for (size_t p = 0; p < (size_t)t->planes; p++)
        for (size_t y = 0; y < h; y++) {
            const float *from = t->tile_picture + (p * h + y) * w;
            float *to = t->picture + (p * height + top + y) * width + left;
            for (size_t x = 0; x < w; x++) to[x] += from[x] * (across[x] * down[y]);
        }
}

bool autoencoder_tiles_decode_next(autoencoder_tiles *t, bool *more, error *e) {
    int count = autoencoder_tiles_count(t), column = t->next % t->across.count, row = t->next / t->across.count;
    if (t->next >= count) return error_set(e, ERROR_INTERNAL, "all tiles of the picture are decoded");
    cut(t, tile_axis_first(&t->across, column), tile_axis_first(&t->down, row));
    if (!autoencoder_kl_decode(t->vae, t->tile_latents, t->across.size, t->down.size, 1, t->tile_picture, e)) return false;
    blend(t, column, row);
    *more = ++t->next < count;
    return true;
}

static bool measure(const autoencoder_kl *m, int width, int height, int tile, size_t *bytes, error *e) {
    return autoencoder_kl_measure(m, tile_axis_of(width, tile).size, tile_axis_of(height, tile).size, 1, bytes, e);
}

bool autoencoder_tiles_measure(const autoencoder_kl *m, int width, int height, autoencoder_tile_need needs[AUTOENCODER_TILE_SIZES],
                               int *count, error *e) {
    *count = 0;
    for (int i = 0; i < AUTOENCODER_TILE_SIZES; i++) {
        if (autoencoder_tile_sizes[i] >= width && autoencoder_tile_sizes[i] >= height) continue;
        needs[*count].tile = autoencoder_tile_sizes[i];
        if (!measure(m, width, height, autoencoder_tile_sizes[i], &needs[*count].bytes, e)) return false;
        (*count)++;
    }
    return true;
}

bool autoencoder_kl_tile_for(const autoencoder_kl *m, int width, int height, size_t available_bytes, int *tile, error *e) {
    size_t bytes;
    *tile = 0;
    if (!measure(m, width, height, 0, &bytes, e)) return false;
    if (bytes <= available_bytes) return true;
    for (int i = 0; i < AUTOENCODER_TILE_SIZES; i++) {
        if (autoencoder_tile_sizes[i] >= width && autoencoder_tile_sizes[i] >= height) continue;
        if (!measure(m, width, height, autoencoder_tile_sizes[i], &bytes, e)) return false;
        if (bytes > available_bytes) continue;
        *tile = autoencoder_tile_sizes[i];
        return true;
    }
    return error_set(e, ERROR_OUT_OF_MEMORY, "decoding a picture takes %zu MiB even in the smallest tiles; %zu MiB are there", bytes >> 20,
                     available_bytes >> 20);
}
