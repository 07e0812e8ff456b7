/* The text encoders and the image decoder compute what transformers' and diffusers' do, from every type and spelling of weights.
 *
 *     test_models [DEVICE]        "cpu" (the default), "vulkan", …
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

#include "golden.h"
#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/t5_encoder.h"

enum { RUNS = 3, SKIPPED = 77 };

typedef struct fixture {
    device *device;
    golden *golden;
    bool cpu;
} fixture;

/* ≤ 1e-4 in f32 on the CPU. The narrow types, and what a GPU's driver makes of f32, get more room. */
static double tolerance(const fixture *f, precision p) { return p != PRECISION_F32 ? 2e-2 : f->cpu ? 1e-4 : 1e-3; }

/* Software Vulkan compiles its shaders for minutes: there, two of the three. */
static const precision precisions[] = {PRECISION_F32, PRECISION_F16, PRECISION_BF16};
static size_t precision_count(const fixture *f) { return f->cpu ? 3 : 2; }

static void check(bool ok, const error *e) {
    if (!ok) fail_msg("%s: %s", error_code_name(e->code), e->text);
}

static void model_folder(char path[1024], const char *name) {
    char below[160];
    snprintf(below, sizeof below, "models/%s", name);
    golden_path(path, 1024, below);
}

/* The array CASE.RUN.ids as 32-bit ids; [batch][count]. Yours to free. */
static int32_t *read_ids(const fixture *f, const char *name, int run, int *count, int *batch) {
    golden_array a = golden_get(f->golden, "%s.%d.ids", name, run);
    int32_t *ids = calloc(a.count, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < a.count; i++) ids[i] = (int32_t)golden_i64(&a)[i];
    *batch = (int)a.shape[0];
    *count = (int)a.shape[1];
    return ids;
}

static void run_clip(const fixture *f, clip_text *m, const char *name, int run, double tolerated) {
    int count, batch;
    int32_t *ids = read_ids(f, name, run, &count, &batch);
    golden_array pooled = golden_get(f->golden, "%s.%d.pooled", name, run), hidden = golden_get(f->golden, "%s.%d.hidden", name, run);
    float *p = calloc(pooled.count, sizeof *p), *h = calloc(hidden.count, sizeof *h);
    assert_true(p != NULL && h != NULL);
    error e = {0};
    check(clip_text_encode(m, ids, count, batch, p, h, &e), &e);
    golden_assert_near(h, &hidden, tolerated);
    golden_assert_near(p, &pooled, tolerated);
    memset(p, 0, pooled.count * sizeof *p);
    check(clip_text_encode(m, ids, count, batch, p, NULL, &e), &e); /* again, with the graph of before */
    golden_assert_near(p, &pooled, tolerated);
    free(ids);
    free(p);
    free(h);
}

static void clip_case(const fixture *f, const char *name) {
    char path[1024];
    model_folder(path, name);
    for (size_t i = 0; i < precision_count(f); i++) {
        clip_text *m;
        error e = {0};
        print_message("  %s, %s\n", name, precision_name(precisions[i]));
        check(clip_text_load(f->device, path, &LOAD_OPTIONS(precisions[i]), &m, &e), &e);
        assert_true(component_mapped_bytes(clip_text_component(m)) > 0);
        assert_int_equal(component_compute_bytes(clip_text_component(m)), 0);
        for (int run = 0; run < RUNS; run++) run_clip(f, m, name, run, tolerance(f, precisions[i]));
        assert_true(component_compute_bytes(clip_text_component(m)) > 0);
        component_release(clip_text_component(m));
        run_clip(f, m, name, 0, tolerance(f, precisions[i]));
        clip_text_free(m);
    }
}

static void clip_text_with_prefix_f32_quick_gelu(void **state) { clip_case(*state, "clip_quick"); }
static void clip_text_without_prefix_bf16_gelu_first_end_token(void **state) { clip_case(*state, "clip_gelu"); }
static void clip_text_f16_one_head(void **state) { clip_case(*state, "clip_half"); }

