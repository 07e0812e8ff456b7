/* ggml's CPU backend takes GELU and quick GELU from tables of f16, too coarse for f32 results: these are computed. */
#include <string.h>

#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/vectorize.h"

enum { CHUNK = 16384 };

bool activation_parse(const char *name, activation *out) {
    static const struct {
        const char *name;
        activation value;
    } names[] = {
        {"silu", ACTIVATION_SILU},           {"swish", ACTIVATION_SILU},
        {"relu", ACTIVATION_RELU},           {"gelu", ACTIVATION_GELU},
        {"gelu_new", ACTIVATION_GELU_TANH},  {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH},
        {"gelu_fast", ACTIVATION_GELU_TANH}, {"gelu-approximate", ACTIVATION_GELU_TANH},
        {"quick_gelu", ACTIVATION_GELU_QUICK},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].value;
            return true;
        }
    return false;
}

VECTORIZED static void silu(const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1.0f + exp_f32(-x[i]));
}

VECTORIZED static void relu(const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

/* ½x(1 + tanh u) = x·σ(2u), which loses no digits where tanh nears −1. */
VECTORIZED static void gelu_tanh(const float *x, float *y, int64_t n) {
    const float twice_sqrt_2_over_pi = 1.59576912160573071f;
    for (int64_t i = 0; i < n; i++) {
        float u = twice_sqrt_2_over_pi * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        y[i] = x[i] / (1.0f + exp_f32(-u));
    }
}

VECTORIZED static void gelu_quick(const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1.0f + exp_f32(-1.702f * x[i]));
}

/* erfc(a) e^(a²) for a ≥ 0 is a smooth function of t = 1/(1 + a/2): a polynomial fitted to it in the least-squares sense of the relative
 * error, which is below 3e-7 in f32. */
INLINE float erfc_scaled(float a) {
    float t = 1.0f / (1.0f + 0.5f * a);
    float p = 0.00276606804f;
    p = p * t - 0.0735346044f;
    p = p * t + 0.31715275f;
    p = p * t - 0.528546496f;
    p = p * t + 0.310557181f;
    p = p * t - 0.0429670767f;
    p = p * t + 0.207932129f;
    p = p * t + 0.242070328f;
    p = p * t + 0.282488515f;
    p = p * t + 0.282081168f;
    return p * t;
}

/* x·Φ(x), Φ(x) = ½ erfc(−x/√2). */
VECTORIZED static void gelu_erf(const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float a = (x[i] < 0.0f ? -x[i] : x[i]) * 0.707106781186547524f;
        float tail = 0.5f * erfc_scaled(a) * exp_f32(-a * a);
        y[i] = x[i] * (x[i] < 0.0f ? tail : 1.0f - tail);
    }
}

static const char *activation_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    int64_t begin = chunk * CHUNK, n = min_i64(CHUNK, ggml_nelements(dst) - begin);
    const float *x = (const float *)dst->src[0]->data + begin;
    float *y = (float *)dst->data + begin;
    switch (*(const activation *)parameters) {
    case ACTIVATION_SILU: silu(x, y, n); break;
    case ACTIVATION_RELU: relu(x, y, n); break;
    case ACTIVATION_GELU: gelu_erf(x, y, n); break;
    case ACTIVATION_GELU_TANH: gelu_tanh(x, y, n); break;
    case ACTIVATION_GELU_QUICK: gelu_quick(x, y, n); break;
    }
    return NULL;
}

struct ggml_tensor *compute_activation(graph *g, struct ggml_tensor *x, activation a) {
    if (device_is_cpu(graph_device(g)))
        return custom_add(g, &(custom_spec){
            .ne = {x->ne[0], x->ne[1], x->ne[2], x->ne[3]},
            .sources = {x},
            .kernel = activation_kernel,
            .chunks = chunk_count(ggml_nelements(x), CHUNK),
            .parameters = &a,
            .parameter_bytes = sizeof a,
        });
    switch (a) {
    case ACTIVATION_SILU: return ggml_silu(graph_context(g), x);
    case ACTIVATION_RELU: return ggml_relu(graph_context(g), x);
    case ACTIVATION_GELU: return ggml_gelu_erf(graph_context(g), x);
    case ACTIVATION_GELU_TANH: return ggml_gelu(graph_context(g), x);
    case ACTIVATION_GELU_QUICK: return ggml_gelu_quick(graph_context(g), x);
    }
    return x;
}
