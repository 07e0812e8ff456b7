/* The batch grows while the images a second do, stops where they do not or where memory ends, and tries again rarely. Machines are made up:
 * a step of n images takes what a function says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/batcher.h"

static batch_key key_of(const char *model, int width) {
    batch_key key = {.precision = "auto", .width = width, .height = 64, .text_tokens = 8};
    snprintf(key.model, sizeof key.model, "%s", model);
    return key;
}

typedef double (*machine)(int images);

/* Busy with one image: two take twice as long. */
static double linear(int images) { return 0.1 * images; }
/* Mostly waiting: further images cost little until eight fill it. */
static double saturating(int images) { return images <= 8 ? 0.1 + 0.01 * images : 0.18 * images / 8.0; }
/* Nothing to be gained from the second on. */
static double two_at_best(int images) { return images <= 2 ? 0.1 : 0.05 * images; }

enum { NO_LIMIT = BATCHER_MAX };

/* Runs `steps` steps with so many images there; steps of more than `memory` images find none. Returns the last size. */
static int run(batcher *b, const batch_key *key, machine m, int available, int memory, int steps, int *runs) {
    int size = 0;
    for (int i = 0; i < steps; i++) {
        size = batcher_choose(b, key, available);
        assert_true(size >= 1 && size <= available && size <= BATCHER_MAX);
        if (runs != NULL) runs[size]++;
        if (size > memory) batcher_no_memory(b, key, size);
        /* The first step of a size builds its graph: that must not count. */
        else batcher_note(b, key, size, m(size));
    }
    return size;
}

static batcher *fresh(void) {
    batcher *b = calloc(1, sizeof *b);
    assert_non_null(b);
    return b;
}

static void a_busy_machine_takes_one_at_a_time(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    int runs[BATCHER_MAX + 1] = {0};
    assert_int_equal(run(b, &key, linear, 16, NO_LIMIT, 400, runs), 1);
    assert_int_equal(runs[2], BATCHER_SAMPLES + 1); /* one trial, no more */
    for (int i = 3; i <= BATCHER_MAX; i++) assert_int_equal(runs[i], 0);
    free(b);
}

static void an_idle_machine_fills_up(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    int runs[BATCHER_MAX + 1] = {0};
    assert_int_equal(run(b, &key, saturating, 16, NO_LIMIT, 400, runs), 8);
    assert_int_equal(runs[9], BATCHER_SAMPLES + 1);
    for (int i = 10; i <= BATCHER_MAX; i++) assert_int_equal(runs[i], 0);
    /* With fewer images it takes all there are. */
    assert_int_equal(batcher_choose(b, &key, 5), 5);
    assert_int_equal(batcher_choose(b, &key, 1), 1);
    batcher *c = fresh();
    assert_int_equal(run(c, &key, two_at_best, 3, NO_LIMIT, 100, NULL), 2);
    free(b);
    free(c);
}

static void memory_ends_the_growth(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    int runs[BATCHER_MAX + 1] = {0};
    assert_int_equal(run(b, &key, saturating, 16, 3, 300, runs), 3);
    assert_int_equal(runs[4], 1);
    assert_int_equal(runs[5], 0);
    /* One image is tried whatever happened. */
    batcher_no_memory(b, &key, 1);
    assert_int_equal(batcher_choose(b, &key, 1), 1);
    free(b);
}

/* What a growth brought may change: another load on the machine, memory that came free. */
static void what_was_given_up_is_tried_again_rarely(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    int runs[BATCHER_MAX + 1] = {0};
    run(b, &key, linear, 16, NO_LIMIT, 5 * BATCHER_RETRY, runs);
    assert_in_range(runs[2], 4 * BATCHER_SAMPLES, 6 * (BATCHER_SAMPLES + 1));
    assert_int_equal(run(b, &key, saturating, 16, NO_LIMIT, 2 * BATCHER_RETRY, NULL), 8);

    batcher *c = fresh();
    assert_int_equal(run(c, &key, saturating, 16, 3, 300, NULL), 3);
    assert_int_equal(run(c, &key, saturating, 16, NO_LIMIT, 2 * BATCHER_RETRY, NULL), 8);
    free(b);
    free(c);
}

