/* What a pipeline is made of, for the files that are the pipeline: flux_pipeline.c loads and encodes, flux_denoise.c denoises and decodes. */
#ifndef IMAGINED_MODELS_FLUX_PIPELINE_INTERNAL_H
#define IMAGINED_MODELS_FLUX_PIPELINE_INTERNAL_H

#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/flux_pipeline.h"
#include "models/flux_steps.h"
#include "models/flux_transformer.h"
#include "models/t5_encoder.h"

struct flux_pipeline {
    flux_parts parts;
    /* The parts that are here; NULL while they are not. */
    clip_text *clip;
    t5_encoder *t5;
    flux_transformer *transformer;
    autoencoder_kl *vae;
    flux_steps steps;    /* the transformer's graphs */
    uint64_t denoisings; /* begun so far: numbers them */
};

#endif
