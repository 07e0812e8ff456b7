/* The noise is torch.randn's to the bit; schedules and steps are diffusers' to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "golden.h"
#include "sampling/flow_match_euler.h"
#include "sampling/torch_random.h"

static uint64_t fnv1a(const void *data, size_t size) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++) h = (h ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void assert_same_bits(const float *actual, const float *expected, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (memcmp(actual + i, expected + i, sizeof *actual) != 0)
            fail_msg("%s[%zu] is %.9g, must be %.9g", name, i, (double)actual[i], (double)expected[i]);
    }
}

static void noise_equals_torch_randn(void **state) {
    (void)state;
    golden *g = golden_open("randn");
    golden_array seeds = golden_get(g, "seeds"), counts = golden_get(g, "counts"), hashes = golden_get(g, "hashes");
    size_t whole = 0;
    for (size_t i = 0; i < seeds.count; i++) {
        for (size_t j = 0; j < counts.count; j++) {
            size_t count = (size_t)golden_i64(&counts)[j];
            float *numbers = calloc(count, sizeof *numbers);
            assert_non_null(numbers);
            torch_randn((uint64_t)golden_i64(&seeds)[i], numbers, count);
            if (golden_has(g, "seed%zu.count%zu", i, j)) {
                golden_array expected = golden_get(g, "seed%zu.count%zu", i, j);
                assert_int_equal(expected.count, count);
                assert_same_bits(numbers, golden_f32(&expected), count, expected.name);
                whole++;
            }
            if (fnv1a(numbers, count * sizeof *numbers) != (uint64_t)golden_i64(&hashes)[i * counts.count + j])
                fail_msg("seed %zu, %zu numbers: another hash", i, count);
            free(numbers);
        }
    }
    assert_true(whole > 60);
    golden_free(g);
}

static void no_numbers_is_no_write(void **state) {
    (void)state;
    float guard = 7;
    torch_randn(1, &guard, 0);
    assert_true(guard == 7);
}

static void write_file(char path[64], const void *text, size_t size) {
    strcpy(path, "/tmp/imagined-scheduler-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), (ssize_t)size);
    close(fd);
}

static bool load_text(const void *text, size_t size, flow_match *f, error *e) {
    char path[64];
    write_file(path, text, size);
    bool ok = flow_match_load(path, f, e);
    unlink(path);
    return ok;
}

static size_t compare_schedules(const golden *g, const char *name, const flow_match *f) {
    golden_array steps = golden_get(g, "steps"), tokens = golden_get(g, "tokens");
    static float sigmas[FLOW_MATCH_MAX_STEPS + 1], timesteps[FLOW_MATCH_MAX_STEPS];
    size_t compared = 0;
    for (size_t i = 0; i < steps.count; i++) {
        for (size_t j = 0; j < tokens.count; j++) {
            int s = (int)golden_i64(&steps)[i], t = (int)golden_i64(&tokens)[j];
            if (!golden_has(g, "%s.s%d.t%d.sigmas", name, s, t)) continue;
            golden_array expected = golden_get(g, "%s.s%d.t%d.sigmas", name, s, t);
            golden_array times = golden_get(g, "%s.s%d.t%d.timesteps", name, s, t);
            assert_int_equal(expected.count, s + 1);
            flow_match_sigmas(f, s, t, sigmas, timesteps);
            assert_same_bits(sigmas, golden_f32(&expected), expected.count, expected.name);
            assert_same_bits(timesteps, golden_f32(&times), times.count, times.name);
            flow_match_sigmas(f, s, t, sigmas, NULL);
            assert_same_bits(sigmas, golden_f32(&expected), expected.count, expected.name);
            compared++;
        }
    }
    return compared;
}

static void schedules_equal_diffusers(void **state) {
    (void)state;
    static const char *const names[] = {"schnell", "dev", "linear", "static", "terminal", "short"};
    golden *g = golden_open("scheduler");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        golden_array config = golden_get(g, "%s.config", names[i]);
        flow_match f;
        error e = {0};
        if (!load_text(config.data, config.size, &f, &e)) fail_msg("%s: %s", names[i], e.text);
        assert_true(compare_schedules(g, names[i], &f) >= 7);
    }
    golden_free(g);
}

static void steps_equal_diffusers(void **state) {
    (void)state;
    golden *g = golden_open("scheduler");
    golden_array sample = golden_get(g, "step.sample"), sigmas = golden_get(g, "step.sigmas");
    float latent[256];
    assert_int_equal(sample.count, 256);
    memcpy(latent, sample.data, sizeof latent);
    for (int i = 0; i < 4; i++) {
        golden_array velocity = golden_get(g, "step.velocity.%d", i), expected = golden_get(g, "step.result.%d", i);
        flow_match_step(latent, golden_f32(&velocity), 256, golden_f32(&sigmas)[i], golden_f32(&sigmas)[i + 1]);
        assert_same_bits(latent, golden_f32(&expected), 256, expected.name);
    }
    golden_free(g);
}

static void refuse(const char *text, error_code code, const char *word) {
    flow_match f;
    error e = {0};
    if (load_text(text, strlen(text), &f, &e)) fail_msg("accepted %s", text);
    assert_int_equal(e.code, code);
    if (strstr(e.text, word) == NULL) fail_msg("'%s' does not name '%s'", e.text, word);
}

static void what_is_not_built_is_refused_by_name(void **state) {
    (void)state;
    refuse("{\"use_karras_sigmas\": true}", ERROR_UNSUPPORTED, "use_karras_sigmas");
    refuse("{\"use_exponential_sigmas\": true}", ERROR_UNSUPPORTED, "use_exponential_sigmas");
    refuse("{\"use_beta_sigmas\": true}", ERROR_UNSUPPORTED, "use_beta_sigmas");
    refuse("{\"stochastic_sampling\": true}", ERROR_UNSUPPORTED, "stochastic_sampling");
    refuse("{\"invert_sigmas\": true}", ERROR_UNSUPPORTED, "invert_sigmas");
    refuse("{\"_class_name\": \"DDIMScheduler\"}", ERROR_UNSUPPORTED, "DDIMScheduler");
    refuse("{\"time_shift_type\": \"cubic\"}", ERROR_BAD_FILE, "time_shift_type");
    refuse("{\"shift\": \"3\"}", ERROR_BAD_FILE, "shift");
    refuse("{\"shift\": 0}", ERROR_BAD_FILE, "shift");
    refuse("{\"num_train_timesteps\": 0}", ERROR_BAD_FILE, "num_train_timesteps");
    refuse("{\"shift_terminal\": 1}", ERROR_BAD_FILE, "shift_terminal");
    refuse("{\"base_image_seq_len\": 4096}", ERROR_BAD_FILE, "max_image_seq_len");
    refuse("[]", ERROR_BAD_FILE, "object");
    refuse("{", ERROR_BAD_FILE, "JSON");
    flow_match f;
    error e = {0};
    assert_false(flow_match_load("/nonexistent/scheduler_config.json", &f, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
}

static void one_step_with_a_terminal_is_finite(void **state) {
    (void)state;
    flow_match f;
    error e = {0};
    const char text[] = "{\"shift_terminal\": 0.1, \"use_karras_sigmas\": false, \"invert_sigmas\": null}";
    assert_true(load_text(text, sizeof text - 1, &f, &e));
    float sigmas[2];
    flow_match_sigmas(&f, 1, 256, sigmas, NULL);
    assert_true(sigmas[0] == 1 && sigmas[1] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_equals_torch_randn),
        cmocka_unit_test(no_numbers_is_no_write),
        cmocka_unit_test(schedules_equal_diffusers),
        cmocka_unit_test(steps_equal_diffusers),
        cmocka_unit_test(what_is_not_built_is_refused_by_name),
        cmocka_unit_test(one_step_with_a_terminal_is_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
