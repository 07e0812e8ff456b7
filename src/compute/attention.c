/* Scaled dot-product attention. On the CPU: blocks of queries of one head, scores by sgemm into scratch, a softmax of rows, and sgemm with
 * the values. The scores of a block are sized to stay in the cache. Elsewhere: the device's fused attention where precision allows and it
 * has one, else composed of products and a softmax, whose scores are made for a slice of the queries at a time where the graph bounds
 * them. */
#include <math.h>
#include <oneapi/dnnl/dnnl.h>

#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/vectorize.h"

enum { SCORES_PER_BLOCK = 256 * 1024, MIN_QUERIES = 32, MAX_QUERIES = 256 };

typedef struct attention {
    float scale;
    int64_t queries; /* of a block */
    int64_t blocks;  /* of a head */
} attention;

VECTORIZED static float row_max(const float *x, int64_t n) {
    float best[LANES], result = -INFINITY;
    for (int j = 0; j < LANES; j++) best[j] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) best[j] = x[i + j] > best[j] ? x[i + j] : best[j];
    for (int j = 0; j < LANES; j++) result = best[j] > result ? best[j] : result;
    for (; i < n; i++) result = x[i] > result ? x[i] : result;
    return result;
}

/* x ← e^(x − top); returns the sum. */
VECTORIZED static float row_exp(float *x, int64_t n, float top) {
    for (int64_t i = 0; i < n; i++) x[i] = exp_f32(x[i] - top);
    return lanes_sum_of(x, n);
}

