/* Images that share steps, at step indices of their own, against the same images alone: the demo model's pictures differ by rounding only,
 * and alone they are the same to the bit whatever ran between.
 *
 *     test_batching [DEVICE]        "cpu" (the default), "vulkan", …
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
#include "models/flux_denoise.h"

enum { SKIPPED = 77, MAX_BYTES = 64 * 64 * 3, IMAGES = 3 };

/* Vulkan without a GPU takes minutes for what the CPU does in a second: smaller pictures there, in fewer steps. The batches are the
 * same. */
typedef struct size {
    int side, steps, tokens;
    int apart; /* steps from one image's start to the next one's */
} size;
static const size on_cpu = {64, 5, 24, 2}, elsewhere = {32, 3, 8, 1};
static size s;

static int bytes(void) { return s.side * s.side * 3; }

static device *dev;
static part_pool *pool;
static flux_pipeline *pipeline;
static conditioning prompts[IMAGES], negative;

typedef struct picture {
    uint8_t rgb[MAX_BYTES];
} picture;

static flux_denoise *begin(int i, bool pair) {
    const flux_denoise_request r = {.width = s.side, .height = s.side, .steps = s.steps, .seed = 40 + (uint64_t)i, .guidance_scale = 3.5 + i,
                                    .positive = &prompts[i], .negative = pair ? &negative : NULL, .true_cfg_scale = 2.0 + i};
    flux_denoise *d;
    error e = {0};
    if (!flux_denoise_new(pipeline, &r, &d, &e)) fail_msg("%s", e.text);
    return d;
}

static void step(flux_denoise *const *items, int count) {
    error e = {0};
    if (!flux_denoise_step_batch(items, count, &e)) fail_msg("%s", e.text);
}

static void finish(flux_denoise *d, picture *p) {
    error e = {0};
    assert_int_equal(flux_denoise_steps_done(d), s.steps);
    if (!flux_denoise_decode(d, p->rgb, &e)) fail_msg("%s", e.text);
    flux_denoise_free(d);
}

static void alone(int i, bool pair, picture *p) {
    flux_denoise *d = begin(i, pair);
    for (int k = 0; k < s.steps; k++) step(&d, 1);
    finish(d, p);
}

/* Each image comes a little after the one before: batches of 1, 2, 3, 2 and 1. */
static void staggered(bool pair, picture *pictures) {
    flux_denoise *d[IMAGES];
    for (int i = 0; i < IMAGES; i++) d[i] = begin(i, pair);
    for (int time = 0; time < s.steps + s.apart * (IMAGES - 1); time++) {
        flux_denoise *now[IMAGES];
        int count = 0;
        for (int i = IMAGES - 1; i >= 0; i--) /* the order does not matter */
            if (time >= s.apart * i && flux_denoise_steps_done(d[i]) < s.steps) now[count++] = d[i];
        step(now, count);
    }
    for (int i = 0; i < IMAGES; i++) finish(d[i], &pictures[i]);
}

static double psnr(const picture *a, const picture *b) {
    double sum = 0;
    for (int i = 0; i < bytes(); i++) sum += pow((double)a->rgb[i] - b->rgb[i], 2);
    return sum == 0 ? 99 : 10 * log10(255.0 * 255.0 * bytes() / sum);
}

static void shared_steps_make_the_same_pictures(void **state) {
    (void)state;
    static picture single[IMAGES], shared[IMAGES];
    for (int pair = 0; pair < 2; pair++) {
        for (int i = 0; i < IMAGES; i++) alone(i, pair, &single[i]);
        staggered(pair, shared);
        for (int i = 0; i < IMAGES; i++) {
            print_message("    %s, image %d: %.1f dB\n", pair ? "guidance pair" : "single", i, psnr(&single[i], &shared[i]));
            assert_true(psnr(&single[i], &shared[i]) >= 45);
            assert_true(psnr(&single[i], &shared[(i + 1) % IMAGES]) < 40); /* they are different pictures */
        }
    }
}

