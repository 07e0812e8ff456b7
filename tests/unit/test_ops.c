/* The CPU's operations against plain loops in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compute/device.h"
#include "compute/graph.h"
#include "compute/ops.h"

enum { MAX_INPUTS = 6 };

/* A graph with random inputs, run once. */
typedef struct bench {
    graph *g;
    int count;
    struct ggml_tensor *inputs[MAX_INPUTS];
    float *values[MAX_INPUTS]; /* what the inputs hold, as f32 */
    float *result;
    uint32_t seed;
} bench;

static device *dev;

static int open_device(void **state) {
    (void)state;
    error e = {0};
    if (!device_open("cpu", 3, &dev, &e)) fail_msg("%s", e.text);
    return 0;
}

static int close_device(void **state) {
    (void)state;
    device_free(dev);
    return 0;
}

static bench start(void) {
    bench b = {.seed = 1};
    assert_true(graph_new(dev, 64, &b.g, NULL));
    return b;
}

static void finish(bench *b) {
    graph_free(b->g);
    for (int i = 0; i < b->count; i++) free(b->values[i]);
    free(b->result);
}

static float uniform(bench *b) {
    b->seed = b->seed * 1664525u + 1013904223u;
    return (float)(b->seed >> 8) * 0x1p-23f - 1.0f;
}

static struct ggml_tensor *input(bench *b, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3) {
    b->inputs[b->count] = graph_input(b->g, type, ne0, ne1, ne2, ne3);
    int64_t n = ne0 * ne1 * ne2 * ne3;
    float *v = b->values[b->count] = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = uniform(b);
    b->count++;
    return b->inputs[b->count - 1];
}

/* Sets the inputs (and rounds the values kept here to their type), runs, fetches. */
static void run(bench *b, struct ggml_tensor *y) {
    error e = {0};
    graph_output(b->g, y);
    if (!graph_reserve(b->g, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < b->count; i++) {
        struct ggml_tensor *t = b->inputs[i];
        int64_t n = ggml_nelements(t);
        void *data = malloc(ggml_nbytes(t));
        if (t->type == GGML_TYPE_F32) {
            memcpy(data, b->values[i], ggml_nbytes(t));
        } else {
            ggml_quantize_chunk(t->type, b->values[i], data, 0, ggml_nrows(t), t->ne[0], NULL);
            ggml_get_type_traits(t->type)->to_float(data, b->values[i], n);
        }
        graph_set(t, data);
        free(data);
    }
    for (int again = 0; again < 2; again++) /* inputs keep their values, and a graph runs more than once */
        if (!graph_run(b->g, &e)) fail_msg("%s", e.text);
    b->result = malloc(ggml_nbytes(y));
    graph_get(y, b->result);
}

static void check(const char *what, double got, double want, double scale, double tolerance) {
    if (!(fabs(got - want) <= tolerance * scale)) fail_msg("%s: %.9g, should be %.9g", what, got, want);
}

/* bias_type GGML_TYPE_COUNT: no bias */
static void linear_of(enum ggml_type type, int64_t in, int64_t out, int64_t tokens, enum ggml_type bias_type) {
    bench b = start();
    struct ggml_tensor *x = input(&b, GGML_TYPE_F32, in, tokens, 1, 1), *w = input(&b, type, in, out, 1, 1);
    bool with_bias = bias_type != GGML_TYPE_COUNT;
    struct ggml_tensor *bias = with_bias ? input(&b, bias_type, out, 1, 1, 1) : NULL;
    run(&b, compute_linear(b.g, x, w, bias));
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t o = 0; o < out; o++) {
            double sum = with_bias ? (double)b.values[2][o] : 0.0;
            for (int64_t i = 0; i < in; i++) sum += (double)b.values[0][t * in + i] * (double)b.values[1][o * in + i];
            check(ggml_type_name(type), (double)b.result[t * out + o], sum, sqrt((double)in), 2e-6);
        }
    finish(&b);
}

static void linear_multiplies_weights_of_every_type(void **state) {
    static const enum ggml_type biases[] = {GGML_TYPE_F32, GGML_TYPE_COUNT, GGML_TYPE_BF16, GGML_TYPE_F16};
    (void)state;
    static const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K};
    static const int64_t tokens[] = {1, 2, 6, 7, 40, 600};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++) linear_of(types[i], 256, 203, tokens[t], biases[t % 4]);
    for (size_t i = 0; i < 4; i++) {
        linear_of(GGML_TYPE_F32, 37, 5, 3, biases[i]);
        linear_of(GGML_TYPE_BF16, 37, 5, 33, biases[i]);
        linear_of(GGML_TYPE_BF16, 64, 401, 40, biases[i]); /* more than one panel, the last one not full */
        linear_of(GGML_TYPE_BF16, 64, 401, 2, biases[i]);
        linear_of(GGML_TYPE_F16, 1, 1, 1, biases[i]);
    }
}

