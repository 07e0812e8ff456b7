#include "models/flux_steps.h"

#include <stdlib.h>

#include "base/checked.h"

static void slot_free(flux_step_slot *s) {
    flux_step_free(s->step);
    free(s->latents);
    free(s->velocity);
    free(s->members);
    *s = (flux_step_slot){0};
}

static bool slot_fill(flux_step_slot *s, flux_transformer *t, const flux_step_shape *shape, size_t values, error *e) {
    if (!flux_step_new(t, shape, &s->step, e)) return false;
    size_t batch = (size_t)shape->batch, bytes;
    if (!checked_mul(batch, values, &bytes) || !checked_mul(bytes, sizeof(float), &bytes))
        return error_set(e, ERROR_TOO_LARGE, "%zu pictures of that size are more than any memory holds", batch);
    s->latents = malloc(bytes);
    s->velocity = malloc(bytes);
    s->members = calloc(batch, sizeof *s->members);
    return (s->latents != NULL && s->velocity != NULL && s->members != NULL) || error_no_memory(e, "the pictures of a step", 2 * bytes);
}

bool flux_steps_take(flux_steps *s, flux_transformer *t, const flux_step_shape *shape, size_t values, flux_step_slot **out, error *e) {
    flux_step_slot *oldest = &s->slots[0]; /* a free one was never used */
    for (size_t i = 0; i < FLUX_STEPS_KEPT; i++) {
        flux_step_slot *slot = &s->slots[i];
        if (slot->step != NULL && flux_step_has_shape(slot->step, shape)) {
            slot->used = ++s->uses;
            *out = slot;
            return true;
        }
        if (slot->used < oldest->used) oldest = slot;
    }
    slot_free(oldest);
    if (!slot_fill(oldest, t, shape, values, e)) {
        slot_free(oldest);
        return false;
    }
    oldest->used = ++s->uses;
    *out = oldest;
    return true;
}

void flux_steps_release(flux_steps *s) {
    for (size_t i = 0; i < FLUX_STEPS_KEPT; i++) slot_free(&s->slots[i]);
}

size_t flux_steps_bytes(const flux_steps *s) {
    size_t bytes = 0;
    for (size_t i = 0; i < FLUX_STEPS_KEPT; i++) bytes += s->slots[i].step != NULL ? flux_step_bytes(s->slots[i].step) : 0;
    return bytes;
}
