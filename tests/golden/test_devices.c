/* Every operation of ops.h on another device against the CPU: the same graph, the same random inputs.
 *
 *     test_devices DEVICE
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compute/device.h"
#include "compute/graph.h"
#include "compute/ops.h"
#include "golden.h"

enum { SKIPPED = 77, MAX_INPUTS = 4 };

static device *cpu, *other;

/* Builds an operation over inputs it makes itself with `make`. */
typedef struct bench {
    graph *g;
    int count;
    struct ggml_tensor *inputs[MAX_INPUTS];
} bench;

typedef struct ggml_tensor *(*recipe)(bench *b);

static struct ggml_tensor *make(bench *b, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3) {
    return b->inputs[b->count++] = graph_input(b->g, type, ne0, ne1, ne2, ne3);
}

static struct ggml_tensor *f32(bench *b, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3) {
    return make(b, GGML_TYPE_F32, ne0, ne1, ne2, ne3);
}

static void fill(struct ggml_tensor *t, uint32_t seed) {
    int64_t n = ggml_nelements(t);
    float *values = malloc((size_t)n * sizeof *values);
    void *data = malloc(ggml_nbytes(t));
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
    if (t->type == GGML_TYPE_I32)
        for (int64_t i = 0; i < n; i++) ((int32_t *)data)[i] = (int32_t)(fabsf(values[i]) * 9.0f);
    else if (t->type == GGML_TYPE_F32) memcpy(data, values, ggml_nbytes(t));
    else ggml_quantize_chunk(t->type, values, data, 0, ggml_nrows(t), t->ne[0], NULL);
    graph_set(t, data);
    free(values);
    free(data);
}

/* The recipe's result on a device; its count of numbers into *count. */
static float *result_on(device *d, recipe r, size_t *count) {
    bench b = {0};
    error e = {0};
    assert_true(graph_new(d, 64, &b.g, &e));
    struct ggml_tensor *y = graph_output(b.g, r(&b));
    if (!graph_reserve(b.g, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < b.count; i++) fill(b.inputs[i], (uint32_t)i + 1);
    if (!graph_run(b.g, &e)) fail_msg("%s", e.text);
    *count = (size_t)ggml_nelements(y);
    float *values = malloc(ggml_nbytes(y));
    graph_get(y, values);
    graph_free(b.g);
    return values;
}

static void agree(const char *name, recipe r, double tolerance) {
    size_t count, other_count;
    float *expected = result_on(cpu, r, &count), *actual = result_on(other, r, &other_count);
    assert_int_equal(count, other_count);
    double distance = golden_distance(actual, expected, count);
    print_message("    %-40s %.2e (at most %.0e)\n", name, distance, tolerance);
    if (!(distance <= tolerance)) fail_msg("%s differs by %g of its largest value", name, distance);
    free(expected);
    free(actual);
}

#define LINEAR(name, type) \
    static struct ggml_tensor *linear_##name(bench *b) { \
        struct ggml_tensor *x = f32(b, 256, 33, 2, 1), *w = make(b, type, 256, 70, 1, 1); \
        return compute_linear(b->g, x, w, f32(b, 70, 1, 1, 1)); \
    }
LINEAR(f32, GGML_TYPE_F32)
LINEAR(f16, GGML_TYPE_F16)
LINEAR(bf16, GGML_TYPE_BF16)
LINEAR(q8_0, GGML_TYPE_Q8_0)

static struct ggml_tensor *linear_one_token(bench *b) {
    struct ggml_tensor *x = f32(b, 96, 1, 1, 1);
    return compute_linear(b->g, x, f32(b, 96, 50, 1, 1), NULL);
}

static struct ggml_tensor *conv(bench *b) {
    struct ggml_tensor *x = f32(b, 19, 13, 5, 2), *w = f32(b, 3, 3, 5, 8);
    return compute_conv2d(b->g, x, w, f32(b, 8, 1, 1, 1), 1, 1, false);
}

