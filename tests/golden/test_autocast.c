/* A device measured as it is, and an f32 model at the precision "auto" on it: near diffusers' numbers, and in half the memory where it is
 * converted.
 *
 *     test_autocast [DEVICE]
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compute/product_probe.h"
#include "engine/optimization.h"
#include "golden.h"
#include "models/flux_transformer.h"

enum { SKIPPED = 77 };

static device *dev;
static golden *numbers;

static void check(bool ok, const error *e) {
    if (!ok) fail_msg("%s", e->text);
}

static void products_are_measured(void **state) {
    (void)state;
    static const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_BF16, GGML_TYPE_F16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        product_probe p = product_probe_measure(dev, types[i], 256);
        print_message("    %-5s within %.1e, %.2f ms\n", ggml_type_name(types[i]), p.distance, p.seconds * 1e3);
        assert_true(p.runs && p.size == 256);
        assert_true(p.distance < (device_is_cpu(dev) ? 1e-5 : 1e-2));
        assert_true(p.seconds > 0 && p.seconds < 3600);
    }
    assert_int_equal(ledger_total(device_ledger(dev)), 0); /* nothing is left behind */
}

/* Without memory nothing can be measured, and nothing breaks. */
static void a_full_device_is_not_measured(void **state) {
    (void)state;
    device_set_limit(dev, 4096);
    product_probe p = product_probe_measure(dev, GGML_TYPE_F32, 256);
    assert_false(p.runs);
    device_set_limit(dev, 0);
}

/* The velocity of the model stored in f32, loaded at this precision; its distance from diffusers'. */
static double distance_at(precision p, size_t *bytes, bool *half) {
    char folder[1024];
    error e;
    flux_transformer *t;
    flux_step *s;
    golden_array n = golden_get(numbers, "guided.shape"), latents = golden_get(numbers, "guided.latents");
    golden_array hidden = golden_get(numbers, "guided.hidden"), pooled = golden_get(numbers, "guided.pooled");
    golden_array timesteps = golden_get(numbers, "guided.timesteps"), guidance = golden_get(numbers, "guided.guidance");
    golden_array expected = golden_get(numbers, "guided.velocity");
    golden_path(folder, sizeof folder, "flux_guided");
    check(flux_transformer_load(dev, folder, &LOAD_OPTIONS(p), &t, &e), &e);
    const int64_t *shape = golden_i64(&n);
    check(flux_step_new(t, &(flux_step_shape){(int)shape[0], (int)shape[1], (int)shape[2], (int)shape[3], 0}, &s, &e), &e);
    float *velocity = malloc(expected.size);
    flux_step_condition(s, golden_f32(&hidden), golden_f32(&pooled));
    check(flux_step_run(s, golden_f32(&latents), golden_f32(&timesteps), golden_f32(&guidance), velocity, &e), &e);
    double distance = golden_distance(velocity, golden_f32(&expected), expected.count);
    *bytes = flux_transformer_device_bytes(t);
    *half = flux_transformer_is_half(t);
    free(velocity);
    flux_step_free(s);
    flux_transformer_free(t);
    return distance;
}

static void an_f32_model_is_cast(void **state) {
    (void)state;
    size_t full, cast;
    bool half;
    double exact = distance_at(PRECISION_AUTO, &full, &half);
    assert_false(half); /* no device casts before it is told to */
    assert_true(exact <= (device_is_cpu(dev) ? 1e-4 : 5e-3));
    static const precision types[] = {PRECISION_BF16, PRECISION_F16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        device_set_autocast(dev, types[i]);
        double distance = distance_at(PRECISION_AUTO, &cast, &half);
        print_message("    f32 as %s: %.1e instead of %.1e, %zu bytes instead of %zu\n", precision_name(types[i]), distance, exact, cast,
                      full);
        assert_true(half == !device_is_cpu(dev)); /* the CPU leaves the weights in the file */
        assert_true(distance <= (device_is_cpu(dev) ? 1e-4 : 2e-2));
        if (half) assert_true(cast < full * 2 / 3); /* biases and norms stay f32 */
        /* f32 on request */
        assert_true(distance_at(PRECISION_F32, &cast, &half) <= (device_is_cpu(dev) ? 1e-4 : 5e-3));
        assert_false(half);
        assert_int_equal(cast, full);
    }
    device_set_autocast(dev, PRECISION_F32);
}

static void the_device_is_told_what_was_chosen(void **state) {
    (void)state;
    optimization *o;
    error e;
    check(optimization_new(dev, &o, &e), &e);
    assert_int_equal(device_autocast(dev), PRECISION_F32);
    precision p = optimization_autocast(o, PRECISION_AUTO);
    const optimization_choices *c = optimization_get_choices(o);
    const engine_choice *all[] = {&c->optimal_dtype, &c->attention, &c->tf32};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) print_message("    %s: %s\n", all[i]->value, all[i]->reason);
    assert_int_equal(device_autocast(dev), p);
    if (device_is_cpu(dev)) assert_int_equal(p, PRECISION_F32);
    assert_true(c->amp_enabled == (p != PRECISION_F32));
    optimization_free(o);
    device_set_autocast(dev, PRECISION_F32);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_measured),
        cmocka_unit_test(a_full_device_is_not_measured),
        cmocka_unit_test(an_f32_model_is_cast),
        cmocka_unit_test(the_device_is_told_what_was_chosen),
    };
    error e = {0};
    if (!device_open(argc > 1 ? argv[1] : "cpu", 2, &dev, &e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return argc > 1 ? SKIPPED : 1;
    }
    numbers = golden_open("flux");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    golden_free(numbers);
    device_free(dev);
    return failed;
}
