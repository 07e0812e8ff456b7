/* The settings of a picture as the text that image tools read from a PNG's `parameters` entry (the A1111 form):
 *
 *     a fox on a blue background
 *     Negative prompt: blurry
 *     Steps: 8, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: 512x512, Model: demo */
#ifndef IMAGINED_IMAGE_PARAMETERS_H
#define IMAGINED_IMAGE_PARAMETERS_H

#include <stdint.h>

#include "base/buffer.h"

typedef struct image_parameters {
    const char *prompt;
    const char *negative_prompt; /* NULL or "": no such line */
    const char *sampler;         /* "Euler" */
    const char *model;           /* its name; quoted where it holds a comma, colon, quote or line break */
    int steps, width, height;
    double guidance_scale; /* "CFG scale"; for distilled models the guidance fed to the model */
    double true_cfg_scale; /* ≤ 1: not written */
    double strength;       /* of a picture made from another, "Denoising strength"; 0: not written */
    uint64_t seed;
} image_parameters;

/* Appends the text. A failed allocation marks the buffer. */
void image_parameters_write(const image_parameters *p, buffer *out);

#endif