static void t5_case(const fixture *f, const char *name) {
    char path[1024];
    model_folder(path, name);
    for (size_t i = 0; i < precision_count(f); i++) {
        t5_encoder *m;
        error e = {0};
        print_message("  %s, %s\n", name, precision_name(precisions[i]));
        check(t5_encoder_load(f->device, path, &LOAD_OPTIONS(precisions[i]), &m, &e), &e);
        for (int run = 0; run < RUNS; run++) {
            int count, batch;
            int32_t *ids = read_ids(f, name, run, &count, &batch);
            golden_array hidden = golden_get(f->golden, "%s.%d.hidden", name, run);
            float *h = calloc(hidden.count, sizeof *h);
            assert_non_null(h);
            for (int again = 0; again < 2; again++) {
                memset(h, 0, hidden.count * sizeof *h);
                check(t5_encoder_encode(m, ids, count, batch, h, &e), &e);
                golden_assert_near(h, &hidden, tolerance(f, precisions[i]));
            }
            free(h);
            free(ids);
        }
        t5_encoder_free(m);
    }
}

static void t5_gated_gelu_f32_inner_width_apart(void **state) { t5_case(*state, "t5_gated"); }
static void t5_relu_f16_table_in_the_encoder(void **state) { t5_case(*state, "t5_relu"); }
static void t5_gated_silu_bf16_sharded(void **state) { t5_case(*state, "t5_silu"); }

static void vae_case(const fixture *f, const char *name, int factor) {
    char path[1024];
    model_folder(path, name);
    for (size_t i = 0; i < precision_count(f); i++) {
        autoencoder_kl *m;
        error e = {0};
        print_message("  %s, %s\n", name, precision_name(precisions[i]));
        check(autoencoder_kl_load(f->device, path, &LOAD_OPTIONS(precisions[i]), &m, &e), &e);
        assert_int_equal(autoencoder_kl_factor(m), factor);
        for (int run = 0; run < RUNS; run++) {
            golden_array latents = golden_get(f->golden, "%s.%d.latents", name, run);
            golden_array expected = golden_get(f->golden, "%s.%d.pixels", name, run);
            int batch = (int)latents.shape[0], height = (int)latents.shape[2], width = (int)latents.shape[3];
            assert_int_equal(expected.shape[2], height * factor);
            float *pixels = calloc(expected.count, sizeof *pixels);
            assert_non_null(pixels);
            for (int again = 0; again < 2; again++) {
                memset(pixels, 0, expected.count * sizeof *pixels);
                check(autoencoder_kl_decode(m, golden_f32(&latents), width, height, batch, pixels, &e), &e);
                golden_assert_near(pixels, &expected, tolerance(f, precisions[i]));
            }
            free(pixels);
        }
        autoencoder_kl_free(m);
    }
}

static void vae_decode_f32_shifted_without_quant_conv(void **state) { vae_case(*state, "vae_flux", 2); }
static void vae_decode_f16_old_names_with_quant_conv(void **state) { vae_case(*state, "vae_old", 4); }
static void vae_decode_bf16_without_mid_attention(void **state) { vae_case(*state, "vae_plain", 1); }

static void rgb_bytes_round_as_diffusers_rounds(void **state) {
    const fixture *f = *state;
    golden_array values = golden_get(f->golden, "rgb.values"), bytes = golden_get(f->golden, "rgb.bytes");
    uint8_t rgb[20 * 25 * 3];
    assert_int_equal(values.count, sizeof rgb);
    autoencoder_kl_to_rgb8(golden_f32(&values), 25, 20, rgb);
    assert_memory_equal(rgb, bytes.data, sizeof rgb);
    float nan[3] = {NAN, INFINITY, -INFINITY};
    autoencoder_kl_to_rgb8(nan, 1, 1, rgb);
    assert_int_equal(rgb[0], 0);
    assert_int_equal(rgb[1], 255);
    assert_int_equal(rgb[2], 0);
}