static struct ggml_tensor *conv_1x1(bench *b) {
    struct ggml_tensor *x = f32(b, 19, 13, 5, 1);
    return compute_conv2d(b->g, x, f32(b, 1, 1, 5, 8), NULL, 1, 0, false);
}

static struct ggml_tensor *conv_down(bench *b) {
    struct ggml_tensor *x = f32(b, 18, 14, 5, 1), *w = f32(b, 3, 3, 5, 8);
    return compute_conv2d(b->g, x, w, f32(b, 8, 1, 1, 1), 2, 1, true);
}

static struct ggml_tensor *attention(bench *b) {
    struct ggml_tensor *q = f32(b, 24, 3, 17, 2), *k = f32(b, 24, 3, 21, 2);
    return compute_attention(b->g, q, k, f32(b, 24, 3, 21, 2), 0.8f, NULL);
}

static struct ggml_tensor *attention_biased(bench *b) {
    struct ggml_tensor *q = f32(b, 24, 3, 17, 2), *k = f32(b, 24, 3, 21, 2), *v = f32(b, 24, 3, 21, 2);
    return compute_attention(b->g, q, k, v, 0.8f, f32(b, 21, 17, 3, 1));
}

static struct ggml_tensor *attention_masked(bench *b) {
    struct ggml_tensor *q = f32(b, 24, 3, 17, 2), *k = f32(b, 24, 3, 21, 2), *v = f32(b, 24, 3, 21, 2);
    return compute_attention(b->g, q, k, v, 0.8f, f32(b, 21, 17, 1, 1));
}

/* Rotated queries and keys may have their pairs in any order, so only their scores can be compared. */
static struct ggml_tensor *attention_rotated(bench *b) {
    struct ggml_tensor *q = f32(b, 24, 3, 17, 2), *k = f32(b, 24, 3, 17, 2), *v = f32(b, 24, 3, 17, 2), *rotation = f32(b, 2, 12, 17, 1);
    return compute_attention(b->g, compute_rope(b->g, q, rotation), compute_rope(b->g, k, rotation), v, 0.8f, NULL);
}

static struct ggml_tensor *attention_in_half(bench *b) {
    struct ggml_tensor *q = f32(b, 64, 3, 37, 2), *k = f32(b, 64, 3, 41, 2), *v = f32(b, 64, 3, 41, 2);
    graph_allow_half(b->g);
    return compute_attention(b->g, q, k, v, 0.125f, NULL);
}

static struct ggml_tensor *layer_norm(bench *b) {
    struct ggml_tensor *x = f32(b, 45, 7, 3, 1), *w = f32(b, 45, 1, 1, 1);
    return compute_layer_norm(b->g, x, w, f32(b, 45, 1, 1, 1), 1e-5f);
}

static struct ggml_tensor *rms_norm(bench *b) {
    struct ggml_tensor *x = f32(b, 24, 3, 7, 2);
    return compute_rms_norm(b->g, x, f32(b, 24, 1, 1, 1), 1e-5f);
}

static struct ggml_tensor *group_norm(bench *b) {
    struct ggml_tensor *x = f32(b, 19, 13, 8, 2), *w = f32(b, 8, 1, 1, 1);
    return compute_group_norm(b->g, x, w, f32(b, 8, 1, 1, 1), 4, 1e-5f);
}

static struct ggml_tensor *modulate(bench *b) {
    struct ggml_tensor *x = f32(b, 45, 7, 3, 1), *scale = f32(b, 45, 1, 3, 1);
    return compute_modulate(b->g, x, scale, f32(b, 45, 1, 3, 1));
}

static struct ggml_tensor *gated_add(bench *b) {
    struct ggml_tensor *x = f32(b, 45, 7, 3, 1), *y = f32(b, 45, 7, 3, 1);
    return compute_gated_add(b->g, x, y, f32(b, 45, 1, 3, 1));
}

