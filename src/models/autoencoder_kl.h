/* The image autoencoder of latent diffusion (Rombach et al., 2022; diffusers' AutoencoderKL): latents to pixels.
 *
 * One thread at a time. The device outlives the model. */
#ifndef IMAGINED_MODELS_AUTOENCODER_KL_H
#define IMAGINED_MODELS_AUTOENCODER_KL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "models/autoencoder_config.h"
#include "models/component.h"

typedef struct autoencoder_kl autoencoder_kl;

/* Loads folder/config.json and the decoder's weights beside it. */
bool autoencoder_kl_load(device *d, const char *folder, const load_options *o, autoencoder_kl **out, error *e);
void autoencoder_kl_free(autoencoder_kl *m); /* NULL is fine */
const autoencoder_kl_config *autoencoder_kl_config_of(const autoencoder_kl *m);
component *autoencoder_kl_component(autoencoder_kl *m); /* for memory figures and component_release */
/* Pixels a latent cell, each way: 2^(blocks − 1). */
int autoencoder_kl_factor(const autoencoder_kl *m);

/* Decodes the denoiser's latents, [batch][latent_channels][height][width], as they are: this divides by scaling_factor and adds
 * shift_factor. pixels gets [batch][out_channels][height·factor][width·factor], about −1 … 1. */
bool autoencoder_kl_decode(autoencoder_kl *m, const float *latents, int width, int height, int batch, float *pixels, error *e);

/* Device memory that decoding latents of this shape takes beside the weights. Nothing is allocated on the device. */
bool autoencoder_kl_measure(const autoencoder_kl *m, int width, int height, int batch, size_t *bytes, error *e);
/* Whether there is memory now to decode latents of this shape: to be asked before the work of making them. ERROR_OUT_OF_MEMORY. */
bool autoencoder_kl_fits(const autoencoder_kl *m, int width, int height, int batch, error *e);

/* One picture of three planes of width × height pixels, −1 … 1, to interleaved bytes, rounding half to even as diffusers'
 * VaeImageProcessor does; NaN becomes 0. */
void autoencoder_kl_to_rgb8(const float *planes, int width, int height, uint8_t *rgb);

#endif
