/* Matrix products with weights. On the CPU: blocks of the result, each one call of oneDNN's sgemm over f32 weights, which are widened a
 * panel at a time when they are stored in another type; for few tokens, where reading the weights is all the work, dot products. */
#include <oneapi/dnnl/dnnl.h>

#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/vectorize.h"
#include "compute/widen.h"

enum { PANEL_ROWS = 192, TOKEN_BLOCK = 512, FEW_TOKENS = 6, DOT_FLOATS = 12 * 1024, MAX_DOT_ROWS = 64 };

typedef struct linear {
    int64_t in, out, tokens;
    int64_t token_blocks;
    int64_t dot_rows; /* of a chunk for few tokens, whose weights fit the first-level cache as f32; 0 for many */
} linear;

/* Σ a·b over `count` numbers. */
INLINE float dot(const float *a, const float *b, int64_t count) {
    lanes sum[2] = {{0}, {0}};
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        sum[0] += *(const lanes *)(a + i) * *(const lanes *)(b + i);
        sum[1] += *(const lanes *)(a + i + LANES) * *(const lanes *)(b + i + LANES);
    }
    sum[0] += sum[1];
    float total = lanes_sum(&sum[0]);
    for (; i < count; i++) total += a[i] * b[i];
    return total;
}

typedef uint16_t lanes_u16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t lanes_u32 __attribute__((vector_size(64), aligned(4), may_alias));

/* The same with the second factor in bf16, widened on its way. */
INLINE float dot_bf16(const float *a, const uint16_t *b, int64_t count) {
    lanes sum[2] = {{0}, {0}};
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        lanes_u32 first = __builtin_convertvector(*(const lanes_u16 *)(b + i), lanes_u32) << 16;
        lanes_u32 second = __builtin_convertvector(*(const lanes_u16 *)(b + i + LANES), lanes_u32) << 16;
        sum[0] += *(const lanes *)(a + i) * (lanes)first;
        sum[1] += *(const lanes *)(a + i + LANES) * (lanes)second;
    }
    sum[0] += sum[1];
    float total = lanes_sum(&sum[0]);
    for (; i < count; i++) total += a[i] * bits_to_f32((uint32_t)b[i] << 16);
    return total;
}

VECTORIZED static void dot_rows(const float *w, const float *x, const float *bias, float *y, const linear *l, int64_t rows) {
    for (int64_t t = 0; t < l->tokens; t++)
        for (int64_t r = 0; r < rows; r++) y[t * l->out + r] = dot(x + t * l->in, w + r * l->in, l->in) + (bias != NULL ? bias[r] : 0.0f);
}

VECTORIZED static void dot_rows_bf16(const uint16_t *w, const float *x, const float *bias, float *y, const linear *l, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t t = 0; t < l->tokens; t++)
            y[t * l->out + r] = dot_bf16(x + t * l->in, w + r * l->in, l->in) + (bias != NULL ? bias[r] : 0.0f);
}

/* Part of a bias (of any float type) as f32; NULL where there is none. */
static const float *bias_part(const struct ggml_tensor *bias, int64_t first, int64_t count, float *wide) {
    if (bias == NULL) return NULL;
    if (bias->type == GGML_TYPE_F32) return (const float *)bias->data + first;
    widen(bias->type, (const char *)bias->data + (size_t)first * ggml_type_size(bias->type), wide, count);
    return wide;
}

static void few_tokens(struct ggml_tensor *dst, const linear *l, int64_t chunk, float *scratch) {
    const struct ggml_tensor *w = dst->src[1];
    const float *x = dst->src[0]->data;
    int64_t first = chunk * l->dot_rows, rows = min_i64(l->dot_rows, l->out - first);
    float *y = (float *)dst->data + first, wide[MAX_DOT_ROWS];
    const float *bias = bias_part(dst->src[2], first, rows, wide);
    if (w->type == GGML_TYPE_BF16 && l->tokens <= 2) dot_rows_bf16((const uint16_t *)w->data + first * l->in, x, bias, y, l, rows);
    else dot_rows(widen_rows(w, first, rows, scratch), x, bias, y, l, rows);
}

static const char *linear_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    const linear *l = parameters;
    if (l->dot_rows > 0) {
        few_tokens(dst, l, chunk, scratch);
        return NULL;
    }
    int64_t panel = chunk / l->token_blocks * PANEL_ROWS, token = chunk % l->token_blocks * TOKEN_BLOCK;
    int64_t rows = min_i64(PANEL_ROWS, l->out - panel), tokens = min_i64(TOKEN_BLOCK, l->tokens - token);
    const float *w = widen_rows(dst->src[1], panel, rows, scratch), *x = (const float *)dst->src[0]->data + token * l->in;
    float *y = (float *)dst->data + token * l->out + panel, wide[PANEL_ROWS];
    const float *bias = bias_part(dst->src[2], panel, rows, wide);
    for (int64_t t = 0; bias != NULL && t < tokens; t++) memcpy(y + t * l->out, bias, (size_t)rows * sizeof *y);
    dnnl_status_t status = dnnl_sgemm('N', 'T', tokens, rows, l->in, 1.0f, x, l->in, w, l->in, bias != NULL ? 1.0f : 0.0f, y, l->out);
    return status == dnnl_success ? NULL : "oneDNN refused a matrix product";
}

static struct ggml_tensor *linear_cpu(graph *g, struct ggml_tensor *x, struct ggml_tensor *w, struct ggml_tensor *b) {
    linear l = {.in = w->ne[0], .out = w->ne[1], .tokens = ggml_nelements(x) / w->ne[0]};
    bool few = l.tokens <= FEW_TOKENS;
    if (few) l.dot_rows = max_i64(1, min_i64(MAX_DOT_ROWS, DOT_FLOATS / l.in));
    l.token_blocks = few ? 1 : chunk_count(l.tokens, TOKEN_BLOCK);
    int64_t rows = few ? l.dot_rows : PANEL_ROWS;
    return custom_add(g, &(custom_spec){
        .ne = {l.out, x->ne[1], x->ne[2], x->ne[3]},
        .sources = {x, w, b},
        .kernel = linear_kernel,
        .chunks = chunk_count(l.out, rows) * l.token_blocks,
        .scratch_bytes = w->type == GGML_TYPE_F32 ? 0 : (size_t)(rows * l.in) * sizeof(float),
        .parameters = &l,
        .parameter_bytes = sizeof l,
    });
}

struct ggml_tensor *compute_linear(graph *g, struct ggml_tensor *x, struct ggml_tensor *w, struct ggml_tensor *b) {
    if (device_is_cpu(graph_device(g))) return linear_cpu(g, x, w, b);
    struct ggml_tensor *y = ggml_mul_mat(graph_context(g), w, x);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    ggml_prec_set_src(y, GGML_PREC_F32, 1);
    return b != NULL ? ggml_add(graph_context(g), y, b) : y;
}
