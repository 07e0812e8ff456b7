/* diffusers' FluxPipeline: two text encoders, a transformer, a VAE and a schedule from one model folder, in slices short enough to
 * schedule.
 *
 * One thread; the device outlives the pipeline. */
#ifndef IMAGINED_MODELS_FLUX_PIPELINE_H
#define IMAGINED_MODELS_FLUX_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "compute/device.h"
#include "models/flux_parts.h"

typedef struct flux_pipeline flux_pipeline;

/* Loads every part of the folder that the pool does not hold yet. Errors name the file. The pool outlives the pipeline. */
bool flux_pipeline_load(part_pool *pool, const char *folder, const load_options *o, flux_pipeline **out, error *e);
/* The same in slices, so that somebody can be listened to between them: begin reads the small files and takes what the pool has, each next
 * loads one part more, the transformer last; false in *more when all were loaded. After a failure next may be called again. A pipeline
 * whose encoders are there may encode, and drop them, before the rest comes. */
bool flux_pipeline_load_begin(part_pool *pool, const char *folder, const load_options *o, flux_pipeline **out, error *e);
bool flux_pipeline_load_next(flux_pipeline *p, bool *more, error *e);
void flux_pipeline_free(flux_pipeline *p); /* NULL and half-loaded are fine */
const model_info *flux_pipeline_info(const flux_pipeline *p);
flux_parts *flux_pipeline_parts(flux_pipeline *p); /* for figures and progress: flux_parts_bytes_done, … */

/* Parts (FLUX_ENCODERS, FLUX_TRANSFORMER, FLUX_DECODER, FLUX_IMAGE_ENCODER) can be given back between two uses, and come again by
 * themselves when one is needed, or by flux_pipeline_ensure. ERROR_BUSY when their files were changed meanwhile. */
void flux_pipeline_drop(flux_pipeline *p, unsigned parts);
bool flux_pipeline_ensure(flux_pipeline *p, unsigned parts, error *e);
/* How many device bytes the transformer's weights may take from now on (load_options.resident_bytes): another number drops the
 * transformer. */
void flux_pipeline_set_resident_bytes(flux_pipeline *p, size_t bytes);
/* Gives back the graphs and compute buffers that the parts keep for next time; they are built again when wanted. */
void flux_pipeline_release_compute(flux_pipeline *p);
/* The same until they keep at most `keep` bytes: the largest go first. */
void flux_pipeline_shrink_compute(flux_pipeline *p, size_t keep);

/* What the pipeline holds, shared parts in full; part_pool_figures has each part once, without the steps' compute buffers, which are each
 * pipeline's own. */
part_figures flux_pipeline_figures(const flux_pipeline *p);
size_t flux_pipeline_step_bytes(const flux_pipeline *p);

/* A prompt as the transformer reads it. */
typedef struct conditioning {
    float *pooled;  /* [pooled dim], CLIP's */
    float *hidden;  /* [joint dim × tokens], T5's */
    int tokens;
    size_t pooled_count, hidden_count; /* numbers in them */
} conditioning;
/* Encodes a prompt (valid UTF-8), padded and cut to `tokens` T5 tokens. The result is yours: conditioning_free. */
bool flux_pipeline_encode(flux_pipeline *p, const char *prompt, int tokens, conditioning *out, error *e);
void conditioning_free(conditioning *c); /* takes a zeroed one */
bool conditioning_copy(const conditioning *from, conditioning *out, error *e); /* the copy is yours */
size_t conditioning_bytes(const conditioning *c);
/* A number that stands for the files which a prompt is encoded with, as they were when the pipeline was loaded: another content, another
 * number. */
uint64_t flux_pipeline_encoders_stamp(const flux_pipeline *p);

#endif
