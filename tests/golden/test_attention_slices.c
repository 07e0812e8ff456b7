/* Attention whose scores are made a slice of the queries at a time: the numbers of the whole, in less memory.
 *
 *     test_attention_slices [DEVICE]
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. On the CPU, whose kernel writes no scores, a bound changes
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compute/graph.h"
#include "compute/ops.h"
#include "golden.h"
#include "models/autoencoder_kl.h"
#include "models/flux_transformer.h"
#include "models/t5_encoder.h"

enum { SKIPPED = 77, HEADS = 3, WIDTH = 40, BATCH = 2, MODEL_TOKENS = 12 * 16 };

static const double tolerance = 1e-5;
static device *dev;

static void check(bool ok, const error *e) {
    if (!ok) fail_msg("%s", e->text);
}

static void fill(float *values, size_t count, uint32_t seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

static void set_random(struct ggml_tensor *t, uint32_t seed) {
    float *values = malloc(ggml_nbytes(t));
    fill(values, (size_t)ggml_nelements(t), seed);
    graph_set(t, values);
    free(values);
}

typedef struct run {
    float *values;
    size_t count, bytes; /* numbers of the result; device memory it took */
} run;

typedef struct sizes {
    int64_t queries, keys, bias_heads; /* bias_heads 0: no bias */
} sizes;

static size_t score_bytes(const sizes *s) { return (size_t)(s->queries * s->keys * HEADS * BATCH) * sizeof(float); }

static run attend(const sizes *s, size_t slice) {
    error e;
    graph *g;
    check(graph_new(dev, 16 + (slice > 0 ? ATTENTION_SLICE_NODES : 0), &g, &e), &e);
    graph_set_attention_slice(g, slice);
    struct ggml_tensor *in[4] = {graph_input(g, GGML_TYPE_F32, WIDTH, HEADS, s->queries, BATCH),
                                 graph_input(g, GGML_TYPE_F32, WIDTH, HEADS, s->keys, BATCH),
                                 graph_input(g, GGML_TYPE_F32, WIDTH + 8, HEADS, s->keys, BATCH),
                                 s->bias_heads > 0 ? graph_input(g, GGML_TYPE_F32, s->keys, s->queries, s->bias_heads, 1) : NULL};
    struct ggml_tensor *y = graph_output(g, compute_attention(g, in[0], in[1], in[2], 0.4f, in[3]));
    check(graph_reserve(g, &e), &e);
    for (uint32_t i = 0; i < 4; i++)
        if (in[i] != NULL) set_random(in[i], i + 1);
    check(graph_run(g, &e), &e);
    run r = {malloc(ggml_nbytes(y)), (size_t)ggml_nelements(y), graph_buffer_bytes(g)};
    graph_get(y, r.values);
    graph_free(g);
    return r;
}

/* b comes from slices: near a, and on a device that writes scores, in at least `saved` bytes less. Frees both. */
static void compare(const char *what, run a, run b, size_t saved) {
    double distance = golden_distance(b.values, a.values, a.count);
    print_message("    %-34s %.1e, %zu KiB instead of %zu\n", what, distance, b.bytes >> 10, a.bytes >> 10);
    assert_int_equal(a.count, b.count);
    if (!(distance <= tolerance)) fail_msg("%s: %g of the largest value off", what, distance);
    if (device_is_cpu(dev)) assert_int_equal(a.bytes, b.bytes);
    else assert_true(b.bytes + saved <= a.bytes);
    free(a.values);
    free(b.values);
}

