/* Flow matching with Euler steps: diffusers' FlowMatchEulerDiscreteScheduler as FluxPipeline drives it.
 *
 * x_{i+1} = x_i + (σ_{i+1} − σ_i)·v(x_i, σ_i), σ from 1 down to 0. */
#ifndef IMAGINED_SAMPLING_FLOW_MATCH_EULER_H
#define IMAGINED_SAMPLING_FLOW_MATCH_EULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { FLOW_MATCH_MAX_STEPS = 1000 };

typedef struct flow_match {
    int64_t train_timesteps; /* num_train_timesteps, 1000 */
    double shift;
    bool dynamic_shifting; /* shift depends on the picture's size */
    bool linear_time_shift;  /* time_shift_type "linear" instead of "exponential" */
    double base_shift, max_shift;
    int64_t base_image_tokens, max_image_tokens; /* base_image_seq_len, max_image_seq_len */
    double shift_terminal;                       /* 0: none */
} flow_match;

/* Reads scheduler/scheduler_config.json. Options of the class that change results and are not built (karras, exponential and beta
 * sigmas, stochastic sampling, inverted sigmas) are ERROR_UNSUPPORTED, by name. */
bool flow_match_load(const char *path, flow_match *out, error *e);

/* σ of `steps` steps for a picture of `image_tokens` tokens: steps + 1 values, the last 0, with float32 rounding where the
 * reference rounds. timesteps (may be NULL) gets the `steps` values given to the transformer: float32(σ·train_timesteps). */
void flow_match_sigmas(const flow_match *f, int steps, int64_t image_tokens, float *sigmas, float *timesteps);

/* latent += (next − sigma)·velocity, element-wise in f32. */
void flow_match_step(float *latent, const float *velocity, int64_t count, float sigma, float next);

#endif
