/* FluxTransformer2DModel against diffusers: guided and not, several head counts and axes, oblong pictures, batches of items at timesteps of
 * their own, weights of every float type, sharded and not. And what a broken folder gets for an answer.
 *
 *     test_flux [DEVICE]        "cpu" (the default), "vulkan", …
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "golden.h"
#include "models/flux_transformer.h"

enum { SKIPPED = 77 };

static device *dev;
static golden *numbers;

static flux_transformer *load(const char *name, precision p) {
    char folder[1024], file[64];
    error e = {0};
    flux_transformer *t;
    snprintf(file, sizeof file, "flux_%s", name);
    golden_path(folder, sizeof folder, file);
    if (!flux_transformer_load(dev, folder, &LOAD_OPTIONS(p), &t, &e)) fail_msg("%s", e.text);
    return t;
}

static flux_step_shape shape_of(const char *name) {
    golden_array shape = golden_get(numbers, "%s.shape", name);
    const int64_t *n = golden_i64(&shape);
    return (flux_step_shape){(int)n[0], (int)n[1], (int)n[2], (int)n[3]};
}

/* Runs the step and leaves its result in `velocity`. */
static void run(const char *name, flux_step *s, float *velocity) {
    golden_array latents = golden_get(numbers, "%s.latents", name), hidden = golden_get(numbers, "%s.hidden", name);
    golden_array pooled = golden_get(numbers, "%s.pooled", name), timesteps = golden_get(numbers, "%s.timesteps", name);
    const float *guidance = NULL;
    golden_array scale;
    if (golden_has(numbers, "%s.guidance", name)) {
        scale = golden_get(numbers, "%s.guidance", name);
        guidance = golden_f32(&scale);
    }
    error e = {0};
    flux_step_condition(s, golden_f32(&hidden), golden_f32(&pooled));
    for (int again = 0; again < 2; again++) /* the conditioning holds from step to step */
        if (!flux_step_run(s, golden_f32(&latents), golden_f32(&timesteps), guidance, velocity, &e)) fail_msg("%s", e.text);
}

static void compare(const char *name, precision p, double tolerance) {
    flux_transformer *t = load(name, p);
    flux_step_shape shape = shape_of(name);
    golden_array expected = golden_get(numbers, "%s.velocity", name);
    float *velocity = malloc(expected.size);
    flux_step *s;
    error e = {0};
    assert_non_null(velocity);
    if (!flux_step_new(t, &shape, &s, &e)) fail_msg("%s", e.text);
    run(name, s, velocity);
    golden_assert_near(velocity, &expected, tolerance);
    flux_step_free(s);
    flux_transformer_free(t);
    free(velocity);
}

static const char *const names[] = {"guided", "plain", "batch", "shards"};

static void velocities_are_diffusers(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) compare(names[i], PRECISION_F32, 1e-4);
}

static void stored_weights_are_exact_on_the_cpu(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) compare(names[i], PRECISION_AUTO, 1e-4);
}

/* A device that multiplies in f16 or bf16 rounds the activations as well. */
static void another_device_comes_near(void **state) {
    (void)state;
    compare("guided", PRECISION_F32, 5e-3);
    compare("batch", PRECISION_F32, 5e-3);
    compare("plain", PRECISION_AUTO, 2e-2);
}

static void halves_come_near(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        compare(names[i], PRECISION_BF16, 2e-2);
        compare(names[i], PRECISION_F16, 2e-2);
    }
}

static void weights_stay_in_the_file_where_they_can(void **state) {
    (void)state;
    flux_transformer *f32 = load("guided", PRECISION_F32), *bf16 = load("plain", PRECISION_F32), *rounded = load("guided", PRECISION_BF16);
    assert_int_equal(flux_transformer_private_bytes(f32), 0);
    assert_true(flux_transformer_private_bytes(bf16) < flux_transformer_mapped_bytes(bf16) / 4); /* biases and norms alone */
    assert_true(flux_transformer_private_bytes(rounded) > flux_transformer_mapped_bytes(rounded) / 3);
    flux_transformer_free(f32);
    flux_transformer_free(bf16);
    flux_transformer_free(rounded);
}