/* A size that stops paying while it is in use is left: the mean follows the machine. */
static void a_size_that_stops_paying_is_left(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    assert_int_equal(run(b, &key, two_at_best, 2, NO_LIMIT, 50, NULL), 2);
    assert_int_equal(run(b, &key, linear, 2, NO_LIMIT, 50, NULL), 1);
    free(b);
}

/* Building a graph makes the first step of a size slow, and must not make it look bad. */
static void the_first_step_of_a_size_does_not_count(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    bool seen[BATCHER_MAX + 1] = {false};
    int size = 0;
    for (int i = 0; i < 100; i++) {
        size = batcher_choose(b, &key, 8);
        batcher_note(b, &key, size, saturating(size) * (seen[size] ? 1 : 50));
        seen[size] = true;
    }
    assert_int_equal(size, 8);
    free(b);
}

static void keys_do_not_mix(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key small = key_of("m", 64), large = key_of("m", 128), other = key_of("n", 64), pair = small, half = small;
    pair.guidance_pair = true;
    snprintf(half.precision, sizeof half.precision, "f16");
    run(b, &small, saturating, 16, NO_LIMIT, 200, NULL);
    run(b, &large, linear, 16, NO_LIMIT, 200, NULL);
    assert_int_equal(batcher_choose(b, &small, 16), 8);
    assert_int_equal(batcher_choose(b, &large, 16), 1);
    assert_int_equal(batcher_choose(b, &other, 16), 1);
    assert_int_equal(batcher_choose(b, &pair, 16), 1);
    assert_int_equal(batcher_choose(b, &half, 16), 1);
    assert_true(batcher_seconds(b, &small, 4) > 0.139 && batcher_seconds(b, &small, 4) < 0.141);
    assert_true(batcher_seconds(b, &other, 4) == 0);
    /* More keys than it remembers: the oldest goes, and is learnt anew. */
    for (int i = 0; i < 2 * BATCHER_KEYS; i++) {
        batch_key k = key_of("many", 16 * (i + 1));
        run(b, &k, linear, 2, NO_LIMIT, 20, NULL);
    }
    assert_true(batcher_seconds(b, &small, 4) == 0);
    assert_int_equal(run(b, &small, saturating, 16, NO_LIMIT, 200, NULL), 8);
    free(b);
}

static void earlier_measurements_spare_the_trials(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    for (int size = 1; size <= 9; size++) batcher_prime(b, &key, size, saturating(size));
    assert_int_equal(batcher_choose(b, &key, 16), 8);
    batcher_note(b, &key, 1, 1.0);
    batcher_prime(b, &key, 1, 0.0);
    batcher_prime(b, &key, 0, 1.0);
    batcher_prime(b, &key, BATCHER_MAX + 1, 1.0);
    assert_int_equal(batcher_choose(b, &key, 16), 8);
    free(b);
}

static void a_fixed_size_is_kept_while_memory_allows(void **state) {
    (void)state;
    batcher *b = fresh();
    batch_key key = key_of("m", 64);
    b->fixed = 4;
    assert_int_equal(run(b, &key, linear, 16, NO_LIMIT, 50, NULL), 4);
    assert_int_equal(batcher_choose(b, &key, 3), 3);
    batcher_no_memory(b, &key, 3);
    assert_int_equal(batcher_choose(b, &key, 16), 2);
    run(b, &key, linear, 2, NO_LIMIT, BATCHER_RETRY + BATCHER_SAMPLES + 1, NULL);
    assert_int_equal(batcher_choose(b, &key, 16), 4);
    b->fixed = 1;
    assert_int_equal(run(b, &key, saturating, 16, NO_LIMIT, 50, NULL), 1);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_busy_machine_takes_one_at_a_time),
        cmocka_unit_test(an_idle_machine_fills_up),
        cmocka_unit_test(memory_ends_the_growth),
        cmocka_unit_test(what_was_given_up_is_tried_again_rarely),
        cmocka_unit_test(a_size_that_stops_paying_is_left),
        cmocka_unit_test(the_first_step_of_a_size_does_not_count),
        cmocka_unit_test(keys_do_not_mix),
        cmocka_unit_test(earlier_measurements_spare_the_trials),
        cmocka_unit_test(a_fixed_size_is_kept_while_memory_allows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