VECTORIZED static void row_scale(float *x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

VECTORIZED static void row_add(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

typedef struct place {
    int64_t item, head, first, count; /* which queries of which head */
} place;

static place place_of(const struct ggml_tensor *q, const attention *a, int64_t chunk) {
    place p = {.first = chunk % a->blocks * a->queries, .head = chunk / a->blocks % q->ne[1], .item = chunk / a->blocks / q->ne[1]};
    p.count = min_i64(a->queries, q->ne[2] - p.first);
    return p;
}

static const float *head_of(const struct ggml_tensor *t, const place *p, int64_t token) {
    return (const float *)((const char *)t->data + (size_t)p->head * t->nb[1] + (size_t)token * t->nb[2] + (size_t)p->item * t->nb[3]);
}

static int64_t stride(const struct ggml_tensor *t) { return (int64_t)(t->nb[2] / sizeof(float)); }

/* Rows of scores become e^(score − the row's largest); sums[row] gets 1/Σ. */
static void soften(float *scores, int64_t keys, const place *p, const struct ggml_tensor *bias, float *factors) {
    for (int64_t row = 0; row < p->count; row++) {
        float *s = scores + row * keys;
        if (bias != NULL) {
            size_t head = bias->ne[2] == 1 ? 0 : (size_t)p->head;
            row_add(s, (const float *)((const char *)bias->data + (size_t)(p->first + row) * bias->nb[1] + head * bias->nb[2]), keys);
        }
        float top = row_max(s, keys);
        factors[row] = 1.0f / row_exp(s, keys, top);
    }
}

static const char *attention_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    const attention *a = parameters;
    const struct ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *bias = dst->src[3];
    place p = place_of(q, a, chunk);
    int64_t keys = k->ne[2], width = v->ne[0];
    float *factors = scratch, *scores = factors + MAX_QUERIES;
    float *out = (float *)((char *)dst->data + (size_t)p.first * dst->nb[1] + (size_t)p.item * dst->nb[2]) + p.head * width;
    int64_t out_stride = (int64_t)(dst->nb[1] / sizeof(float));
    if (dnnl_sgemm('N', 'T', p.count, keys, q->ne[0], a->scale, head_of(q, &p, p.first), stride(q), head_of(k, &p, 0), stride(k), 0.0f,
                   scores, keys) != dnnl_success)
        return "oneDNN refused the scores of an attention";
    soften(scores, keys, &p, bias, factors);
    if (dnnl_sgemm('N', 'N', p.count, width, keys, 1.0f, scores, keys, head_of(v, &p, 0), stride(v), 0.0f, out, out_stride) != dnnl_success)
        return "oneDNN refused the values of an attention";
    for (int64_t row = 0; row < p.count; row++) row_scale(out + row * out_stride, width, factors[row]);
    return NULL;
}

static struct ggml_tensor *attention_cpu(graph *g, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v, float scale,
                                         struct ggml_tensor *bias) {
    int64_t keys = k->ne[2], queries = SCORES_PER_BLOCK / keys;
    attention a = {.scale = scale, .queries = max_i64(MIN_QUERIES, min_i64(MAX_QUERIES, queries))};
    a.queries = min_i64(a.queries, q->ne[2]);
    a.blocks = chunk_count(q->ne[2], a.queries);
    return custom_add(g, &(custom_spec){
        .ne = {v->ne[0] * q->ne[1], q->ne[2], q->ne[3], 1},
        .sources = {q, k, v, bias},
        .kernel = attention_kernel,
        .chunks = a.blocks * q->ne[1] * q->ne[3],
        .scratch_bytes = (size_t)(MAX_QUERIES + a.queries * keys) * sizeof(float),
        .parameters = &a,
        .parameter_bytes = sizeof a,
    });
}

/* The device's own fused attention, which never writes the scores to memory; NULL where it has none for these shapes. It rounds keys and
 * values to f16. */
static struct ggml_tensor *attention_fused(graph *g, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v, float scale) {
    struct ggml_context *c = graph_context(g);
    struct ggml_tensor *keys = ggml_cast(c, ggml_permute(c, k, 0, 2, 1, 3), GGML_TYPE_F16);
    struct ggml_tensor *values = ggml_cast(c, ggml_permute(c, v, 0, 2, 1, 3), GGML_TYPE_F16);
    struct ggml_tensor *mixed = ggml_flash_attn_ext(c, ggml_permute(c, q, 0, 2, 1, 3), keys, values, NULL, scale, 0.0f, 0.0f);
    ggml_prec_set_acc(mixed, GGML_PREC_F32);
    if (!device_supports(graph_device(g), mixed)) return NULL;
    return ggml_reshape_3d(c, mixed, v->ne[0] * q->ne[1], q->ne[2], q->ne[3]);
}

/* Scores, softmax and values for some of the queries, all in memory at once. k and v come with heads outside and what is multiplied inside.
 */
static struct ggml_tensor *attend_queries(struct ggml_context *c, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v,
                                          float scale, struct ggml_tensor *bias) {
    struct ggml_tensor *scores = ggml_mul_mat(c, k, ggml_cont(c, ggml_permute(c, q, 0, 2, 1, 3)));
    ggml_prec_set_acc(scores, GGML_PREC_F32);
    ggml_prec_set_src(scores, GGML_PREC_F32, 1);
    scores = ggml_soft_max_ext(c, scores, bias, scale, 0.0f);
    struct ggml_tensor *mixed = ggml_mul_mat(c, v, scores);
    ggml_prec_set_acc(mixed, GGML_PREC_F32);
    ggml_prec_set_src(mixed, GGML_PREC_F32, 1);
    return ggml_reshape_3d(c, ggml_cont(c, ggml_permute(c, mixed, 0, 2, 1, 3)), v->ne[1] * q->ne[1], q->ne[2], q->ne[3]);
}

static struct ggml_tensor *queries_of(struct ggml_context *c, struct ggml_tensor *q, int64_t first, int64_t count) {
    return ggml_view_4d(c, q, q->ne[0], q->ne[1], count, q->ne[3], q->nb[1], q->nb[2], q->nb[3], (size_t)first * q->nb[2]);
}

static struct ggml_tensor *bias_of(struct ggml_context *c, struct ggml_tensor *bias, int64_t first, int64_t count) {
    if (bias == NULL) return NULL;
    return ggml_cont(c, ggml_view_3d(c, bias, bias->ne[0], count, bias->ne[2], bias->nb[1], bias->nb[2], (size_t)first * bias->nb[1]));
}

typedef struct slices {
    struct ggml_tensor *q, *k, *v, *bias;
    float scale;
    int64_t count;
} slices;

/* Slices from `first` to before `last`, joined in halves: each result is copied a few times, not as often as there are slices. */
static struct ggml_tensor *attend_slices(struct ggml_context *c, const slices *s, int64_t first, int64_t last) {
    if (last - first > 1) {
        int64_t middle = first + (last - first) / 2;
        struct ggml_tensor *before = attend_slices(c, s, first, middle);
        return ggml_concat(c, before, attend_slices(c, s, middle, last), 1);
    }
    int64_t from = first * s->q->ne[2] / s->count, count = last * s->q->ne[2] / s->count - from;
    return attend_queries(c, queries_of(c, s->q, from, count), s->k, s->v, s->scale, bias_of(c, s->bias, from, count));
}

/* How many slices keep the scores of one within `bytes`. */
static int64_t slices_for(const struct ggml_tensor *q, const struct ggml_tensor *k, size_t bytes) {
    double scores = (double)k->ne[2] * (double)q->ne[2] * (double)q->ne[1] * (double)q->ne[3] * sizeof(float);
    if (bytes == 0 || scores <= (double)bytes) return 1;
    int64_t most = max_i64(1, min_i64(ATTENTION_MAX_SLICES, q->ne[2] / MIN_QUERIES)); /* fewer queries make other, slower products */
    return scores / (double)bytes >= (double)most ? most : min_i64(most, (int64_t)ceil(scores / (double)bytes));
}

static struct ggml_tensor *attention_composed(graph *g, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v, float scale,
                                              struct ggml_tensor *bias) {
    struct ggml_context *c = graph_context(g);
    slices s = {.q = q, .bias = bias, .scale = scale, .count = slices_for(q, k, graph_attention_slice(g))};
    s.k = ggml_cont(c, ggml_permute(c, k, 0, 2, 1, 3));
    s.v = ggml_cont(c, ggml_permute(c, v, 1, 2, 0, 3));
    return s.count == 1 ? attend_queries(c, q, s.k, s.v, scale, bias) : attend_slices(c, &s, 0, s.count);
}

struct ggml_tensor *compute_attention(graph *g, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v, float scale,
                                      struct ggml_tensor *bias) {
    if (device_is_cpu(graph_device(g))) return attention_cpu(g, q, k, v, scale, bias);
    struct ggml_tensor *result = NULL;
    if (bias == NULL && graph_half_allowed(g)) result = attention_fused(g, q, k, v, scale);
    return result != NULL ? result : attention_composed(g, q, k, v, scale, bias);
}

bool compute_attention_is_fused(device *d, int head_width) {
    enum { TOKENS = 256, HEADS = 2 };
    graph *g;
    if (device_is_cpu(d)) return true;
    if (!graph_new(d, 16, &g, NULL)) return false;
    struct ggml_tensor *q = graph_input(g, GGML_TYPE_F32, head_width, HEADS, TOKENS, 1);
    bool fused = attention_fused(g, q, q, q, 1.0f) != NULL;
    graph_free(g);
    return fused;
}
