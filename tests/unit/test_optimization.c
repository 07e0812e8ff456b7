/* What the optimization manager makes of a device: devices that exist only as figures, one for each turn the choice can take. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/optimization.h"

typedef struct fake {
    product_probe products[PRECISION_INT8];
    bool fused;
    int measured, autocasts;
    precision autocast;
} fake;

static product_probe product(void *context, precision p) {
    fake *f = context;
    f->measured++;
    return f->products[p];
}

static bool fused(void *context) { return ((fake *)context)->fused; }

static void set_autocast(void *context, precision p) {
    fake *f = context;
    f->autocasts++;
    f->autocast = p;
}

/* A GPU that is right and twice as fast in 16 bits. */
static fake gpu(void) {
    return (fake){.products = {[PRECISION_F32] = {true, 1e-7, 2e-3, 1024},
                               [PRECISION_BF16] = {true, 2e-3, 1e-3, 1024},
                               [PRECISION_F16] = {true, 2e-4, 1e-3, 1024}},
                  .fused = true};
}

static optimization *make(fake *f, const char *kind) {
    const optimization_probe probe = {f, kind, product, fused, set_autocast};
    optimization *o;
    error e;
    assert_true(optimization_new_probed(&probe, &o, &e));
    return o;
}

static void expect(fake *f, const char *kind, precision optimal) {
    static const char *const names[] = {
        [PRECISION_F32] = "torch.float32", [PRECISION_BF16] = "torch.bfloat16", [PRECISION_F16] = "torch.float16"};
    optimization *o = make(f, kind);
    const optimization_choices *c = optimization_get_choices(o);
    assert_int_equal(f->measured, 0); /* nothing before it is asked for */
    assert_string_equal(c->optimal_dtype.value, "torch.float32");
    assert_int_equal(optimization_autocast(o, PRECISION_F32), PRECISION_F32);
    assert_int_equal(optimization_autocast(o, PRECISION_F16), PRECISION_F16);
    assert_int_equal(f->measured, 0); /* a request's own precision needs no measuring */
    assert_int_equal(optimization_autocast(o, PRECISION_AUTO), optimal);
    int once = f->measured;
    assert_int_equal(optimization_get_optimal_dtype(o), optimal);
    assert_int_equal(optimization_autocast(o, PRECISION_AUTO), optimal);
    assert_int_equal(f->measured, once);
    assert_int_equal(f->autocasts, 1);
    assert_int_equal(f->autocast, optimal);
    assert_string_equal(c->optimal_dtype.value, names[optimal]);
    assert_true(c->amp_enabled == (optimal != PRECISION_F32));
    const engine_choice *all[] = {&c->optimal_dtype, &c->attention, &c->vae, &c->tf32};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_true(strlen(all[i]->value) > 0 && strlen(all[i]->reason) > 0);
        assert_true(strlen(all[i]->reason) < sizeof all[i]->reason - 1); /* not cut */
    }
    optimization_free(o);
}

static void a_gpu_takes_bf16(void **state) {
    (void)state;
    fake f = gpu();
    expect(&f, "cuda", PRECISION_BF16);
    f = gpu();
    f.products[PRECISION_BF16].seconds = 5.9e-3; /* under three times f32's: the memory is worth it */
    expect(&f, "vulkan", PRECISION_BF16);
}

static void f16_where_bf16_is_wrong_missing_or_slow(void **state) {
    (void)state;
    static const product_probe bad[] = {{false, 0, 1e-3, 256}, {true, 0.1, 1e-3, 256}, {true, NAN, 1e-3, 256}, {true, 2e-3, 6.1e-3, 256}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fake f = gpu();
        f.products[PRECISION_BF16] = bad[i];
        expect(&f, "vulkan", PRECISION_F16);
    }
}

