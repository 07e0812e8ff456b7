/* The other half of the image autoencoder (Rombach et al., 2022; diffusers' AutoencoderKL): pixels to latents.
 *
 * A part of its own, loaded only where a task brings a picture: autoencoder_kl, which decodes, knows nothing of it, and of the weight files
 * both map, each takes its own tensors. One thread at a time. The device outlives the encoder. */
#ifndef IMAGINED_MODELS_AUTOENCODER_ENCODER_H
#define IMAGINED_MODELS_AUTOENCODER_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/autoencoder_config.h"
#include "models/component.h"

typedef struct autoencoder_encoder autoencoder_encoder;

/* Loads folder/config.json and the encoder's weights beside it; a file without them is ERROR_BAD_FILE and named. */
bool autoencoder_encoder_load(device *d, const char *folder, const load_options *o, autoencoder_encoder **out, error *e);
void autoencoder_encoder_free(autoencoder_encoder *m); /* NULL is fine */
const autoencoder_kl_config *autoencoder_encoder_config(const autoencoder_encoder *m);
int autoencoder_encoder_factor(const autoencoder_encoder *m); /* pixels a latent cell, each way: 2^(blocks − 1) */
component *autoencoder_encoder_component(autoencoder_encoder *m); /* for memory figures and component_release */

/* Encodes pixels, [batch][in_channels][height][width], −1 … 1, whose sides are multiples of the factor 2^(blocks − 1). latents gets
 * [batch][latent_channels][height / factor][width / factor], as the denoiser takes them: the mean of the encoder's distribution (diffusers'
 * DiagonalGaussianDistribution.mode), from which this takes shift_factor away and multiplies by scaling_factor. */
bool autoencoder_encoder_encode(autoencoder_encoder *m, const float *pixels, int width, int height, int batch, float *latents, error *e);

/* Device memory that encoding pixels of this shape takes beside the weights. Nothing is allocated on the device. */
bool autoencoder_encoder_measure(const autoencoder_encoder *m, int width, int height, int batch, size_t *bytes, error *e);

/* Interleaved bytes to three planes of width × height, −1 … 1, as diffusers' VaeImageProcessor makes them. */
void autoencoder_encoder_from_rgb8(const uint8_t *rgb, int width, int height, float *planes);

#endif
