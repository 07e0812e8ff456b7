/* Normalisations, and AdaLN's modulation and gate, each in one pass over memory. */
#include <math.h>

#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/vectorize.h"

typedef struct norm {
    float eps;
    bool has_weight, has_bias;
    int64_t rows_per_chunk;
    int groups;
} norm;

/* Σ (x − centre)² */
INLINE float squares_of(const float *x, int64_t n, float centre) {
    lanes sum = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes d = *(const lanes *)(x + i) - centre;
        sum += d * d;
    }
    float total = lanes_sum(&sum);
    for (; i < n; i++) total += (x[i] - centre) * (x[i] - centre);
    return total;
}

INLINE void scale_row(const float *x, float *y, int64_t n, float mean, float factor, const float *weight, const float *bias) {
    if (weight != NULL && bias != NULL)
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * factor * weight[i] + bias[i];
    else if (weight != NULL)
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * factor * weight[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * factor;
}

VECTORIZED static void layer_norm_row(const float *x, float *y, int64_t n, float eps, const float *weight, const float *bias) {
    float mean = lanes_sum_of(x, n) / (float)n;
    scale_row(x, y, n, mean, 1.0f / sqrtf(squares_of(x, n, mean) / (float)n + eps), weight, bias);
    if (weight == NULL && bias != NULL)
        for (int64_t i = 0; i < n; i++) y[i] += bias[i];
}

VECTORIZED static void rms_norm_row(const float *x, float *y, int64_t n, float eps, const float *weight) {
    scale_row(x, y, n, 0.0f, 1.0f / sqrtf(squares_of(x, n, 0.0f) / (float)n + eps), weight, NULL);
}

VECTORIZED static void modulate_row(const float *x, float *y, int64_t n, const float *scale, const float *shift) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * (1.0f + scale[i]) + shift[i];
}

VECTORIZED static void gated_add_row(const float *x, const float *y, float *out, int64_t n, const float *gate) {
    for (int64_t i = 0; i < n; i++) out[i] = x[i] + y[i] * gate[i];
}

/* A group's mean and 1/deviation. A group can hold millions of numbers: sums of rows in f32, of the rows' sums in f64. */
VECTORIZED static void group_moments(const float *x, int64_t n, float eps, float *mean, float *factor) {
    enum { RUN = 4096 };
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i += RUN) sum += (double)lanes_sum_of(x + i, n - i < RUN ? n - i : RUN);
    *mean = (float)(sum / (double)n);
    for (int64_t i = 0; i < n; i += RUN) squares += (double)squares_of(x + i, n - i < RUN ? n - i : RUN, *mean);
    *factor = (float)(1.0 / sqrt(squares / (double)n + (double)eps));
}

VECTORIZED static void affine(const float *x, float *y, int64_t n, float mean, float factor, float weight, float bias) {
    float scale = factor * weight;
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * scale + bias;
}

static const float *source(const struct ggml_tensor *dst, int index, bool there) { return there ? dst->src[index]->data : NULL; }

static const char *layer_norm_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const norm *p = parameters;
    int64_t n = dst->ne[0], last = min_i64((chunk + 1) * p->rows_per_chunk, ggml_nrows(dst));
    const float *x = dst->src[0]->data, *weight = source(dst, 1, p->has_weight), *bias = source(dst, 1 + p->has_weight, p->has_bias);
    for (int64_t row = chunk * p->rows_per_chunk; row < last; row++)
        layer_norm_row(x + row * n, (float *)dst->data + row * n, n, p->eps, weight, bias);
    return NULL;
}

static const char *rms_norm_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const norm *p = parameters;
    int64_t n = dst->ne[0], last = min_i64((chunk + 1) * p->rows_per_chunk, ggml_nrows(dst));
    const float *x = dst->src[0]->data, *weight = source(dst, 1, p->has_weight);
    for (int64_t row = chunk * p->rows_per_chunk; row < last; row++)
        rms_norm_row(x + row * n, (float *)dst->data + row * n, n, p->eps, weight);
    return NULL;
}

/* The row of t [C, 1, B], which may be a part of a larger vector, for row `row` of dst [C, T, B]. */
static const float *item_row(const struct ggml_tensor *t, const struct ggml_tensor *dst, int64_t row) {
    return (const float *)((const char *)t->data + (size_t)(row / dst->ne[1]) * t->nb[2]);
}

static const char *modulate_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const norm *p = parameters;
    int64_t n = dst->ne[0], last = min_i64((chunk + 1) * p->rows_per_chunk, ggml_nrows(dst));
    const float *x = dst->src[0]->data;
    for (int64_t row = chunk * p->rows_per_chunk; row < last; row++)
        modulate_row(x + row * n, (float *)dst->data + row * n, n, item_row(dst->src[1], dst, row), item_row(dst->src[2], dst, row));
    return NULL;
}