static void f32_where_16_bits_are_no_good(void **state) {
    (void)state;
    static const product_probe bad[] = {{false, 0, 1e-3, 256}, {true, 0.1, 1e-3, 256}, {true, 2e-3, 6.1e-3, 256}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fake f = gpu();
        f.products[PRECISION_BF16] = f.products[PRECISION_F16] = bad[i];
        expect(&f, "vulkan", PRECISION_F32);
    }
}

/* However fast 16 bits are: the kernels compute in f32, and a model in its file costs no memory. */
static void the_cpu_stays_with_what_is_stored(void **state) {
    (void)state;
    fake f = gpu();
    expect(&f, "cpu", PRECISION_F32);
    f = gpu();
    optimization *o = make(&f, "cpu");
    optimization_get_optimal_dtype(o);
    optimization_optimize_model(o, true, 0, 0);
    const optimization_choices *c = optimization_get_choices(o);
    assert_false(c->amp_enabled);
    assert_false(c->flash_attention_available);
    assert_string_equal(c->attention.value, "own kernel");
    assert_string_equal(c->tf32.value, "unavailable");
    optimization_free(o);
}

static void attention_follows_type_kernel_and_memory(void **state) {
    (void)state;
    for (int fused_there = 0; fused_there < 2; fused_there++)
        for (int half = 0; half < 2; half++)
            for (size_t slice = 0; slice < 2; slice++) {
                fake f = gpu();
                f.fused = fused_there == 1;
                optimization *o = make(&f, "vulkan");
                optimization_optimize_model(o, half == 1, slice << 20, 0);
                const optimization_choices *c = optimization_get_choices(o);
                assert_true(c->flash_attention_available == f.fused);
                assert_true(c->amp_enabled == (half == 1));
                assert_string_equal(c->attention.value, f.fused && half == 1 ? "flash" : slice > 0 ? "sliced" : "whole");
                optimization_free(o);
            }
}

static void the_vae_is_told_as_planned(void **state) {
    (void)state;
    fake f = gpu();
    optimization *o = make(&f, "vulkan");
    assert_string_equal(optimization_get_choices(o)->vae.value, "whole");
    optimization_optimize_model(o, true, 0, 32);
    assert_string_equal(optimization_get_choices(o)->vae.value, "tiled 32");
    optimization_optimize_model(o, true, 0, 0);
    assert_string_equal(optimization_get_choices(o)->vae.value, "whole");
    engine_snapshot s = {0};
    optimization_tell(o, &s);
    assert_string_equal(s.vae.value, "whole");
    assert_string_equal(s.attention.value, "flash");
    assert_true(s.amp_enabled && s.flash_attention_available);
    optimization_free(o);
}

static void tf32_is_cudas(void **state) {
    (void)state;
    static const struct {
        const char *kind;
        double distance;
        const char *value, *hint;
    } cases[] = {{"cuda", 3e-4, "on", "NVIDIA_TF32_OVERRIDE=0"}, {"cuda", 1e-7, "off", "exact to"},
                 {"vulkan", 3e-4, "unavailable", "GGML_VK_DISABLE_F16=1"}, {"vulkan", 1e-7, "unavailable", "exact to"},
                 {"metal", 1e-7, "unavailable", "CUDA"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake f = gpu();
        f.products[PRECISION_F32].distance = cases[i].distance;
        optimization *o = make(&f, cases[i].kind);
        optimization_get_optimal_dtype(o);
        assert_string_equal(optimization_get_choices(o)->tf32.value, cases[i].value);
        assert_non_null(strstr(optimization_get_choices(o)->tf32.reason, cases[i].hint));
        optimization_free(o);
    }
    optimization_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_takes_bf16),
        cmocka_unit_test(f16_where_bf16_is_wrong_missing_or_slow),
        cmocka_unit_test(f32_where_16_bits_are_no_good),
        cmocka_unit_test(the_cpu_stays_with_what_is_stored),
        cmocka_unit_test(attention_follows_type_kernel_and_memory),
        cmocka_unit_test(the_vae_is_told_as_planned),
        cmocka_unit_test(tf32_is_cudas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