/* One thread or many, the numbers are the same. */
static void the_result_does_not_depend_on_the_threads(void **state) {
    (void)state;
    device *many = dev, *one;
    float *a, *b;
    golden_array expected = golden_get(numbers, "guided.velocity");
    flux_step_shape shape = shape_of("guided");
    a = malloc(expected.size);
    b = malloc(expected.size);
    assert_true(device_open("cpu", 1, &one, NULL));
    for (int i = 0; i < 2; i++) {
        dev = i == 0 ? one : many;
        flux_transformer *t = load("guided", PRECISION_F32);
        flux_step *s;
        assert_true(flux_step_new(t, &shape, &s, NULL));
        run("guided", s, i == 0 ? a : b);
        flux_step_free(s);
        flux_transformer_free(t);
    }
    assert_memory_equal(a, b, expected.size);
    device_free(one);
    free(a);
    free(b);
}

static void impossible_shapes_are_refused(void **state) {
    (void)state;
    static const flux_step_shape shapes[] = {
        {0, 4, 4, 1}, {4, -1, 4, 1}, {4, 4, 0, 1}, {4, 4, 4, 0}, {1 << 30, 1, 1, 1}, {16384, 16384, 65536, 256}, {16384, 16384, 1, 1},
    };
    flux_transformer *t = load("shards", PRECISION_F32);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        flux_step *s;
        error e = {0};
        assert_false(flux_step_new(t, &shapes[i], &s, &e));
        assert_null(s);
        assert_int_not_equal(e.code, ERROR_NONE);
    }
    flux_transformer_free(t);
}

static void broken_folders_are_named(void **state) {
    (void)state;
    static const struct {
        const char *config, *complaint;
    } cases[] = {
        {"{\"num_layers\": -1}", "'num_layers'"},
        {"{\"num_layers\": 1e99}", "'num_layers'"},
        {"{\"attention_head_dim\": \"x\"}", "'attention_head_dim'"},
        {"{\"axes_dims_rope\": [16, 56]}", "'axes_dims_rope'"},
        {"{\"axes_dims_rope\": [16, 56, 55]}", "'axes_dims_rope'"},
        {"{\"axes_dims_rope\": [16, 16, 16]}", "sum 48"},
        {"{\"guidance_embeds\": 1}", "'guidance_embeds'"},
        {"{\"_class_name\": \"SD3Transformer2DModel\"}", "SD3Transformer2DModel"},
        {"{}", "x_embedder.weight"},
        {"[]", "config.json"},
        {"{", "config.json"},
    };
    char folder[] = "/tmp/imagined-flux-XXXXXX", path[256], from[1024];
    assert_non_null(mkdtemp(folder));
    golden_path(from, sizeof from, "flux_guided/diffusion_pytorch_model.safetensors");
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", folder);
    assert_int_equal(symlink(from, path), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[256];
        snprintf(file, sizeof file, "%s/config.json", folder);
        FILE *f = fopen(file, "w");
        assert_non_null(f);
        fputs(cases[i].config, f);
        fclose(f);
        flux_transformer *t;
        error e = {0};
        assert_false(flux_transformer_load(dev, folder, &LOAD_OPTIONS(PRECISION_F32), &t, &e));
        if (strstr(e.text, cases[i].complaint) == NULL || strstr(e.text, folder) == NULL)
            fail_msg("%s: said \"%s\", not \"%s\"", cases[i].config, e.text, cases[i].complaint);
        remove(file);
    }
    remove(path);
    rmdir(folder);
}

static void int8_is_refused_in_words(void **state) {
    (void)state;
    char folder[1024];
    flux_transformer *t;
    error e = {0};
    golden_path(folder, sizeof folder, "flux_guided");
    assert_false(flux_transformer_load(dev, folder, &LOAD_OPTIONS(PRECISION_INT8), &t, &e));
    assert_int_equal(e.code, ERROR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "int8"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest on_the_cpu[] = {
        cmocka_unit_test(velocities_are_diffusers),
        cmocka_unit_test(stored_weights_are_exact_on_the_cpu),
        cmocka_unit_test(halves_come_near),
        cmocka_unit_test(weights_stay_in_the_file_where_they_can),
        cmocka_unit_test(the_result_does_not_depend_on_the_threads),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(broken_folders_are_named),
        cmocka_unit_test(int8_is_refused_in_words),
    };
    const struct CMUnitTest elsewhere[] = {cmocka_unit_test(another_device_comes_near)};
    error e = {0};
    if (!device_open(argc > 1 ? argv[1] : "cpu", 2, &dev, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return argc > 1 ? SKIPPED : 1;
    }
    numbers = golden_open("flux");
    int failed = device_is_cpu(dev) ? cmocka_run_group_tests(on_the_cpu, NULL, NULL) : cmocka_run_group_tests(elsewhere, NULL, NULL);
    golden_free(numbers);
    device_free(dev);
    return failed;
}
