#include "compute/product_probe.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "compute/graph.h"
#include "compute/ops.h"

enum { SMALLEST = 256, LARGEST = 4096, REPEATS = 3, CHECKED_TOKENS = 16 };

static const double long_enough = 2e-3; /* seconds: far over what it takes to start a product */

static float number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) * 0x1p-23f - 1.0f;
}

typedef struct product {
    graph *g;
    struct ggml_tensor *x, *w, *y;
    float *values; /* of x, of w as the type holds them, of y: size² each */
} product;

static void free_product(product *p) {
    graph_free(p->g);
    free(p->values);
}

/* Fills the inputs and keeps what they really hold. */
static bool fill(product *p, int64_t n) {
    size_t count = (size_t)n * (size_t)n;
    uint32_t state = 1;
    p->values = malloc(3 * count * sizeof *p->values);
    void *stored = malloc(ggml_nbytes(p->w));
    if (p->values != NULL && stored != NULL) {
        float *w = p->values + count;
        for (size_t i = 0; i < 2 * count; i++) p->values[i] = number(&state);
        graph_set(p->x, p->values);
        if (p->w->type == GGML_TYPE_F32) {
            graph_set(p->w, w);
        } else {
            ggml_quantize_chunk(p->w->type, w, stored, 0, n, n, NULL);
            graph_set(p->w, stored);
            ggml_get_type_traits(p->w->type)->to_float(stored, w, (int64_t)count);
        }
    }
    free(stored);
    return p->values != NULL;
}

static bool make(device *d, enum ggml_type type, int64_t n, product *p) {
    *p = (product){0};
    if (!graph_new(d, 16, &p->g, NULL)) return false;
    if (type != GGML_TYPE_F32) graph_allow_half(p->g);
    p->x = graph_input(p->g, GGML_TYPE_F32, n, n, 1, 1);
    p->w = graph_input(p->g, type, n, n, 1, 1);
    p->y = graph_output(p->g, compute_linear(p->g, p->x, p->w, NULL));
    return (device_is_cpu(d) || device_supports(d, p->y)) && graph_reserve(p->g, NULL) && fill(p, n);
}

static double largest_error(product *p, int64_t n) {
    size_t count = (size_t)n * (size_t)n;
    const float *x = p->values, *w = p->values + count, *y = p->values + 2 * count;
    double worst = 0, largest = 0;
    graph_get(p->y, p->values + 2 * count);
    for (int64_t t = 0; t < n; t += n / CHECKED_TOKENS)
        for (int64_t r = 0; r < n; r++) {
            double sum = 0;
            for (int64_t i = 0; i < n; i++) sum += (double)x[t * n + i] * (double)w[r * n + i];
            double off = fabs((double)y[t * n + r] - sum);
            if (isnan(off)) return INFINITY;
            if (off > worst) worst = off;
            if (fabs(sum) > largest) largest = fabs(sum);
        }
    return worst / largest;
}

static product_probe measure(device *d, enum ggml_type type, int64_t n, bool check) {
    product_probe result = {.size = n, .seconds = INFINITY};
    product p;
    bool runs = make(d, type, n, &p) && graph_run(p.g, NULL); /* once to make it ready */
    for (int i = 0; runs && i < REPEATS; i++) {
        double start = clock_seconds();
        runs = graph_run(p.g, NULL);
        result.seconds = fmin(result.seconds, clock_seconds() - start);
    }
    if (runs && check) result.distance = largest_error(&p, n);
    result.runs = runs;
    free_product(&p);
    return result;
}

product_probe product_probe_measure(device *d, enum ggml_type type, int64_t size) {
    product_probe best = measure(d, type, size > 0 ? size : SMALLEST, true);
    for (int64_t n = SMALLEST; size == 0 && best.runs && best.seconds < long_enough && n < LARGEST;) {
        product_probe larger = measure(d, type, n *= 2, false);
        if (!larger.runs) break;
        larger.distance = best.distance;
        best = larger;
    }
    return best;
}
