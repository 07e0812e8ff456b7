#include "models/flux_picture.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/autoencoder_encoder_tiling.h"
#include "models/flux_pipeline_internal.h"

struct flux_picture {
    flux_pipeline *pipeline;
    int width, height, tile;
    size_t values;                       /* of the latents */
    float *planes;                       /* the pixels, until all are encoded */
    autoencoder_encoder_tiles *tiles;    /* while they are being encoded … */
    const autoencoder_encoder *encoder;  /* … by this one */
    float *latents;
};

bool flux_picture_new(flux_pipeline *p, const uint8_t *rgb, int width, int height, int tile, flux_picture **out, error *e) {
    size_t count, bytes;
    flux_picture *f = calloc(1, sizeof *f);
    *out = NULL;
    if (f == NULL) return error_no_memory(e, "a picture", sizeof *f);
    *f = (flux_picture){.pipeline = p, .width = width, .height = height, .tile = tile};
    bool fits = checked_mul((size_t)width, (size_t)height, &count) && checked_mul(count, 3 * sizeof *f->planes, &bytes);
    if (!fits || (f->planes = malloc(bytes)) == NULL) {
        flux_picture_free(f);
        return error_no_memory(e, "the picture to begin from",
                               3 * sizeof *f->planes * (unsigned long long)width * (unsigned long long)height);
    }
    autoencoder_encoder_from_rgb8(rgb, width, height, f->planes);
    *out = f;
    return true;
}

void flux_picture_free(flux_picture *f) {
    if (f == NULL) return;
    autoencoder_encoder_tiles_free(f->tiles);
    free(f->planes);
    free(f->latents);
    free(f);
}

const float *flux_picture_latents(const flux_picture *f) { return f->latents; }

size_t flux_picture_bytes(const flux_picture *f) {
    if (f == NULL) return 0;
    size_t pixels = f->planes != NULL ? (size_t)f->width * (size_t)f->height * 3 : 0;
    return sizeof *f + (pixels + f->values) * sizeof(float) + autoencoder_encoder_tiles_bytes(f->tiles);
}

static void begin_anew(flux_picture *f) {
    autoencoder_encoder_tiles_free(f->tiles);
    f->tiles = NULL;
}

void flux_picture_set_tile(flux_picture *f, int tile) {
    begin_anew(f);
    f->tile = tile;
}

typedef struct encoding {
    flux_picture *picture;
    bool more;
} encoding;

static bool encode_tile(void *context, error *e) {
    encoding *c = context;
    flux_picture *f = c->picture;
    if (!flux_pipeline_ensure(f->pipeline, FLUX_IMAGE_ENCODER, e)) return false;
    if (f->encoder != f->pipeline->image_encoder) begin_anew(f); /* it left and came again */
    f->encoder = f->pipeline->image_encoder;
    return (f->tiles != NULL ||
            autoencoder_encoder_tiles_new(f->pipeline->image_encoder, f->planes, f->width, f->height, f->tile, &f->tiles, e)) &&
           autoencoder_encoder_tiles_encode_next(f->tiles, &c->more, e);
}

/* The latents stay, all else goes. */
static bool finish(flux_picture *f, error *e) {
    size_t cells = (size_t)(f->width / f->pipeline->parts.info.vae_factor) * (size_t)(f->height / f->pipeline->parts.info.vae_factor);
    size_t values = cells * (size_t)autoencoder_encoder_config(f->encoder)->latent_channels; /* which are there, so the product fits */
    f->latents = malloc(values * sizeof *f->latents);
    if (f->latents == NULL) {
        begin_anew(f);
        return error_no_memory(e, "the picture to begin from", values * sizeof *f->latents);
    }
    f->values = values;
    memcpy(f->latents, autoencoder_encoder_tiles_latents(f->tiles), values * sizeof *f->latents);
    begin_anew(f);
    free(f->planes);
    f->planes = NULL;
    return true;
}

bool flux_picture_encode_next(flux_picture *f, bool *more, error *e) {
    encoding c = {f, true};
    if (f->latents != NULL) return error_set(e, ERROR_INTERNAL, "the picture to begin from is encoded already");
    if (!flux_pipeline_with_room(f->pipeline, encode_tile, &c, e)) return false;
    *more = c.more;
    return c.more || finish(f, e);
}
