/* Rotary position embedding. */
#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/vectorize.h"

typedef struct rope {
    int64_t tokens_per_chunk;
} rope;

VECTORIZED static void rotate(const float *x, float *y, const float *rotation, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++) {
        float cosine = rotation[2 * i], sine = rotation[2 * i + 1], a = x[2 * i], b = x[2 * i + 1];
        y[2 * i] = a * cosine - b * sine;
        y[2 * i + 1] = b * cosine + a * sine;
    }
}

static const char *rope_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const rope *p = parameters;
    const struct ggml_tensor *x = dst->src[0];
    int64_t d = dst->ne[0], heads = dst->ne[1], tokens = dst->ne[2], last = min_i64((chunk + 1) * p->tokens_per_chunk, tokens * dst->ne[3]);
    for (int64_t row = chunk * p->tokens_per_chunk; row < last; row++) {
        size_t token = (size_t)(row % tokens), item = (size_t)(row / tokens);
        const float *rotation = (const float *)dst->src[1]->data + (int64_t)token * d;
        for (int64_t h = 0; h < heads; h++)
            rotate((const float *)((const char *)x->data + (size_t)h * x->nb[1] + token * x->nb[2] + item * x->nb[3]),
                   (float *)dst->data + (row * heads + h) * d, rotation, d / 2);
    }
    return NULL;
}

/* Even and odd members of the pairs apart: [d, heads, tokens, batch] → two of [d/2, …] within one tensor of the double size. */
static struct ggml_tensor *unzip(struct ggml_context *c, struct ggml_tensor *x) {
    struct ggml_tensor *pairs = ggml_reshape_4d(c, ggml_cont(c, x), 2, x->ne[0] / 2, x->ne[1], x->ne[2] * x->ne[3]);
    return ggml_cont(c, ggml_permute(c, pairs, 3, 0, 1, 2));
}

static struct ggml_tensor *half(struct ggml_context *c, struct ggml_tensor *unzipped, const int64_t ne[4], int which) {
    size_t row = (size_t)ne[0] * sizeof(float), plane = row * (size_t)ne[1], item = plane * (size_t)ne[2];
    return ggml_view_4d(c, unzipped, ne[0], ne[1], ne[2], ne[3], row, plane, item, (size_t)which * item * (size_t)ne[3]);
}

static struct ggml_tensor *rope_composed(struct ggml_context *c, struct ggml_tensor *x, struct ggml_tensor *rotation) {
    struct ggml_tensor *halves = unzip(c, x), *angles = unzip(c, ggml_reshape_3d(c, rotation, x->ne[0], 1, x->ne[2]));
    const int64_t ne[4] = {x->ne[0] / 2, x->ne[1], x->ne[2], x->ne[3]}, angle_ne[4] = {x->ne[0] / 2, 1, x->ne[2], 1};
    struct ggml_tensor *a = half(c, halves, ne, 0), *b = half(c, halves, ne, 1);
    struct ggml_tensor *cosine = half(c, angles, angle_ne, 0), *sine = half(c, angles, angle_ne, 1);
    struct ggml_tensor *first = ggml_sub(c, ggml_mul(c, a, cosine), ggml_mul(c, b, sine));
    struct ggml_tensor *second = ggml_add(c, ggml_mul(c, b, cosine), ggml_mul(c, a, sine));
    return ggml_concat(c, first, second, 0);
}

struct ggml_tensor *compute_rope(graph *g, struct ggml_tensor *x, struct ggml_tensor *rotation) {
    if (!device_is_cpu(graph_device(g))) return rope_composed(graph_context(g), x, rotation);
    rope p = {.tokens_per_chunk = rows_per_chunk(x->ne[0] * x->ne[1])};
    return custom_add(g, &(custom_spec){
        .ne = {x->ne[0], x->ne[1], x->ne[2], x->ne[3]},
        .sources = {x, rotation},
        .kernel = rope_kernel,
        .chunks = chunk_count(x->ne[2] * x->ne[3], p.tokens_per_chunk),
        .parameters = &p,
        .parameter_bytes = sizeof p,
    });
}
