/* What a pipeline is made of, for the files that are the pipeline: flux_pipeline.c loads and encodes, flux_denoise.c denoises and
 * decodes. */
#ifndef IMAGINED_MODELS_FLUX_PIPELINE_INTERNAL_H
#define IMAGINED_MODELS_FLUX_PIPELINE_INTERNAL_H

#include "models/autoencoder_encoder.h"
#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/flux_measure.h"
#include "models/flux_pipeline.h"
#include "models/flux_steps.h"
#include "models/flux_transformer.h"
#include "models/t5_encoder.h"

enum { FLUX_MEASURED_SHAPES = 8 };

typedef struct flux_measured {
    flux_picture_shape shape;
    uint64_t used;  /* 0: free */
    unsigned parts; /* the set whose figures are known */
    flux_compute_needs needs;
    size_t transformer_weights, transformer_minimum;
} flux_measured;

struct flux_pipeline {
    flux_parts parts;
    /* The parts that are here; NULL while they are not. */
    clip_text *clip;
    t5_encoder *t5;
    flux_transformer *transformer;
    autoencoder_kl *vae;
    autoencoder_encoder *image_encoder;
    flux_steps steps;    /* the transformer's graphs */
    uint64_t denoisings; /* begun so far: numbers them */
    flux_measured measured[FLUX_MEASURED_SHAPES];
    uint64_t measurements;
};

/* Tokens that CLIP reads of a prompt. Its tokenizer and text encoder must be here. */
int flux_pipeline_clip_tokens(const flux_pipeline *p);
/* Runs the stage; one that finds too little memory gets what the parts keep for next time, and runs again. */
bool flux_pipeline_with_room(flux_pipeline *p, bool (*stage)(void *, error *), void *context, error *e);

#endif