static void conv_of(enum ggml_type type, int64_t width, int64_t height, int64_t channels, int64_t out, int64_t kernel, int64_t batch,
                    int stride, int padding, bool after_only, bool with_bias) {
    bench b = start();
    struct ggml_tensor *x = input(&b, GGML_TYPE_F32, width, height, channels, batch), *w = input(&b, type, kernel, kernel, channels, out);
    struct ggml_tensor *bias = with_bias ? input(&b, GGML_TYPE_F32, out, 1, 1, 1) : NULL;
    struct ggml_tensor *y = compute_conv2d(b.g, x, w, bias, stride, padding, after_only);
    run(&b, y);
    int before = after_only ? 0 : padding;
    assert_int_equal(y->ne[0], (width + before + padding - kernel) / stride + 1);
    assert_int_equal(y->ne[1], (height + before + padding - kernel) / stride + 1);
    for (int64_t n = 0; n < batch; n++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t oy = 0; oy < y->ne[1]; oy++)
                for (int64_t ox = 0; ox < y->ne[0]; ox++) {
                    double sum = with_bias ? (double)b.values[2][o] : 0.0;
                    for (int64_t c = 0; c < channels; c++)
                        for (int64_t ky = 0; ky < kernel; ky++)
                            for (int64_t kx = 0; kx < kernel; kx++) {
                                int64_t iy = oy * stride + ky - before, ix = ox * stride + kx - before;
                                if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
                                sum += (double)b.values[0][((n * channels + c) * height + iy) * width + ix] *
                                       (double)b.values[1][((o * channels + c) * kernel + ky) * kernel + kx];
                            }
                    check("conv", (double)b.result[((n * out + o) * y->ne[1] + oy) * y->ne[0] + ox], sum,
                          sqrt((double)(channels * kernel * kernel)), 2e-6);
                }
    finish(&b);
}

static void conv_pads_and_strides_as_asked(void **state) {
    (void)state;
    conv_of(GGML_TYPE_F32, 9, 7, 5, 6, 3, 2, 1, 1, false, true);
    conv_of(GGML_TYPE_F32, 9, 7, 5, 6, 3, 1, 1, 0, false, false);
    conv_of(GGML_TYPE_F32, 10, 8, 3, 4, 3, 2, 2, 1, true, true);
    conv_of(GGML_TYPE_F32, 11, 9, 3, 4, 3, 1, 2, 1, false, true);
    conv_of(GGML_TYPE_F32, 33, 17, 7, 9, 1, 2, 1, 0, false, true);
    conv_of(GGML_TYPE_F32, 12, 12, 2, 3, 1, 1, 2, 0, false, true);
    conv_of(GGML_TYPE_F32, 2, 1, 3, 2, 5, 1, 1, 2, false, true);
    conv_of(GGML_TYPE_BF16, 40, 30, 4, 70, 3, 1, 1, 1, false, true);
    conv_of(GGML_TYPE_F16, 40, 30, 4, 70, 3, 1, 1, 1, false, true);
}

static void attention_of(int64_t d, int64_t heads, int64_t tokens, int64_t keys, int64_t batch, int64_t bias_heads, bool causal) {
    bench b = start();
    struct ggml_tensor *q = input(&b, GGML_TYPE_F32, d, heads, tokens, batch), *k = input(&b, GGML_TYPE_F32, d, heads, keys, batch);
    struct ggml_tensor *v = input(&b, GGML_TYPE_F32, d + 1, heads, keys, batch);
    struct ggml_tensor *bias = bias_heads > 0 ? input(&b, GGML_TYPE_F32, keys, tokens, bias_heads, 1) : NULL;
    if (causal)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = t + 1; i < keys; i++) b.values[3][t * keys + i] = -INFINITY;
    for (int64_t i = 0; i < d * heads * tokens * batch; i++) b.values[0][i] *= 20; /* peaked rows too */
    run(&b, compute_attention(b.g, q, k, v, 0.5f, bias));
    double *p = malloc((size_t)keys * sizeof *p);
    for (int64_t n = 0; n < batch; n++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t t = 0; t < tokens; t++) {
                double top = -INFINITY, sum = 0;
                for (int64_t i = 0; i < keys; i++) {
                    p[i] = 0;
                    for (int64_t c = 0; c < d; c++)
                        p[i] += (double)b.values[0][((n * tokens + t) * heads + h) * d + c] *
                                (double)b.values[1][((n * keys + i) * heads + h) * d + c];
                    p[i] *= 0.5;
                    if (bias_heads > 0) p[i] += (double)b.values[3][((bias_heads > 1 ? h : 0) * tokens + t) * keys + i];
                    top = fmax(top, p[i]);
                }
                for (int64_t i = 0; i < keys; i++) sum += p[i] = exp(p[i] - top);
                for (int64_t c = 0; c <= d; c++) {
                    double want = 0;
                    for (int64_t i = 0; i < keys; i++) want += p[i] / sum * (double)b.values[2][((n * keys + i) * heads + h) * (d + 1) + c];
                    check("attention", (double)b.result[((n * tokens + t) * heads + h) * (d + 1) + c], want, 1, 5e-6);
                }
            }
    free(p);
    finish(&b);
}

