/* The demo model makes of a picture what diffusers' FluxImg2ImgPipeline and FluxInpaintPipeline make of it, at several strengths. */
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
#include "models/flux_denoise.h"

/* As tests/golden/make_image_to_image.py has them. */
enum { SIDE = 128, CELLS = SIDE / 8, CHANNELS = 16, STEPS = 8, TOKENS = 32, SEED = 77, STRENGTHS = 3 };
static const double strengths[STRENGTHS] = {0.3, 0.6, 1.0};
static const int steps_left_out[STRENGTHS] = {5, 3, 0};

static device *dev;
static part_pool *pool;
static flux_pipeline *pipeline;
static conditioning prompt;
static golden *numbers;
static float latents[CHANNELS * CELLS * CELLS];

static bool encode_picture(const char *folder, error *e) {
    static float planes[3 * SIDE * SIDE];
    golden_array picture = golden_get(numbers, "picture");
    autoencoder_encoder *m;
    autoencoder_encoder_from_rgb8(picture.data, SIDE, SIDE, planes);
    bool ok = autoencoder_encoder_load(dev, folder, &LOAD_OPTIONS(PRECISION_F32), &m, e) &&
              autoencoder_encoder_encode(m, planes, SIDE, SIDE, 1, latents, e);
    autoencoder_encoder_free(m);
    return ok;
}

static flux_denoise_request request(double strength, const float *mask) {
    return (flux_denoise_request){.width = SIDE, .height = SIDE, .steps = STEPS, .seed = SEED, .guidance_scale = 1, .positive = &prompt,
                                  .true_cfg_scale = 1, .image = latents, .strength = strength, .mask = mask};
}

static void make(int i, const float *mask, uint8_t *rgb) {
    const flux_denoise_request r = request(strengths[i], mask);
    flux_denoise *d;
    error e = {0};
    bool more = true;
    if (!flux_denoise_new(pipeline, &r, &d, &e)) fail_msg("%s", e.text);
    assert_int_equal(flux_denoise_steps_done(d), steps_left_out[i]);
    while (more)
        if (!flux_denoise_step(d, &more, &e)) fail_msg("%s", e.text);
    assert_int_equal(flux_denoise_steps_done(d), STEPS);
    if (!flux_denoise_decode(d, rgb, &e)) fail_msg("%s", e.text);
    flux_denoise_free(d);
}

static double psnr(const uint8_t *a, const uint8_t *b) {
    double sum = 0;
    for (int i = 0; i < SIDE * SIDE * 3; i++) sum += pow((double)a[i] - b[i], 2);
    return sum == 0 ? 99 : 10 * log10(255.0 * 255.0 * SIDE * SIDE * 3 / sum);
}

/* Every result is near its own golden, and near no other strength's. */
static void compare(const char *name, const float *mask) {
    static uint8_t rgb[SIDE * SIDE * 3];
    for (int i = 0; i < STRENGTHS; i++) {
        golden_array own = golden_get(numbers, "%s.%d", name, i), other = golden_get(numbers, "%s.%d", name, (i + 1) % STRENGTHS);
        assert_int_equal(own.size, sizeof rgb);
        make(i, mask, rgb);
        print_message("    %s, strength %g: %.1f dB\n", name, strengths[i], psnr(rgb, own.data));
        assert_true(psnr(rgb, own.data) >= 40);
        assert_true(psnr(rgb, other.data) < 40);
    }
}

static void strength_is_as_in_diffusers(void **state) {
    (void)state;
    compare("result", NULL);
}

static void masks_are_as_in_diffusers(void **state) {
    (void)state;
    golden_array mask = golden_get(numbers, "mask");
    assert_int_equal(mask.count, CELLS * CELLS);
    compare("painted", golden_f32(&mask));
}

static void a_strength_that_is_none_is_refused(void **state) {
    (void)state;
    const double wrong[] = {0, -0.5, 1.01, NAN};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const flux_denoise_request r = request(wrong[i], NULL);
        flux_denoise *d;
        error e = {0};
        assert_false(flux_denoise_new(pipeline, &r, &d, &e));
        assert_int_equal(e.code, ERROR_INVALID);
    }
}

static size_t held(const flux_denoise_request *r) {
    flux_denoise *d;
    error e = {0};
    if (!flux_denoise_new(pipeline, r, &d, &e)) fail_msg("%s", e.text);
    size_t bytes = flux_denoise_bytes(d);
    flux_denoise_free(d);
    return bytes;
}

/* The picture and its noise are held, and told, only where a mask needs them again after each step. */
static void what_a_mask_keeps_is_counted(void **state) {
    (void)state;
    golden_array mask = golden_get(numbers, "mask");
    const flux_denoise_request whole = request(0.5, NULL), masked = request(0.5, golden_f32(&mask));
    flux_denoise_request noise = whole;
    noise.image = NULL;
    assert_int_equal(held(&whole), held(&noise));
    assert_int_equal(held(&masked), held(&noise) + 2 * sizeof latents + CELLS * CELLS * sizeof(float));
}

int main(void) {
    error e = {0};
    char folder[1024], vae[1024];
    golden_path(folder, sizeof folder, "../../../demo/model");
    golden_path(vae, sizeof vae, "../../../demo/model/vae");
    numbers = golden_open("image_to_image");
    if (!device_open("cpu", 2, &dev, &e) || !part_pool_new(dev, &pool, &e) ||
        !flux_pipeline_load(pool, folder, &LOAD_OPTIONS(PRECISION_F32), &pipeline, &e) ||
        !flux_pipeline_encode(pipeline, "a fox on a blue background", TOKENS, &prompt, &e) || !encode_picture(vae, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strength_is_as_in_diffusers),
        cmocka_unit_test(masks_are_as_in_diffusers),
        cmocka_unit_test(what_a_mask_keeps_is_counted),
        cmocka_unit_test(a_strength_that_is_none_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    conditioning_free(&prompt);
    flux_pipeline_free(pipeline);
    part_pool_free(pool);
    device_free(dev);
    golden_free(numbers);
    return failed;
}