static struct ggml_tensor *concat_0(bench *b) {
    struct ggml_tensor *x = f32(b, 5, 7, 3, 2);
    return compute_concat(b->g, x, f32(b, 9, 7, 3, 2), 0);
}

static struct ggml_tensor *concat_1(bench *b) {
    struct ggml_tensor *x = f32(b, 5, 7, 3, 1);
    return compute_concat(b->g, x, f32(b, 5, 2, 3, 1), 1);
}

static struct ggml_tensor *concat_2(bench *b) {
    struct ggml_tensor *x = f32(b, 5, 7, 3, 2);
    return compute_concat(b->g, x, f32(b, 5, 7, 1, 2), 2);
}

#define ACTIVATION(name, value) \
    static struct ggml_tensor *name(bench *b) { return compute_activation(b->g, f32(b, 1000, 3, 1, 1), value); }
ACTIVATION(silu, ACTIVATION_SILU)
ACTIVATION(relu, ACTIVATION_RELU)
ACTIVATION(gelu, ACTIVATION_GELU)
ACTIVATION(gelu_tanh, ACTIVATION_GELU_TANH)
ACTIVATION(gelu_quick, ACTIVATION_GELU_QUICK)

#define EMBEDDING(name, type) \
    static struct ggml_tensor *embedding_##name(bench *b) { \
        struct ggml_tensor *table = make(b, type, 32, 10, 1, 1); \
        return compute_embedding(b->g, table, make(b, GGML_TYPE_I32, 7, 2, 1, 1)); \
    }
EMBEDDING(f32, GGML_TYPE_F32)
EMBEDDING(f16, GGML_TYPE_F16)
EMBEDDING(bf16, GGML_TYPE_BF16)

static struct ggml_tensor *upsample(bench *b) { return compute_upsample2x(b->g, f32(b, 7, 5, 3, 2)); }

static void every_operation_agrees_with_the_cpu(void **state) {
    (void)state;
#define AGREE(name, tolerance) agree(#name, name, tolerance)
    AGREE(linear_f32, 1e-3); /* Vulkan's products round both factors to f16 where the device has it */
    AGREE(linear_f16, 1e-3);
    AGREE(linear_bf16, 5e-3);
    AGREE(linear_q8_0, 2e-3);
    AGREE(linear_one_token, 1e-4);
    AGREE(conv, 2e-3);
    AGREE(conv_1x1, 2e-3);
    AGREE(conv_down, 2e-3);
    AGREE(attention, 2e-3);
    AGREE(attention_biased, 2e-3);
    AGREE(attention_masked, 2e-3);
    AGREE(attention_rotated, 2e-3);
    AGREE(attention_in_half, 2e-3);
    AGREE(layer_norm, 1e-4);
    AGREE(rms_norm, 1e-4);
    AGREE(group_norm, 1e-4);
    AGREE(modulate, 1e-5);
    AGREE(gated_add, 1e-5);
    AGREE(concat_0, 0);
    AGREE(concat_1, 0);
    AGREE(concat_2, 0);
    AGREE(silu, 1e-4);
    AGREE(relu, 0);
    AGREE(gelu, 1e-4);
    AGREE(gelu_tanh, 1e-4);
    AGREE(gelu_quick, 1e-4);
    AGREE(embedding_f32, 0);
    AGREE(embedding_f16, 1e-6);
    AGREE(embedding_bf16, 1e-6);
    AGREE(upsample, 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_operation_agrees_with_the_cpu)};
    error e = {0};
    if (!device_open(argc > 1 ? argv[1] : "vulkan", 0, &other, &e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return SKIPPED;
    }
    if (!device_open("cpu", 2, &cpu, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    print_message("%s (%s) against the CPU\n", device_name(other), device_kind(other));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_free(other);
    device_free(cpu);
    return failed;
}
