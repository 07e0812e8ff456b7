#include "models/tile_axis.h"

#include <stdint.h>

tile_axis tile_axis_of(int length, int tile) {
    if (tile == 0 || tile >= length) return (tile_axis){length, length, 1};
    int stride = tile - (tile + 3) / 4; /* at the most */
    return (tile_axis){length, tile, 1 + (length - tile + stride - 1) / stride};
}

int tile_axis_first(const tile_axis *a, int i) {
    return a->count == 1 ? 0 : (int)((int64_t)i * (a->length - a->size) / (a->count - 1));
}

/* Of tile i + 1 against tile i; `pixel` counts from the whole's edge. */
static float share_of_next(const tile_axis *a, int i, int factor, int pixel) {
    int here = tile_axis_first(a, i), next = tile_axis_first(a, i + 1), stride = next - here, overlap = a->size - stride;
    int width = (overlap < stride ? overlap : stride) * factor;
    double middle = (double)(here + next + a->size) * factor / 2, share = ((double)pixel + 0.5 - middle) / width + 0.5;
    return share < 0 ? 0.0f : share > 1 ? 1.0f : (float)share;
}

void tile_axis_weigh(const tile_axis *a, int i, int factor, float *weights) {
    for (int k = 0; k < a->size * factor; k++) {
        int pixel = tile_axis_first(a, i) * factor + k;
        weights[k] = i > 0 ? share_of_next(a, i - 1, factor, pixel) : 1.0f;
        if (i + 1 < a->count) weights[k] *= 1.0f - share_of_next(a, i, factor, pixel);
    }
}
