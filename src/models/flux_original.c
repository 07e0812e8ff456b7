#include "models/flux_original.h"

#include <stdlib.h>
#include <string.h>

#include "models/flux_latents.h"

enum { CELLS = 4 }; /* of a token */

int flux_original_first_step(int steps, double strength) {
    double wanted = steps * strength < steps ? steps * strength : steps, first = steps - wanted;
    return first > 0 ? (int)first : 0;
}

bool flux_original_take(flux_original *o, const float *image, const float *mask, const float *noise, int channels, int rows, int columns,
                        error *e) {
    size_t cells = (size_t)rows * (size_t)columns * CELLS; /* the caller checked that all channels of them fit */
    *o = (flux_original){.values = cells * (size_t)channels, .channels = channels};
    o->image = malloc(o->values * sizeof *o->image);
    o->noise = malloc(o->values * sizeof *o->noise);
    if (mask != NULL) o->mask = malloc(cells * sizeof *o->mask);
    if (o->image == NULL || o->noise == NULL || (mask != NULL && o->mask == NULL))
        return error_no_memory(e, "the picture to begin from", o->values * sizeof *o->image);
    flux_latents_pack(image, channels, rows, columns, o->image);
    if (mask != NULL) flux_latents_pack(mask, 1, rows, columns, o->mask);
    memcpy(o->noise, noise, o->values * sizeof *noise);
    return true;
}

void flux_original_free(flux_original *o) {
    free(o->image);
    free(o->noise);
    free(o->mask);
    *o = (flux_original){0};
}

size_t flux_original_bytes(const flux_original *o) {
    size_t cells = o->mask != NULL ? o->values / (size_t)o->channels : 0;
    return (2 * o->values + cells) * sizeof(float);
}

static float at_level(const flux_original *o, float sigma, size_t i) { return sigma * o->noise[i] + (1.0f - sigma) * o->image[i]; }

void flux_original_begin(const flux_original *o, float sigma, float *latent) {
    for (size_t i = 0; i < o->values; i++) latent[i] = at_level(o, sigma, i);
}

void flux_original_restore(const flux_original *o, float sigma, float *latent) {
    if (o->mask == NULL) return;
    size_t of_token = (size_t)o->channels * CELLS;
    for (size_t i = 0; i < o->values; i++) {
        float m = o->mask[i / of_token * CELLS + i % CELLS]; /* a channel's cells lie beside each other */
        latent[i] = (1.0f - m) * at_level(o, sigma, i) + m * latent[i];
    }
}