static void attention_weighs_values_by_softmax(void **state) {
    (void)state;
    attention_of(16, 3, 5, 5, 2, 0, false);
    attention_of(8, 2, 37, 70, 1, 0, false);
    attention_of(8, 2, 300, 41, 2, 2, false);
    attention_of(64, 1, 20, 20, 1, 1, true);
    attention_of(4, 2, 1, 1, 3, 1, false);
}

static void layer_norm_centres_and_scales_rows(void **state) {
    (void)state;
    for (int which = 0; which < 4; which++) {
        const int64_t n = 45, rows = 700;
        bench b = start();
        struct ggml_tensor *x = input(&b, GGML_TYPE_F32, n, rows, 1, 1);
        struct ggml_tensor *weight = which & 1 ? input(&b, GGML_TYPE_F32, n, 1, 1, 1) : NULL;
        struct ggml_tensor *bias = which & 2 ? input(&b, GGML_TYPE_F32, n, 1, 1, 1) : NULL;
        for (int64_t i = 0; i < n * rows; i++) b.values[0][i] += 10;
        run(&b, compute_layer_norm(b.g, x, weight, bias, 1e-6f));
        for (int64_t r = 0; r < rows; r++) {
            double mean = 0, variance = 0;
            for (int64_t i = 0; i < n; i++) mean += (double)b.values[0][r * n + i] / n;
            for (int64_t i = 0; i < n; i++) variance += pow((double)b.values[0][r * n + i] - mean, 2) / n;
            for (int64_t i = 0; i < n; i++) {
                double want = ((double)b.values[0][r * n + i] - mean) / sqrt(variance + 1e-6);
                if (weight != NULL) want *= (double)b.values[1][i];
                if (bias != NULL) want += (double)b.values[1 + (weight != NULL)][i];
                check("layer norm", (double)b.result[r * n + i], want, 1, 1e-5);
            }
        }
        finish(&b);
    }
}

static void rms_norm_scales_rows(void **state) {
    (void)state;
    for (int with_weight = 0; with_weight < 2; with_weight++) {
        const int64_t n = 33, rows = 9;
        bench b = start();
        struct ggml_tensor *x = input(&b, GGML_TYPE_F32, n, 3, 3, 1), *weight = with_weight ? input(&b, GGML_TYPE_F32, n, 1, 1, 1) : NULL;
        run(&b, compute_rms_norm(b.g, x, weight, 1e-3f));
        for (int64_t r = 0; r < rows; r++) {
            double square = 0;
            for (int64_t i = 0; i < n; i++) square += pow((double)b.values[0][r * n + i], 2) / n;
            for (int64_t i = 0; i < n; i++)
                check("rms norm", (double)b.result[r * n + i],
                      (double)b.values[0][r * n + i] / sqrt(square + 1e-3f) * (with_weight ? (double)b.values[1][i] : 1), 1, 1e-6);
        }
        finish(&b);
    }
}

static void group_norm_takes_channels_together(void **state) {
    (void)state;
    const int64_t plane = 70 * 90, channels = 6, groups = 3, batch = 2, of_group = plane * channels / groups;
    bench b = start();
    struct ggml_tensor *x = input(&b, GGML_TYPE_F32, 70, 90, channels, batch);
    struct ggml_tensor *weight = input(&b, GGML_TYPE_F32, channels, 1, 1, 1), *bias = input(&b, GGML_TYPE_F32, channels, 1, 1, 1);
    for (int64_t i = 0; i < plane * channels * batch; i++) b.values[0][i] += 30;
    run(&b, compute_group_norm(b.g, x, weight, bias, groups, 1e-6f));
    for (int64_t r = 0; r < groups * batch; r++) {
        const float *v = b.values[0] + r * of_group;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < of_group; i++) mean += (double)v[i] / (double)of_group;
        for (int64_t i = 0; i < of_group; i++) variance += pow((double)v[i] - mean, 2) / (double)of_group;
        for (int64_t i = 0; i < of_group; i++) {
            int64_t channel = (r * of_group + i) / plane % channels;
            check("group norm", (double)b.result[r * of_group + i],
                  ((double)v[i] - mean) / sqrt(variance + 1e-6) * (double)b.values[1][channel] + (double)b.values[2][channel], 1, 1e-5);
        }
    }
    finish(&b);
}

