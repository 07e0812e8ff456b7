/* What the engine spends on one preview of a latent of 16 channels, by its size: the least of many. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "models/latent_rgb.h"

int main(void) {
    static const int sides[] = {16, 128, 2048};
    const latent_rgb flux = latent_rgb_known(16);
    for (size_t n = 0; n < sizeof sides / sizeof *sides; n++) {
        int tokens = sides[n] / 2, rounds = sides[n] > 1000 ? 20 : 1000;
        size_t values = (size_t)sides[n] * (size_t)sides[n] * 16;
        float *latent = calloc(values, sizeof *latent), *velocity = calloc(values, sizeof *velocity);
        uint8_t *rgb = malloc((size_t)sides[n] * (size_t)sides[n] * 3);
        double best = 1e9;
        if (latent == NULL || velocity == NULL || rgb == NULL) return 1;
        for (int i = 0; i < rounds; i++) {
            double start = clock_seconds();
            latent_rgb_paint(&flux, latent, velocity, 0.5f, tokens, tokens, rgb);
            if (clock_seconds() - start < best) best = clock_seconds() - start;
        }
        printf("%d × %d × 16: %.1f µs\n", sides[n], sides[n], best * 1e6);
        free(latent);
        free(velocity);
        free(rgb);
    }
    return 0;
}
