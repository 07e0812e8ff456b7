/* What a picture takes of a pipeline's device, part by part and phase by phase, measured before anything is allocated for it.
 *
 * Weights are those of parts that are here, else their files' sizes; on the CPU, which computes with mapped weights in place, only private
 * bytes count. Compute buffers are ggml's own figures; those of a part that is not here, and was not measured while it was, are 0: a bound
 * from below. */
#ifndef IMAGINED_MODELS_FLUX_MEASURE_H
#define IMAGINED_MODELS_FLUX_MEASURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "models/autoencoder_tiling.h"
#include "models/flux_pipeline.h"

typedef struct flux_picture_shape {
    int width, height, text_tokens; /* pixels, multiples of the model's size_multiple */
    bool guidance_pair;
    bool begins_from_picture;
} flux_picture_shape;

/* Compute buffers, bytes. */
typedef struct flux_compute_needs {
    size_t encode;      /* the larger of the encoders' */
    size_t step, step_sliced;
    size_t least_slice; /* attention_slice of step_sliced */
    size_t decode;
    autoencoder_tile_need tiles[AUTOENCODER_TILE_SIZES]; /* largest first */
    int tile_count;
    size_t picture; /* encoding the one that it begins from; 0 unless it does */
    autoencoder_tile_need picture_tiles[AUTOENCODER_TILE_SIZES];
    int picture_tile_count;
} flux_compute_needs;

typedef struct flux_picture_needs {
    size_t clip_weights, t5_weights, vae_weights;
    size_t image_encoder_weights; /* 0 where it neither is here nor will come */
    size_t transformer_weights, transformer_minimum; /* all of them; the fewest that must be on the device at once */
    flux_compute_needs compute;
    size_t held; /* of the device, by the pipeline now: weights, compute buffers */
} flux_picture_needs;

bool flux_pipeline_measure(flux_pipeline *p, const flux_picture_shape *shape, flux_picture_needs *out, error *e);
/* The attention_slice with which a step of one picture takes at most `bytes`; 0: whole. The least there is where none does, or where the
 * transformer is not here. */
size_t flux_pipeline_slice_for(flux_pipeline *p, const flux_picture_shape *shape, size_t bytes);

#endif
