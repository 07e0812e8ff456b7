/* The picture that a denoising begins from instead of pure noise, and what of it stays: FluxImg2ImgPipeline and FluxInpaintPipeline of
 * diffusers.
 *
 * Latents are tokens, [rows·columns][4·channels], as flux_latents_pack makes them. */
#ifndef IMAGINED_MODELS_FLUX_ORIGINAL_H
#define IMAGINED_MODELS_FLUX_ORIGINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct flux_original {
    float *image, *noise; /* tokens */
    float *mask;          /* [rows·columns][4], one number a cell, or NULL */
    size_t values;        /* of image and noise */
    int channels;
} flux_original;

/* Of `steps` steps, how many `strength`, 0 … 1, leaves out: all of them at 0 (get_timesteps of the class). */
int flux_original_first_step(int steps, double strength);

/* Copies all it is given. image: planes [channels][2·rows][2·columns]; mask: a plane [2·rows][2·columns], 1 where the picture is painted
 * anew and 0 where it stays, or NULL; noise: tokens. flux_original_free, also on failure. */
bool flux_original_take(flux_original *o, const float *image, const float *mask, const float *noise, int channels, int rows, int columns,
                        error *e);
void flux_original_free(flux_original *o); /* takes a zeroed or half-built one */
size_t flux_original_bytes(const flux_original *o); /* main memory it holds */

/* The latent at noise level sigma: sigma·noise + (1 − sigma)·image (scale_noise of FlowMatchEulerDiscreteScheduler). */
void flux_original_begin(const flux_original *o, float sigma, float *latent);
/* Puts the original, at noise level sigma, back where the mask says that it stays; nothing without a mask. */
void flux_original_restore(const flux_original *o, float sigma, float *latent);

#endif