static const char *gated_add_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const norm *p = parameters;
    int64_t n = dst->ne[0], last = min_i64((chunk + 1) * p->rows_per_chunk, ggml_nrows(dst));
    const float *x = dst->src[0]->data, *y = dst->src[1]->data;
    for (int64_t row = chunk * p->rows_per_chunk; row < last; row++)
        gated_add_row(x + row * n, y + row * n, (float *)dst->data + row * n, n, item_row(dst->src[2], dst, row));
    return NULL;
}

static const char *group_norm_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const norm *p = parameters;
    int64_t plane = dst->ne[0] * dst->ne[1], channels = dst->ne[2] / p->groups, first = chunk % p->groups * channels;
    const float *weight = source(dst, 1, p->has_weight), *bias = source(dst, 1 + p->has_weight, p->has_bias);
    const float *x = (const float *)dst->src[0]->data + chunk * channels * plane;
    float *y = (float *)dst->data + chunk * channels * plane, mean, factor;
    group_moments(x, channels * plane, p->eps, &mean, &factor);
    for (int64_t c = 0; c < channels; c++)
        affine(x + c * plane, y + c * plane, plane, mean, factor, weight != NULL ? weight[first + c] : 1.0f,
               bias != NULL ? bias[first + c] : 0.0f);
    return NULL;
}

static struct ggml_tensor *add_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, struct ggml_tensor *bias, norm p,
                                    custom_kernel kernel) {
    p.rows_per_chunk = rows_per_chunk(x->ne[0]);
    p.has_weight = weight != NULL;
    p.has_bias = bias != NULL;
    return custom_add(g, &(custom_spec){
        .ne = {x->ne[0], x->ne[1], x->ne[2], x->ne[3]},
        .sources = {x, weight != NULL ? weight : bias, weight != NULL ? bias : NULL},
        .kernel = kernel,
        .chunks = p.groups > 0 ? p.groups * x->ne[3] : chunk_count(ggml_nrows(x), p.rows_per_chunk),
        .parameters = &p,
        .parameter_bytes = sizeof p,
    });
}

static struct ggml_tensor *affine_of(graph *g, struct ggml_tensor *y, struct ggml_tensor *weight, struct ggml_tensor *bias) {
    if (weight != NULL) y = ggml_mul(graph_context(g), y, weight);
    return bias != NULL ? ggml_add(graph_context(g), y, bias) : y;
}

struct ggml_tensor *compute_layer_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, struct ggml_tensor *bias, float eps) {
    if (device_is_cpu(graph_device(g))) return add_norm(g, x, weight, bias, (norm){.eps = eps}, layer_norm_kernel);
    return affine_of(g, ggml_norm(graph_context(g), x, eps), weight, bias);
}

struct ggml_tensor *compute_rms_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, float eps) {
    if (device_is_cpu(graph_device(g))) return add_norm(g, x, weight, NULL, (norm){.eps = eps}, rms_norm_kernel);
    return affine_of(g, ggml_rms_norm(graph_context(g), x, eps), weight, NULL);
}

struct ggml_tensor *compute_group_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, struct ggml_tensor *bias, int groups,
                                       float eps) {
    struct ggml_context *c = graph_context(g);
    if (device_is_cpu(graph_device(g))) return add_norm(g, x, weight, bias, (norm){.eps = eps, .groups = groups}, group_norm_kernel);
    if (weight != NULL) weight = ggml_reshape_3d(c, weight, 1, 1, x->ne[2]);
    if (bias != NULL) bias = ggml_reshape_3d(c, bias, 1, 1, x->ne[2]);
    return affine_of(g, ggml_group_norm(c, x, groups, eps), weight, bias);
}

struct ggml_tensor *compute_modulate(graph *g, struct ggml_tensor *x, struct ggml_tensor *scale, struct ggml_tensor *shift) {
    if (device_is_cpu(graph_device(g))) return add_norm(g, x, scale, shift, (norm){0}, modulate_kernel);
    struct ggml_context *c = graph_context(g);
    return ggml_add(c, ggml_add(c, x, ggml_mul(c, x, scale)), shift);
}

struct ggml_tensor *compute_gated_add(graph *g, struct ggml_tensor *x, struct ggml_tensor *y, struct ggml_tensor *gate) {
    if (device_is_cpu(graph_device(g))) return add_norm(g, x, y, gate, (norm){0}, gated_add_kernel);
    struct ggml_context *c = graph_context(g);
    return ggml_add(c, x, ggml_mul(c, y, gate));
}
