/* The image encoder computes what diffusers' does, from every type and spelling of weights.
 *
 *     test_image_encoder [DEVICE [exact]]        "cpu" (the default), "vulkan", …; exact: ggml's Vulkan multiplies no matrix in f16
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
#include "models/autoencoder_encoder.h"
#include "models/autoencoder_kl.h"

enum { RUNS = 3, SKIPPED = 77 };

typedef struct fixture {
    device *device;
    golden *golden;
    bool cpu, exact;
} fixture;

/* ≤ 1e-4 in f32, where the device multiplies in f32. ggml's Vulkan rounds factors to f16 inside its products, which attention shows: 4e-4
 * were seen. The narrow types get more room. */
static double tolerance(const fixture *f, precision p) { return p != PRECISION_F32 ? 2e-2 : f->exact ? 1e-4 : 1e-3; }

/* Software Vulkan compiles its shaders for minutes: there, two of the three. */
static const precision precisions[] = {PRECISION_F32, PRECISION_F16, PRECISION_BF16};
static size_t precision_count(const fixture *f) { return f->cpu ? 3 : 2; }

static void check(bool ok, const error *e) {
    if (!ok) fail_msg("%s: %s", error_code_name(e->code), e->text);
}

static void folder(char path[1024], const char *below, const char *name) {
    char all[160];
    snprintf(all, sizeof all, "%s/%s", below, name);
    golden_path(path, 1024, all);
}

static autoencoder_encoder *load(const fixture *f, const char *name, precision p) {
    char path[1024];
    autoencoder_encoder *m;
    error e = {0};
    folder(path, "encoders", name);
    check(autoencoder_encoder_load(f->device, path, &LOAD_OPTIONS(p), &m, &e), &e);
    return m;
}

static void run_case(const fixture *f, autoencoder_encoder *m, const char *name, int run, double tolerated) {
    golden_array pixels = golden_get(f->golden, "%s.%d.pixels", name, run), expected = golden_get(f->golden, "%s.%d.latents", name, run);
    int batch = (int)pixels.shape[0], height = (int)pixels.shape[2], width = (int)pixels.shape[3];
    float *latents = calloc(expected.count, sizeof *latents);
    size_t measured;
    error e = {0};
    assert_non_null(latents);
    check(autoencoder_encoder_measure(m, width, height, batch, &measured, &e), &e);
    for (int again = 0; again < 2; again++) {
        memset(latents, 0, expected.count * sizeof *latents);
        check(autoencoder_encoder_encode(m, golden_f32(&pixels), width, height, batch, latents, &e), &e);
        golden_assert_near(latents, &expected, tolerated);
    }
    assert_int_equal(component_compute_bytes(autoencoder_encoder_component(m)), measured);
    free(latents);
}

static void encode_case(const fixture *f, const char *name) {
    for (size_t i = 0; i < precision_count(f); i++) {
        print_message("  %s, %s\n", name, precision_name(precisions[i]));
        autoencoder_encoder *m = load(f, name, precisions[i]);
        for (int run = 0; run < RUNS; run++) run_case(f, m, name, run, tolerance(f, precisions[i]));
        component_release(autoencoder_encoder_component(m));
        assert_int_equal(component_compute_bytes(autoencoder_encoder_component(m)), 0);
        run_case(f, m, name, 0, tolerance(f, precisions[i]));
        autoencoder_encoder_free(m);
    }
}

static void encode_f32_shifted_without_quant_conv(void **state) { encode_case(*state, "flux"); }
static void encode_f16_old_names_with_quant_conv(void **state) { encode_case(*state, "old"); }
static void encode_bf16_without_mid_attention(void **state) { encode_case(*state, "plain"); }

static void bytes_become_the_values_of_diffusers(void **state) {
    const fixture *f = *state;
    golden_array values = golden_get(f->golden, "rgb.values"), bytes = golden_get(f->golden, "rgb.bytes");
    float planes[16 * 16 * 3];
    assert_int_equal(values.count, sizeof planes / sizeof planes[0]);
    autoencoder_encoder_from_rgb8(bytes.data, 16, 16, planes);
    assert_memory_equal(planes, golden_f32(&values), sizeof planes);
}

static void each_half_loads_without_the_other(void **state) {
    const fixture *f = *state;
    char path[1024];
    autoencoder_encoder *encoder;
    autoencoder_kl *decoder;
    error e = {0};
    folder(path, "models", "vae_flux"); /* a decoder's weights alone */
    assert_false(autoencoder_encoder_load(f->device, path, &LOAD_OPTIONS(PRECISION_F32), &encoder, &e));
    assert_null(encoder);
    assert_int_equal(e.code, ERROR_BAD_FILE);
    assert_non_null(strstr(e.text, "encoder."));
    folder(path, "encoders", "flux"); /* an encoder's */
    assert_false(autoencoder_kl_load(f->device, path, &LOAD_OPTIONS(PRECISION_F32), &decoder, &e));
    assert_non_null(strstr(e.text, "decoder."));
}

static void requests_out_of_range_are_refused(void **state) {
    const fixture *f = *state;
    float numbers[64] = {0};
    size_t bytes;
    error e = {0};
    autoencoder_encoder *m = load(f, "flux", PRECISION_F32);
    static const int shapes[][3] = {{0, 2, 1}, {2, -2, 1}, {3, 2, 1}, {2, 5, 1}, {2, AUTOENCODER_KL_MAX_SIDE + 2, 1}, {2, 2, 0},
                                    {2, 2, AUTOENCODER_KL_MAX_BATCH + 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        assert_false(autoencoder_encoder_encode(m, numbers, shapes[i][0], shapes[i][1], shapes[i][2], numbers, &e));
        assert_int_equal(e.code, ERROR_INVALID);
        assert_false(autoencoder_encoder_measure(m, shapes[i][0], shapes[i][1], shapes[i][2], &bytes, &e));
    }
    autoencoder_encoder_free(m);
    autoencoder_encoder_free(NULL);
}

int main(int argc, char **argv) {
    fixture f = {0};
    error e = {0};
    const char *name = argc > 1 ? argv[1] : "cpu";
    if (argc > 2) setenv("GGML_VK_DISABLE_F16", "1", 1); /* before the device is opened */
    if (!device_open(name, 2, &f.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return argc > 1 ? SKIPPED : 1;
    }
    f.cpu = device_is_cpu(f.device);
    f.exact = f.cpu || argc > 2;
    f.golden = golden_open("encoders");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(encode_f32_shifted_without_quant_conv, &f),
        cmocka_unit_test_prestate(encode_f16_old_names_with_quant_conv, &f),
        cmocka_unit_test_prestate(encode_bf16_without_mid_attention, &f),
        cmocka_unit_test_prestate(bytes_become_the_values_of_diffusers, &f),
        cmocka_unit_test_prestate(each_half_loads_without_the_other, &f),
        cmocka_unit_test_prestate(requests_out_of_range_are_refused, &f),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    golden_free(f.golden);
    device_free(f.device);
    return failed;
}
