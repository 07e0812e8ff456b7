/* The transformer's graphs of the last few shapes. The images that share a step change from step to step, and with them the batch: a graph
 * that was built for it before is taken again, its conditionings too where they are still those of the same images.
 *
 * Least recently used goes first. One thread. */
#ifndef IMAGINED_MODELS_FLUX_STEPS_H
#define IMAGINED_MODELS_FLUX_STEPS_H

#include <stdint.h>

#include "models/flux_transformer.h"

enum { FLUX_STEPS_KEPT = 3 };

typedef struct flux_step_slot {
    flux_step *step;   /* NULL: the slot is free */
    float *latents;    /* [batch][values]: the way in … */
    float *velocity;   /* … and out, for the caller's use */
    uint64_t *members; /* [batch]: whose conditioning each item holds; 0: nobody's. The caller keeps it true */
    uint64_t used;
} flux_step_slot;

typedef struct flux_steps {
    flux_step_slot slots[FLUX_STEPS_KEPT];
    uint64_t uses;
} flux_steps; /* zeroed: empty */

/* The graph for a shape, with room for `values` numbers an item each way; borrowed until the next call. Errors as flux_step_new's. */
bool flux_steps_take(flux_steps *s, flux_transformer *t, const flux_step_shape *shape, size_t values, flux_step_slot **out, error *e);
void flux_steps_release(flux_steps *s); /* gives all of them back */
size_t flux_steps_bytes(const flux_steps *s); /* compute memory they hold */

#endif
