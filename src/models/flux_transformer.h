/* The denoiser of Flux.1: diffusers' FluxTransformer2DModel, with or without guidance embedding (dev, schnell).
 *
 * One thread; the device outlives the transformer, the transformer its steps. */
#ifndef IMAGINED_MODELS_FLUX_TRANSFORMER_H
#define IMAGINED_MODELS_FLUX_TRANSFORMER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "compute/device.h"
#include "models/component.h"

enum { FLUX_AXES = 3, FLUX_MAX_SIDE = 16384, FLUX_MAX_TEXT_TOKENS = 65536, FLUX_MAX_BATCH = 256 };

/* config.json, with diffusers' names and defaults. */
typedef struct flux_config {
    int in_channels;                /* numbers a token comes in with */
    int out_channels;               /* and goes out with: patch_size² · the config's out_channels */
    int num_layers, num_single_layers;
    int attention_head_dim, num_attention_heads;
    int joint_attention_dim;        /* of a text token */
    int pooled_projection_dim;
    bool guidance_embeds;
    int axes_dims_rope[FLUX_AXES];  /* even, their sum is attention_head_dim */
} flux_config;

typedef struct flux_transformer flux_transformer;

/* Loads folder/config.json and the weights beside it. Errors name the file and the key or weight. With fewer resident_bytes than the
 * weights take, the leading blocks stay on the device and the others come while a step runs (weight_set.h); ERROR_OUT_OF_MEMORY when two
 * blocks do not fit. */
bool flux_transformer_load(device *d, const char *folder, const load_options *o, flux_transformer **out, error *e);
void flux_transformer_free(flux_transformer *t); /* NULL is fine */
const flux_config *flux_transformer_config(const flux_transformer *t);
component *flux_transformer_component(flux_transformer *t); /* for component_prefetch and memory figures; it keeps no graph there */
/* Whether its matrices are below f32, and GPUs compute with them so. */
bool flux_transformer_is_half(const flux_transformer *t);
size_t flux_transformer_mapped_bytes(const flux_transformer *t);
size_t flux_transformer_private_bytes(const flux_transformer *t); /* weights in main memory beyond the mapping */
size_t flux_transformer_device_bytes(const flux_transformer *t);  /* weights on a device with memory of its own */
weight_residency flux_transformer_residency(const flux_transformer *t); /* a group is a block, the double ones first */

/* The transformer made ready for pictures of one size: built once, run once a denoising step. */
typedef struct flux_step flux_step;

typedef struct flux_step_shape {
    int rows, columns; /* image tokens, 1 … FLUX_MAX_SIDE each way */
    int text_tokens;   /* 1 … FLUX_MAX_TEXT_TOKENS */
    int batch;         /* 1 … FLUX_MAX_BATCH */
    size_t attention_slice; /* bytes of attention's scores in memory at once, where the device writes them (graph_set_attention_slice); 0: all */
} flux_step_shape;

/* ERROR_OUT_OF_MEMORY or ERROR_TOO_LARGE when the device cannot hold what the shape needs. */
bool flux_step_new(flux_transformer *t, const flux_step_shape *shape, flux_step **out, error *e);
/* What a transformer would take of a device, found without loading it. */
typedef struct flux_needs {
    size_t weights;       /* all of them. On the CPU, which computes with them in their file: bytes of the mapping */
    size_t least_weights; /* the fewest resident_bytes that it can do with */
    size_t step;          /* what a step takes beside the weights, however many of them are resident */
} flux_needs;
/* With these options, for steps of this shape (NULL: the weights alone). Nothing is allocated on the device. */
bool flux_transformer_measure(device *d, const char *folder, const load_options *o, const flux_step_shape *shape, flux_needs *out,
                              error *e);
/* Device memory that a step of this shape takes beside the weights. Nothing is allocated on the device. */
bool flux_step_measure(flux_transformer *t, const flux_step_shape *shape, size_t *bytes, error *e);
/* The largest attention_slice with which a step of this shape, whatever its own bound, takes at most `available_bytes` beside the weights;
 * 0 where it needs none. ERROR_OUT_OF_MEMORY, with the smallest slices' figure, where none does. */
bool flux_step_slice_for(flux_transformer *t, const flux_step_shape *shape, size_t available_bytes, size_t *slice, error *e);
void flux_step_free(flux_step *s); /* NULL is fine */
bool flux_step_has_shape(const flux_step *s, const flux_step_shape *shape);
size_t flux_step_bytes(const flux_step *s); /* compute memory it holds */

/* What the pictures are to show: hidden [batch][text_tokens][joint_attention_dim], pooled [batch][pooled_projection_dim]. Copied; holds
 * until set again. */
void flux_step_condition(flux_step *s, const float *hidden, const float *pooled);
/* The same for one picture of the batch: hidden [text_tokens][joint_attention_dim], pooled [pooled_projection_dim]. */
void flux_step_condition_item(flux_step *s, int item, const float *hidden, const float *pooled);
/* One evaluation. latents [batch][rows · columns][in_channels], timesteps [batch] as FluxPipeline passes them (1 … 0), guidance [batch]
 * (the scale itself; may be NULL where the model has no guidance embedding) → velocity [batch][rows · columns][out_channels]. Each item may
 * be at a timestep of its own. */
bool flux_step_run(flux_step *s, const float *latents, const float *timesteps, const float *guidance, float *velocity, error *e);

#endif
