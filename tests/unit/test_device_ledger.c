/* The ledger of a device's memory: what is claimed counts, whoever asks; a refusal says what is needed, what there is and what is in the
 * way; and what weights and graphs claim is what they take, and is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../http/count_buffers.h"
#include "compute/device.h"
#include "compute/graph.h"
#include "compute/ops.h"
#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/flux_transformer.h"
#include "models/t5_encoder.h"

enum { MIB = 1 << 20 };

/* ── arithmetic ── */

static void claims_add_up_and_the_peak_stays(void **state) {
    (void)state;
    ledger l = {0};
    assert_true(ledger_claim(&l, DEVICE_WEIGHTS, 30, 100, "some memory", NULL));
    assert_true(ledger_claim(&l, DEVICE_COMPUTE, 20, 70, "some memory", NULL));
    assert_true(ledger_claim(&l, DEVICE_STAGING, 5, 50, "some memory", NULL));
    assert_int_equal(ledger_total(&l), 55);
    assert_true(ledger_claim(&l, DEVICE_PINNED, 1000, 1000, "main memory", NULL)); /* not on the device */
    assert_int_equal(ledger_total(&l), 55);
    assert_int_equal(l.claimed[DEVICE_PINNED], 1000);
    ledger_unclaim(&l, DEVICE_COMPUTE, 20);
    ledger_unclaim(&l, DEVICE_PINNED, 1000);
    assert_int_equal(ledger_total(&l), 35);
    assert_int_equal(l.peak, 55);
    ledger_correct(&l, DEVICE_WEIGHTS, 30, 64);
    assert_int_equal(ledger_total(&l), 69);
    assert_int_equal(l.peak, 69);
    ledger_correct(&l, DEVICE_WEIGHTS, 64, 10);
    assert_int_equal(ledger_total(&l), 15);
    assert_int_equal(l.peak, 69);
}

static void the_smaller_of_limit_and_free_decides(void **state) {
    (void)state;
    ledger l = {.limit = 100};
    assert_int_equal(ledger_available(&l, DEVICE_WEIGHTS, 1000), 100);
    assert_int_equal(ledger_available(&l, DEVICE_WEIGHTS, 60), 60);
    assert_int_equal(ledger_available(&l, DEVICE_PINNED, 1000), 1000);
    assert_true(ledger_claim(&l, DEVICE_WEIGHTS, 70, 1000, "some memory", NULL));
    assert_int_equal(ledger_available(&l, DEVICE_COMPUTE, 1000), 30);
    assert_false(ledger_claim(&l, DEVICE_COMPUTE, 31, 1000, "some memory", NULL));
    assert_true(ledger_claim(&l, DEVICE_COMPUTE, 30, 1000, "some memory", NULL)); /* to the last byte */
    assert_int_equal(ledger_available(&l, DEVICE_COMPUTE, 1000), 0);
    l.limit = 50; /* below what is claimed: nothing more, and nothing overflows */
    assert_int_equal(ledger_available(&l, DEVICE_COMPUTE, 1000), 0);
    assert_false(ledger_claim(&l, DEVICE_COMPUTE, 1, 1000, "some memory", NULL));
    assert_false(ledger_claim(&l, DEVICE_COMPUTE, SIZE_MAX, 1000, "some memory", NULL));
    l.limit = 0;
    assert_true(ledger_claim(&l, DEVICE_COMPUTE, 1000, 1000, "some memory", NULL));
    assert_int_equal(l.peak, 1100);
}