static void slices_add_up_to_the_whole(void **state) {
    (void)state;
    static const sizes shapes[] = {{512, 512, 0}, {517, 300, 0}, {256, 256, HEADS}, {200, 200, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t parts = 2; parts <= 8; parts *= 2) { /* at 8, fewer slices than asked for where queries are few */
            char what[64];
            snprintf(what, sizeof what, "%d queries, %d keys%s, 1/%zu", (int)shapes[i].queries, (int)shapes[i].keys,
                     shapes[i].bias_heads > 0 ? ", bias" : "", parts);
            compare(what, attend(&shapes[i], 0), attend(&shapes[i], score_bytes(&shapes[i]) / parts), score_bytes(&shapes[i]) / 16);
        }
}

static void the_bound_is_kept(void **state) {
    (void)state;
    const sizes s = {1024, 256, 0};
    run whole = attend(&s, 0), at_bound = attend(&s, score_bytes(&s)), half = attend(&s, score_bytes(&s) - 1), least = attend(&s, 1);
    assert_int_equal(whole.bytes, at_bound.bytes);
    if (!device_is_cpu(dev)) {
        assert_true(half.bytes < whole.bytes - score_bytes(&s) / 4);
        assert_true(least.bytes < half.bytes - score_bytes(&s) / 4);
    }
    free(at_bound.values);
    free(half.values);
    compare("1024 queries in the least slices", whole, least, score_bytes(&s) / 2);
}

/* ── the models ── */

static void path_of(char path[1024], const char *name) { golden_path(path, 1024, name); }

static run step(size_t slice) {
    char path[1024];
    error e;
    flux_transformer *t;
    flux_step *s;
    size_t measured;
    path_of(path, "flux_plain");
    check(flux_transformer_load(dev, path, &LOAD_OPTIONS(PRECISION_F32), &t, &e), &e);
    const flux_step_shape shape = {12, 16, 9, 2, slice};
    check(flux_step_measure(t, &shape, &measured, &e), &e);
    check(flux_step_new(t, &shape, &s, &e), &e);
    assert_true(flux_step_has_shape(s, &shape));
    assert_false(flux_step_has_shape(s, &(flux_step_shape){12, 16, 9, 2, slice + 1}));
    assert_true(flux_step_bytes(s) <= measured);
    float latents[2 * MODEL_TOKENS * 12], hidden[2 * 9 * 16], pooled[2 * 10], timesteps[2] = {0.7f, 0.2f};
    fill(latents, sizeof latents / sizeof *latents, 1);
    fill(hidden, sizeof hidden / sizeof *hidden, 2);
    fill(pooled, sizeof pooled / sizeof *pooled, 3);
    flux_step_condition(s, hidden, pooled);
    run r = {malloc(2 * MODEL_TOKENS * 6 * sizeof(float)), 2 * MODEL_TOKENS * 6, flux_step_bytes(s)};
    check(flux_step_run(s, latents, timesteps, NULL, r.values, &e), &e);
    flux_step_free(s);
    flux_transformer_free(t);
    return r;
}

static void a_step_of_the_transformer(void **state) {
    (void)state;
    compare("flux step", step(0), step(64 * 1024), 64 * 1024);
}

static void the_largest_slices_that_fit_are_chosen(void **state) {
    (void)state;
    char path[1024];
    error e;
    flux_transformer *t;
    size_t whole, least, bytes, slice, last = SIZE_MAX;
    path_of(path, "flux_plain");
    check(flux_transformer_load(dev, path, &LOAD_OPTIONS(PRECISION_F32), &t, &e), &e);
    flux_step_shape s = {12, 16, 9, 2, 0};
    check(flux_step_measure(t, &s, &whole, &e), &e);
    s.attention_slice = 1;
    check(flux_step_measure(t, &s, &least, &e), &e);
    check(flux_step_slice_for(t, &s, whole, &slice, &e), &e);
    assert_int_equal(slice, 0);
    for (size_t room = whole; room >= least + 4096; room -= (whole - least) / 16 + 4096) {
        check(flux_step_slice_for(t, &s, room, &slice, &e), &e);
        assert_true((slice == 0 && room >= whole) || (slice > 0 && slice <= last)); /* less room, no larger slices */
        if (slice > 0) last = slice;
        s.attention_slice = slice;
        check(flux_step_measure(t, &s, &bytes, &e), &e);
        assert_true(bytes <= room);
    }
    assert_false(flux_step_slice_for(t, &s, least / 2, &slice, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    flux_transformer_free(t);
}

static run decode(size_t slice) {
    char path[1024];
    error e;
    autoencoder_kl *m;
    float latents[4 * MODEL_TOKENS];
    size_t count = 3 * 4 * MODEL_TOKENS, measured;
    path_of(path, "models/vae_flux");
    check(autoencoder_kl_load(dev, path, &LOAD_OPTIONS(PRECISION_F32), &m, &e), &e);
    fill(latents, 4 * MODEL_TOKENS, 1);
    component_set_attention_slice(autoencoder_kl_component(m), slice);
    check(autoencoder_kl_measure(m, 16, 12, 1, &measured, &e), &e);
    run r = {malloc(count * sizeof(float)), count, 0};
    check(autoencoder_kl_decode(m, latents, 16, 12, 1, r.values, &e), &e);
    r.bytes = component_compute_bytes(autoencoder_kl_component(m));
    assert_true(r.bytes <= measured);
    component_set_attention_slice(autoencoder_kl_component(m), slice);
    assert_int_equal(component_compute_bytes(autoencoder_kl_component(m)), r.bytes); /* the graph stays */
    component_set_attention_slice(autoencoder_kl_component(m), slice + 1);
    assert_int_equal(component_compute_bytes(autoencoder_kl_component(m)), 0);
    autoencoder_kl_free(m);
    return r;
}

static void a_picture(void **state) {
    (void)state;
    compare("picture", decode(0), decode(32 * 1024), 32 * 1024);
}

static run encode(size_t slice) {
    char path[1024];
    error e;
    t5_encoder *m;
    int32_t ids[MODEL_TOKENS];
    for (int i = 0; i < MODEL_TOKENS; i++) ids[i] = i % 50;
    path_of(path, "models/t5_gated");
    check(t5_encoder_load(dev, path, &LOAD_OPTIONS(PRECISION_F32), &m, &e), &e);
    component_set_attention_slice(t5_encoder_component(m), slice);
    run r = {malloc(MODEL_TOKENS * 24 * sizeof(float)), MODEL_TOKENS * 24, 0};
    check(t5_encoder_encode(m, ids, MODEL_TOKENS, 1, r.values, &e), &e);
    r.bytes = component_compute_bytes(t5_encoder_component(m));
    t5_encoder_free(m);
    return r;
}

static void a_prompt(void **state) {
    (void)state;
    compare("prompt", encode(0), encode(128 * 1024), 64 * 1024);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_add_up_to_the_whole),
        cmocka_unit_test(the_bound_is_kept),
        cmocka_unit_test(a_step_of_the_transformer),
        cmocka_unit_test(the_largest_slices_that_fit_are_chosen),
        cmocka_unit_test(a_picture),
        cmocka_unit_test(a_prompt),
    };
    error e = {0};
    if (!device_open(argc > 1 ? argv[1] : "cpu", 2, &dev, &e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return argc > 1 ? SKIPPED : 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_free(dev);
    return failed;
}