static void requests_out_of_range_are_refused(void **state) {
    const fixture *f = *state;
    char path[1024];
    error e = {0};
    float out[1024];
    clip_text *clip;
    model_folder(path, "clip_half");
    check(clip_text_load(f->device, path, &LOAD_OPTIONS(PRECISION_F32), &clip, &e), &e);
    int32_t ids[13] = {0};
    assert_false(clip_text_encode(clip, ids, 13, 1, out, NULL, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_false(clip_text_encode(clip, ids, 0, 1, out, NULL, &e));
    assert_false(clip_text_encode(clip, ids, 1, 0, out, NULL, &e));
    ids[1] = 61;
    assert_false(clip_text_encode(clip, ids, 2, 1, out, NULL, &e));
    assert_non_null(strstr(e.text, "61"));
    ids[1] = -1;
    assert_false(clip_text_encode(clip, ids, 2, 1, out, NULL, &e));
    clip_text_free(clip);
    t5_encoder *t5;
    model_folder(path, "t5_relu");
    check(t5_encoder_load(f->device, path, &LOAD_OPTIONS(PRECISION_F32), &t5, &e), &e);
    ids[1] = 53;
    assert_false(t5_encoder_encode(t5, ids, 2, 1, out, &e));
    assert_false(t5_encoder_encode(t5, ids, T5_ENCODER_MAX_TOKENS + 1, 1, out, &e));
    t5_encoder_free(t5);
    autoencoder_kl *vae;
    model_folder(path, "vae_plain");
    check(autoencoder_kl_load(f->device, path, &LOAD_OPTIONS(PRECISION_F32), &vae, &e), &e);
    assert_false(autoencoder_kl_decode(vae, out, 0, 1, 1, out, &e));
    assert_false(autoencoder_kl_decode(vae, out, 1, AUTOENCODER_KL_MAX_SIDE + 1, 1, out, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_true(autoencoder_kl_fits(vae, 1, 1, 1, &e));
    int most = AUTOENCODER_KL_MAX_SIDE / autoencoder_kl_factor(vae);
    if (device_is_cpu(f->device)) { /* the pixels alone are 192 GiB */
        assert_false(autoencoder_kl_fits(vae, most, most, AUTOENCODER_KL_MAX_BATCH, &e));
        assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    }
    autoencoder_kl_free(vae);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clip_text_with_prefix_f32_quick_gelu),
        cmocka_unit_test(clip_text_without_prefix_bf16_gelu_first_end_token),
        cmocka_unit_test(clip_text_f16_one_head),
        cmocka_unit_test(t5_gated_gelu_f32_inner_width_apart),
        cmocka_unit_test(t5_relu_f16_table_in_the_encoder),
        cmocka_unit_test(t5_gated_silu_bf16_sharded),
        cmocka_unit_test(vae_decode_f32_shifted_without_quant_conv),
        cmocka_unit_test(vae_decode_f16_old_names_with_quant_conv),
        cmocka_unit_test(vae_decode_bf16_without_mid_attention),
        cmocka_unit_test(rgb_bytes_round_as_diffusers_rounds),
        cmocka_unit_test(requests_out_of_range_are_refused),
    };
    fixture f = {0};
    error e = {0};
    const char *name = argc > 1 ? argv[1] : "cpu";
    if (!device_open(name, 2, &f.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return argc > 1 ? SKIPPED : 1;
    }
    f.cpu = device_is_cpu(f.device);
    f.golden = golden_open("models");
    /* every test gets the fixture as its initial state */
    struct CMUnitTest with_state[sizeof tests / sizeof tests[0]];
    memcpy(with_state, tests, sizeof tests);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) with_state[i].initial_state = &f;
    int failed = cmocka_run_group_tests(with_state, NULL, NULL);
    golden_free(f.golden);
    device_free(f.device);
    return failed;
}