static void modulation_is_one_for_all_tokens_of_an_item(void **state) {
    (void)state;
    const int64_t n = 35, tokens = 7, batch = 3;
    bench b = start();
    struct ggml_tensor *x = input(&b, GGML_TYPE_F32, n, tokens, batch, 1), *both = input(&b, GGML_TYPE_F32, 2 * n, 1, batch, 1);
    struct ggml_context *c = graph_context(b.g);
    struct ggml_tensor *scale = ggml_view_3d(c, both, n, 1, batch, both->nb[1], both->nb[2], 0);
    struct ggml_tensor *shift = ggml_view_3d(c, both, n, 1, batch, both->nb[1], both->nb[2], (size_t)n * sizeof(float));
    run(&b, compute_modulate(b.g, x, scale, shift));
    for (int64_t i = 0; i < n * tokens * batch; i++) {
        const float *m = b.values[1] + i / (n * tokens) * 2 * n + i % n;
        check("modulate", (double)b.result[i], (double)b.values[0][i] * (1 + (double)m[0]) + (double)m[n], 1, 1e-6);
    }
    finish(&b);
}

static double activated(activation a, double x) {
    switch (a) {
    case ACTIVATION_SILU: return x / (1 + exp(-x));
    case ACTIVATION_RELU: return x > 0 ? x : 0;
    case ACTIVATION_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case ACTIVATION_GELU_TANH: return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_GELU_QUICK: return x / (1 + exp(-1.702 * x));
    }
    return NAN;
}

static void activations_hold_their_digits(void **state) {
    (void)state;
    for (activation a = ACTIVATION_SILU; a <= ACTIVATION_GELU_QUICK; a++) {
        const int64_t n = 40001;
        bench b = start();
        struct ggml_tensor *x = input(&b, GGML_TYPE_F32, n, 1, 1, 1);
        for (int64_t i = 0; i < n; i++) b.values[0][i] = (float)(i - 20000) * 1e-3f;
        b.values[0][0] = -1e4f;
        b.values[0][n - 1] = 1e4f;
        run(&b, compute_activation(b.g, x, a));
        for (int64_t i = 0; i < n; i++) {
            double v = (double)b.values[0][i];
            check("activation", (double)b.result[i], activated(a, v), fmax(1, fabs(v)), 3e-7);
        }
        finish(&b);
    }
}

static void activations_go_by_their_names_in_configs(void **state) {
    (void)state;
    activation a;
    assert_true(activation_parse("quick_gelu", &a) && a == ACTIVATION_GELU_QUICK);
    assert_true(activation_parse("gelu", &a) && a == ACTIVATION_GELU);
    assert_true(activation_parse("gelu_new", &a) && a == ACTIVATION_GELU_TANH);
    assert_false(activation_parse("mish", &a));
}

/* Rotating queries and keys by their places leaves scores that depend on the distance alone. */
static void rotations_leave_only_distances(void **state) {
    (void)state;
    const int64_t d = 6, heads = 2, tokens = 5, batch = 2;
    bench b = start();
    struct ggml_tensor *x = input(&b, GGML_TYPE_F32, d, heads, tokens, batch), *rotation = input(&b, GGML_TYPE_F32, 2, d / 2, tokens, 1);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < d / 2; i++) {
            double angle = (double)t * pow(10, -(double)i);
            b.values[1][(t * d / 2 + i) * 2] = (float)cos(angle);
            b.values[1][(t * d / 2 + i) * 2 + 1] = (float)sin(angle);
        }
    for (int64_t i = d * heads; i < d * heads * tokens * batch; i++) b.values[0][i] = b.values[0][i % (d * heads)];
    run(&b, compute_rope(b.g, x, rotation));
    for (int64_t n = 0; n < batch; n++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t t = 1; t + 1 < tokens; t++) {
                double here = 0, next = 0;
                for (int64_t i = 0; i < d; i++) {
                    const float *at = b.result + ((n * tokens + t) * heads + h) * d + i;
                    here += (double)at[0] * (double)at[-d * heads];
                    next += (double)at[d * heads] * (double)at[0];
                }
                check("rope", next, here, 1, 1e-5);
            }
    for (int64_t i = 0; i < d * heads; i++) check("rope at 0", (double)b.result[i], (double)b.values[0][i], 1, 0);
    finish(&b);
}