static void a_refusal_says_what_is_in_the_way(void **state) {
    (void)state;
    error e = {0};
    ledger l = {.limit = 100 * MIB};
    assert_true(ledger_claim(&l, DEVICE_WEIGHTS, 40 * MIB, 1000 * (size_t)MIB, "vulkan memory", &e));
    assert_false(ledger_claim(&l, DEVICE_COMPUTE, 60 * MIB + 1, 1000 * (size_t)MIB, "vulkan memory", &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    assert_string_equal(e.text, "the computation needs 61 MiB of vulkan memory; 60 MiB are left of the limit of 100 MiB");
    assert_false(ledger_claim(&l, DEVICE_WEIGHTS, 60 * MIB, 30 * MIB, "vulkan memory", &e));
    assert_string_equal(e.text, "the weights need 60 MiB of vulkan memory; 30 MiB are free");
    assert_false(ledger_claim(&l, DEVICE_STAGING, 61 * MIB, 70 * MIB, "vulkan memory", &e));
    assert_string_equal(e.text, "the streamed weights need 61 MiB of vulkan memory; 60 MiB are left of the limit of 100 MiB");
    assert_false(ledger_claim(&l, DEVICE_PINNED, 71 * MIB, 70 * MIB, "main memory", &e));
    assert_string_equal(e.text, "the weights to be streamed need 71 MiB of main memory; 70 MiB are free");
    assert_int_equal(ledger_total(&l), 40 * MIB); /* a refusal claims nothing */
}

/* ── devices ── */

static device *dev;

static const char *golden_folder(char path[512], const char *name) {
    const char *data = getenv("IMAGINED_TEST_DATA");
    assert_non_null(data);
    snprintf(path, 512, "%s/%s", data, name);
    return path;
}

static void good(bool ok, const error *e) {
    if (!ok) fail_msg("%s", e->text);
}

/* Between two calls: what was claimed for computing since the last one. */
static size_t computing(void) { return device_ledger(dev)->claimed[DEVICE_COMPUTE]; }

static void measured_is_taken(size_t measured, size_t taken) {
    assert_true(measured > 0);
    assert_int_equal(taken, measured);
    assert_int_equal(computing(), measured);
}

static void what_encoders_measure_is_what_they_take(void **state) {
    (void)state;
    static const int32_t ids[12] = {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6};
    static float pooled[64], hidden[12 * 64];
    char path[512];
    error e = {0};
    size_t measured;
    clip_text *clip;
    good(clip_text_load(dev, golden_folder(path, "models/clip_quick"), &LOAD_OPTIONS(PRECISION_F16), &clip, &e), &e);
    assert_int_equal(device_ledger(dev)->claimed[DEVICE_WEIGHTS],
                     component_private_bytes(clip_text_component(clip)) + component_device_bytes(clip_text_component(clip)));
    good(clip_text_measure(clip, 6, 2, &measured, &e), &e);
    assert_int_equal(computing(), 0);
    good(clip_text_encode(clip, ids, 6, 2, pooled, NULL, &e), &e);
    measured_is_taken(measured, component_compute_bytes(clip_text_component(clip)));
    size_t other;
    good(clip_text_measure(clip, 3, 1, &other, &e), &e); /* the graph it has stays */
    assert_true(other < measured);
    assert_int_equal(computing(), measured);
    assert_false(clip_text_measure(clip, 1000, 1, &other, &e));
    component_release(clip_text_component(clip));
    assert_int_equal(computing(), 0);
    clip_text_free(clip);

    t5_encoder *t5;
    good(t5_encoder_load(dev, golden_folder(path, "models/t5_silu"), &LOAD_OPTIONS(PRECISION_F16), &t5, &e), &e);
    good(t5_encoder_measure(t5, 6, 2, &measured, &e), &e);
    good(t5_encoder_encode(t5, ids, 6, 2, hidden, &e), &e);
    measured_is_taken(measured, component_compute_bytes(t5_encoder_component(t5)));
    t5_encoder_free(t5);
    assert_int_equal(ledger_total(device_ledger(dev)), 0);
}

/* Before the weights are loaded as after it, and however many of them are streamed. */
static void what_a_step_measures_is_what_it_takes(void **state) {
    (void)state;
    char path[512];
    error e = {0};
    size_t measured;
    flux_needs needs;
    flux_transformer *t;
    flux_step *s;
    const flux_step_shape shape = {8, 6, 5, 2};
    load_options o = LOAD_OPTIONS(PRECISION_F32);
    good(flux_transformer_measure(dev, golden_folder(path, "flux_plain"), &o, &shape, &needs, &e), &e);
    const size_t budgets[] = {SIZE_MAX, needs.weights, needs.least_weights};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        o.resident_bytes = budgets[i];
        good(flux_transformer_load(dev, path, &o, &t, &e), &e);
        if (!device_is_cpu(dev)) assert_true(ledger_total(device_ledger(dev)) <= budgets[i]);
        good(flux_step_measure(t, &shape, &measured, &e), &e);
        assert_int_equal(measured, needs.step);
        assert_int_equal(computing(), 0);
        good(flux_step_new(t, &shape, &s, &e), &e);
        measured_is_taken(measured, flux_step_bytes(s));
        assert_true(count_buffers_now(device_is_cpu(dev)) <= ledger_total(device_ledger(dev)) + device_ledger(dev)->claimed[DEVICE_PINNED]);
        flux_step_free(s);
        flux_transformer_free(t);
        assert_int_equal(ledger_total(device_ledger(dev)), 0);
        assert_int_equal(device_ledger(dev)->claimed[DEVICE_PINNED], 0);
    }
}

static void what_a_decoder_measures_is_what_it_takes(void **state) {
    (void)state;
    static float latents[2 * 16 * 64], pixels[2 * 3 * 64 * 256];
    char path[512];
    error e = {0};
    size_t measured;
    autoencoder_kl *vae;
    good(autoencoder_kl_load(dev, golden_folder(path, "models/vae_old"), &LOAD_OPTIONS(PRECISION_F32), &vae, &e), &e);
    assert_true(autoencoder_kl_config_of(vae)->latent_channels <= 16 && autoencoder_kl_factor(vae) <= 16);
    good(autoencoder_kl_measure(vae, 5, 7, 2, &measured, &e), &e);
    good(autoencoder_kl_decode(vae, latents, 5, 7, 2, pixels, &e), &e);
    measured_is_taken(measured, component_compute_bytes(autoencoder_kl_component(vae)));
    component_release(autoencoder_kl_component(vae));

    /* One byte too few, and none. */
    size_t weights = ledger_total(device_ledger(dev));
    device_reset_peak(dev);
    assert_true(autoencoder_kl_measure(vae, 5, 7, 2, &measured, &e));
    device_set_limit(dev, weights + measured - 1);
    assert_false(autoencoder_kl_fits(vae, 5, 7, 2, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    assert_non_null(strstr(e.text, "of the limit of"));
    assert_false(autoencoder_kl_decode(vae, latents, 5, 7, 2, pixels, &e));
    assert_int_equal(computing(), 0);
    assert_int_equal(device_ledger(dev)->peak, weights); /* asking leaves no trace */
    device_set_limit(dev, weights + measured);
    assert_int_equal(device_available(dev), measured);
    assert_true(autoencoder_kl_fits(vae, 5, 7, 2, &e));
    assert_true(autoencoder_kl_decode(vae, latents, 5, 7, 2, pixels, &e));
    assert_int_equal(device_ledger(dev)->peak, weights + measured);
    autoencoder_kl_free(vae);
    device_set_limit(dev, 0);
    assert_int_equal(ledger_total(device_ledger(dev)), 0);
}

/* Not by our own word: everything that ggml allocated for a model, counted where it allocates, is in the ledger; all the time, so at its
 * peak too. */
static void what_ggml_allocates_is_claimed(void **state) {
    (void)state;
    static float latents[16 * 64], pixels[3 * 64 * 256];
    char path[512];
    error e = {0};
    autoencoder_kl *vae;
    flux_transformer *t;
    flux_step *s;
    bool host = device_is_cpu(dev);
    assert_int_equal(count_buffers_now(host), 0);
    device_reset_peak(dev);
    good(autoencoder_kl_load(dev, golden_folder(path, "models/vae_old"), &LOAD_OPTIONS(PRECISION_F16), &vae, &e), &e);
    assert_true(count_buffers_now(host) > 0);
    assert_int_equal(count_buffers_now(host), ledger_total(device_ledger(dev)));
    size_t before = count_buffers_now(host);
    good(autoencoder_kl_decode(vae, latents, 8, 8, 1, pixels, &e), &e);
    assert_true(count_buffers_now(host) > before); /* ggml's own calls are seen */
    assert_true(count_buffers_now(host) <= ledger_total(device_ledger(dev)));
    if (!host) assert_int_equal(count_buffers_now(host), ledger_total(device_ledger(dev))); /* no scratch of ours */
    good(flux_transformer_load(dev, golden_folder(path, "flux_plain"), &LOAD_OPTIONS(PRECISION_F16), &t, &e), &e);
    good(flux_step_new(t, &(flux_step_shape){8, 6, 5, 2}, &s, &e), &e);
    assert_true(count_buffers_now(host) <= ledger_total(device_ledger(dev)));
    assert_true(count_buffers_peak(host) <= device_ledger(dev)->peak);
    flux_step_free(s);
    flux_transformer_free(t);
    autoencoder_kl_free(vae);
    assert_int_equal(count_buffers_now(host), 0);
    assert_int_equal(ledger_total(device_ledger(dev)), 0);
}

/* Weights that the limit does not allow are not loaded, and what was claimed for them is given back. */
static void weights_beyond_the_limit_are_refused(void **state) {
    (void)state;
    char path[512];
    error e = {0};
    t5_encoder *t5;
    for (int copied = 0; copied < 2; copied++) {
        load_options o = LOAD_OPTIONS(PRECISION_F16);
        o.copied = copied != 0;
        device_set_limit(dev, 1000);
        assert_false(t5_encoder_load(dev, golden_folder(path, "models/t5_silu"), &o, &t5, &e));
        assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
        assert_non_null(strstr(e.text, "the weights need 1 MiB"));
        assert_non_null(strstr(e.text, "t5_silu"));
        assert_int_equal(ledger_total(device_ledger(dev)), 0);
        device_set_limit(dev, 0);
        good(t5_encoder_load(dev, path, &o, &t5, &e), &e);
        assert_int_equal(device_ledger(dev)->claimed[DEVICE_WEIGHTS],
                         component_private_bytes(t5_encoder_component(t5)) + component_device_bytes(t5_encoder_component(t5)));
        t5_encoder_free(t5);
        assert_int_equal(ledger_total(device_ledger(dev)), 0);
    }
}

int main(int argc, char **argv) {
    error e = {0};
    const char *name = argc > 1 ? argv[1] : "cpu";
    if (!device_open(name, 2, &dev, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return argc > 1 ? 77 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_add_up_and_the_peak_stays),
        cmocka_unit_test(the_smaller_of_limit_and_free_decides),
        cmocka_unit_test(a_refusal_says_what_is_in_the_way),
        cmocka_unit_test(what_ggml_allocates_is_claimed),
        cmocka_unit_test(what_encoders_measure_is_what_they_take),
        cmocka_unit_test(what_a_step_measures_is_what_it_takes),
        cmocka_unit_test(what_a_decoder_measures_is_what_it_takes),
        cmocka_unit_test(weights_beyond_the_limit_are_refused),
    };
    size_t free_bytes = 0, total_bytes = 0;
    device_memory(dev, &free_bytes, &total_bytes);
    print_message("%s: %zu of %zu MiB free\n", device_name(dev), free_bytes >> 20, total_bytes >> 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_free(dev);
    return failed;
}
