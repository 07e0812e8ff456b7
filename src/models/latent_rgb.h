/* What a latent looks like without decoding it: a linear map from the channels of one cell to a colour. Rough, but it shows early what a
 * picture becomes, and costs next to nothing.
 *
 * A model's own map stands in its imagined.json: "latent_rgb": {"factors": [[r, g, b], … one for each channel], "bias": [r, g, b]}, from
 * latents as the transformer has them (shifted and scaled) to colours from −1 to 1. For autoencoders of 16 channels without one it is
 * Flux's, as ComfyUI publishes it (comfy/latent_formats.py, class Flux: latent_rgb_factors, latent_rgb_factors_bias). */
#ifndef IMAGINED_MODELS_LATENT_RGB_H
#define IMAGINED_MODELS_LATENT_RGB_H

#include <stdint.h>

#include "base/json.h"

enum {
    LATENT_RGB_CHANNELS = 32,   /* a map has at most */
    LATENT_RGB_MAX_SIDE = 1024, /* a preview has at most, in its pixels */
};

typedef struct latent_rgb {
    int channels; /* 0: there is no map, and no previews */
    float factors[LATENT_RGB_CHANNELS][3], bias[3];
} latent_rgb;

/* The known map of an autoencoder with so many channels; one with 0 channels where there is none. */
latent_rgb latent_rgb_known(int channels);
/* Reads the member "latent_rgb" of imagined.json, which must fit the autoencoder's channels; absent or null: *out stays as it is. */
bool latent_rgb_read(json root, int channels, latent_rgb *out, error *e);

/* The preview of rows × columns tokens: a pixel for each of their 2 × 2 cells, or for a square of cells (2, 4, … a side), so that no side
 * is over the limit. */
void latent_rgb_size(int rows, int columns, int *width, int *height);
/* Paints the clean latent that a flow-matching step predicts, latent − sigma·velocity, into the preview's width × height × 3 bytes. Both
 * are in the transformer's order (flux_latents.h): [rows·columns][channels·4]. A square of several cells is their mean. */
void latent_rgb_paint(const latent_rgb *map, const float *latent, const float *velocity, float sigma, int rows, int columns, uint8_t *rgb);

#endif