static void embedding_takes_rows(void **state) {
    (void)state;
    static const int32_t ids[6] = {4, 0, 4, 10, 3, 1}, bad[6] = {0, 0, 11, 0, 0, 0};
    error e = {0};
    bench b = start();
    struct ggml_tensor *table = input(&b, GGML_TYPE_BF16, 19, 11, 1, 1), *which = graph_input(b.g, GGML_TYPE_I32, 3, 2, 1, 1);
    struct ggml_tensor *y = graph_output(b.g, compute_embedding(b.g, table, which));
    assert_true(y->ne[0] == 19 && y->ne[1] == 3 && y->ne[2] == 2);
    assert_true(graph_reserve(b.g, &e));
    uint16_t rounded[19 * 11];
    ggml_fp32_to_bf16_row(b.values[0], (ggml_bf16_t *)rounded, 19 * 11);
    graph_set(table, rounded);
    graph_set(which, ids);
    assert_true(graph_run(b.g, &e));
    b.result = malloc(ggml_nbytes(y));
    graph_get(y, b.result);
    for (int i = 0; i < 6 * 19; i++) {
        uint32_t bits = (uint32_t)rounded[ids[i / 19] * 19 + i % 19] << 16;
        assert_memory_equal(&bits, &b.result[i], 4);
    }
    graph_set(which, bad);
    assert_false(graph_run(b.g, &e));
    assert_non_null(strstr(e.text, "outside the embedding table"));
    finish(&b);
}

static void upsampling_doubles_pixels(void **state) {
    (void)state;
    bench b = start();
    struct ggml_tensor *x = input(&b, GGML_TYPE_F32, 5, 3, 2, 2);
    run(&b, compute_upsample2x(b.g, x));
    for (int c = 0; c < 4; c++)
        for (int y = 0; y < 6; y++)
            for (int i = 0; i < 10; i++) assert_true(b.result[(c * 6 + y) * 10 + i] == b.values[0][(c * 3 + y / 2) * 5 + i / 2]);
    finish(&b);
}

static void a_graph_beyond_the_memory_is_refused_before_any_is_taken(void **state) {
    (void)state;
    error e = {0};
    graph *g;
    assert_true(graph_new(dev, 64, &g, &e));
    graph_output(g, compute_activation(g, graph_input(g, GGML_TYPE_F32, 1 << 20, 1 << 20, 1, 1), ACTIVATION_RELU)); /* 8 TiB */
    assert_false(graph_measure(g, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    assert_int_equal(graph_buffer_bytes(g), 0);
    graph_free(g);
    assert_true(graph_new(dev, 64, &g, &e));
    graph_output(g, compute_activation(g, graph_input(g, GGML_TYPE_F32, 16, 16, 1, 1), ACTIVATION_RELU));
    assert_true(graph_measure(g, &e));
    assert_int_equal(graph_buffer_bytes(g), 0);
    graph_free(g);
}

static void an_unknown_device_lists_what_there_is(void **state) {
    (void)state;
    device *d;
    error e = {0};
    assert_false(device_open("abacus", 0, &d, &e));
    assert_int_equal(e.code, ERROR_DEVICE);
    assert_non_null(strstr(e.text, "abacus"));
    assert_non_null(strstr(e.text, "CPU"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_multiplies_weights_of_every_type),
        cmocka_unit_test(conv_pads_and_strides_as_asked),
        cmocka_unit_test(attention_weighs_values_by_softmax),
        cmocka_unit_test(layer_norm_centres_and_scales_rows),
        cmocka_unit_test(rms_norm_scales_rows),
        cmocka_unit_test(group_norm_takes_channels_together),
        cmocka_unit_test(modulation_is_one_for_all_tokens_of_an_item),
        cmocka_unit_test(activations_hold_their_digits),
        cmocka_unit_test(activations_go_by_their_names_in_configs),
        cmocka_unit_test(rotations_leave_only_distances),
        cmocka_unit_test(embedding_takes_rows),
        cmocka_unit_test(upsampling_doubles_pixels),
        cmocka_unit_test(a_graph_beyond_the_memory_is_refused_before_any_is_taken),
        cmocka_unit_test(an_unknown_device_lists_what_there_is),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