/* One image with a guidance pair runs on the graph of two images without: neither may see the other's prompt. */
static void what_runs_between_leaves_no_trace(void **state) {
    (void)state;
    static picture first[2], paired, again;
    flux_denoise *two[2] = {begin(0, false), begin(1, false)}, *pair = begin(2, true);
    for (int k = 0; k < s.steps; k++) step(two, 2);
    finish(two[0], &first[0]);
    finish(two[1], &first[1]);
    flux_denoise *other[2] = {begin(0, false), begin(1, false)};
    for (int k = 0; k < s.steps; k++) {
        step(other, 2);
        step(&pair, 1);
    }
    for (int i = 0; i < 2; i++) {
        finish(other[i], &again);
        assert_memory_equal(again.rgb, first[i].rgb, (size_t)bytes());
    }
    finish(pair, &paired);
    alone(2, true, &again);
    assert_memory_equal(again.rgb, paired.rgb, (size_t)bytes());
}

/* Graphs given back in the middle are built again and their prompts set again. */
static void released_graphs_come_back(void **state) {
    (void)state;
    static picture expected, p;
    alone(0, false, &expected);
    flux_denoise *d = begin(0, false);
    for (int k = 0; k < s.steps; k++) {
        step(&d, 1);
        assert_true(flux_pipeline_step_bytes(pipeline) > 0);
        flux_pipeline_release_compute(pipeline);
        assert_int_equal(flux_pipeline_figures(pipeline).compute, 0);
    }
    finish(d, &p);
    assert_memory_equal(p.rgb, expected.rgb, (size_t)bytes());
}

static void what_cannot_share_is_refused(void **state) {
    (void)state;
    flux_denoise *a = begin(0, false), *b = begin(1, true), *c = begin(1, false), *mixed[] = {a, b}, *right[] = {a, c};
    error e = {0};
    assert_false(flux_denoise_can_share(a, b));
    assert_true(flux_denoise_can_share(a, c));
    assert_false(flux_denoise_step_batch(mixed, 2, &e));
    assert_int_equal(e.code, ERROR_INTERNAL);
    assert_false(flux_denoise_step_batch(mixed, 0, &e));
    assert_false(flux_denoise_step_batch(mixed, FLUX_DENOISE_MAX_BATCH + 1, &e));
    assert_int_equal(flux_denoise_steps_done(a), 0);
    for (int k = 0; k < s.steps; k++) step(&a, 1);
    assert_false(flux_denoise_step_batch(right, 2, &e)); /* one has had all its steps: the other does not move */
    assert_int_equal(flux_denoise_steps_done(c), 0);
    flux_denoise_free(a);
    flux_denoise_free(b);
    flux_denoise_free(c);
}

int main(int argc, char **argv) {
    static const char *const words[IMAGES] = {"a fox on a blue background", "a raccoon on a purple background",
                                              "a cat on a red background"};
    error e = {0};
    char folder[1024];
    if (!device_open(argc > 1 ? argv[1] : "cpu", 2, &dev, &e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return SKIPPED;
    }
    s = device_is_cpu(dev) ? on_cpu : elsewhere;
    golden_path(folder, sizeof folder, "../../../demo/model");
    bool ok = part_pool_new(dev, &pool, &e) && flux_pipeline_load(pool, folder, &LOAD_OPTIONS(PRECISION_F32), &pipeline, &e) &&
              flux_pipeline_encode(pipeline, "dark", s.tokens, &negative, &e);
    for (int i = 0; ok && i < IMAGES; i++) ok = flux_pipeline_encode(pipeline, words[i], s.tokens, &prompts[i], &e);
    if (!ok) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_steps_make_the_same_pictures),
        cmocka_unit_test(what_runs_between_leaves_no_trace),
        cmocka_unit_test(released_graphs_come_back),
        cmocka_unit_test(what_cannot_share_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < IMAGES; i++) conditioning_free(&prompts[i]);
    conditioning_free(&negative);
    flux_pipeline_free(pipeline);
    part_pool_free(pool);
    device_free(dev);
    return failed;
}
