/* What the queue is built of: names and their numbers, tasks by id, deadlines, histograms, and the table of measured figures, each against
 * a naive reading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "models/flux_original.h"
#include "queue/deadlines.h"
#include "queue/histogram.h"
#include "queue/names.h"
#include "queue/profile_table.h"
#include "queue/task_index.h"

enum { MANY = 3000 };

static uint32_t draw(uint64_t *random, uint32_t below) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % below;
}

static void a_name_keeps_its_number_while_it_is_held(void **state) {
    (void)state;
    names *n = NULL;
    error e;
    assert_true(names_new(&n, &e));
    static uint32_t numbers[100];
    static int holds[100];
    uint64_t random = 7;
    for (int i = 0; i < 20000; i++) {
        int which = (int)draw(&random, 100);
        char text[16];
        snprintf(text, sizeof text, "name-%d", which);
        if (draw(&random, 2) == 0 && holds[which] > 0) {
            names_release(n, numbers[which]);
            holds[which]--;
            continue;
        }
        uint32_t number;
        bool fresh;
        assert_true(names_hold(n, text, &number, &fresh, &e));
        assert_true(fresh == (holds[which] == 0));
        assert_true(fresh || number == numbers[which]);
        numbers[which] = number;
        holds[which]++;
        assert_string_equal(names_text(n, number), text);
        assert_true(names_limit(n) <= 100); /* numbers are given out again */
    }
    for (int i = 0; i < 100; i++) {
        char text[16];
        uint32_t number;
        snprintf(text, sizeof text, "name-%d", i);
        assert_true(names_find(n, text, &number) == (holds[i] > 0));
    }
    names_free(n);
}

static void tasks_are_found_by_id(void **state) {
    (void)state;
    task *tasks = calloc(MANY, sizeof *tasks);
    bool *there = calloc(MANY, sizeof *there);
    task_index x = {0};
    uint64_t random = 3;
    assert_non_null(tasks);
    assert_non_null(there);
    for (uint32_t i = 0; i < MANY; i++) {
        uint8_t bytes[10] = {0};
        memcpy(bytes, &i, sizeof i);
        task_id_format(5, bytes, tasks[i].id);
    }
    for (int i = 0; i < 50000; i++) {
        uint32_t which = draw(&random, MANY);
        if (there[which]) {
            task_index_remove(&x, &tasks[which]);
        } else {
            assert_true(task_index_reserve(&x, 1, NULL));
            task_index_add(&x, &tasks[which]);
        }
        there[which] = !there[which];
        uint32_t other = draw(&random, MANY);
        assert_ptr_equal(task_index_find(&x, tasks[other].id), there[other] ? &tasks[other] : NULL);
    }
    for (int i = 0; i < MANY; i++) assert_ptr_equal(task_index_find(&x, tasks[i].id), there[i] ? &tasks[i] : NULL);
    task_index_free(&x);
    free(tasks);
    free(there);
}

static void the_earliest_deadline_is_first(void **state) {
    (void)state;
    enum { SOME = 200 };
    static task tasks[SOME];
    bool there[SOME] = {false};
    deadlines d = {0};
    uint64_t random = 11;
    for (int i = 0; i < 20000; i++) {
        uint32_t which = draw(&random, SOME);
        if (there[which]) {
            deadlines_remove(&d, &tasks[which]);
        } else {
            tasks[which].request.deadline_ms = draw(&random, 500); /* 0: none */
            assert_true(deadlines_reserve(&d, 1, NULL));
            deadlines_add(&d, &tasks[which]);
        }
        there[which] = !there[which];
        int64_t earliest = 0;
        for (int n = 0; n < SOME; n++) {
            int64_t at = there[n] ? tasks[n].request.deadline_ms : 0;
            if (at != 0 && (earliest == 0 || at < earliest)) earliest = at;
        }
        task *first = deadlines_first(&d);
        assert_true((first != NULL ? first->request.deadline_ms : 0) == earliest);
    }
    deadlines_free(&d);
}

static void buckets_include_those_before(void **state) {
    (void)state;
    histogram h = {0};
    histogram_add(&h, 0.02);
    histogram_add(&h, 0.03);
    histogram_add(&h, 1e9);
    histogram_add(&h, -5);
    assert_int_equal(h.count, 4);
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t expected = histogram_bounds[i] < 0.03 ? 1 : 3;
        assert_int_equal(h.at_most[i], expected);
        assert_true(i == 0 || histogram_bounds[i] > histogram_bounds[i - 1]);
    }
    assert_float_equal(h.sum, 1e9 + 0.05, 1e-3);
}

static task_request request(const char *model, int side, int steps) {
    return (task_request){.model = model, .precision = "auto", .width = side, .height = side, .steps = steps, .count = 1};
}

static void figures_are_means_that_forget(void **state) {
    (void)state;
    profile_table *p = NULL;
    assert_true(profile_table_new(&p, NULL));
    char shape[TASK_SHAPE_BYTES];
    task_request r = request("demo", 64, 10);
    task_shape(&r, 1, shape);
    assert_string_equal(shape, "demo|auto|64x64|single|1");
    assert_null(profile_table_find(p, shape));
    profile_table_learn(p, shape, &(profile){.step_seconds = 1, .peak_bytes = 50});
    profile_table_learn(p, shape, &(profile){.step_seconds = 2, .decode_seconds = 4, .peak_bytes = 40});
    const profile *found = profile_table_find(p, shape);
    assert_float_equal(found->step_seconds, 1.3, 1e-9);
    assert_float_equal(found->decode_seconds, 4, 1e-9); /* nothing was said before */
    assert_int_equal(found->peak_bytes, 50);
    for (int i = 0; i < 40; i++) profile_table_learn(p, shape, &(profile){.step_seconds = 3});
    assert_float_equal(profile_table_find(p, shape)->step_seconds, 3, 1e-3);
    profile_table_restore(p, shape, &(profile){.step_seconds = 7});
    assert_float_equal(profile_table_find(p, shape)->step_seconds, 7, 1e-9);
    profile_table_learn(p, "nonsense", &(profile){.step_seconds = 1}); /* no shape, but no harm */
    profile_table_learn(p, "a|b|0x0|single|1", &(profile){.step_seconds = 1});
    profile_table_free(p);
}

/* What strength leaves out is no work, and counts as done from the first step on; as many are left out as the engine leaves out. */
static void steps_that_are_left_out_are_no_work(void **state) {
    (void)state;
    for (int steps = 1; steps <= 50; steps++)
        for (int percent = 1; percent <= 100; percent++) {
            task_request r = request("demo", 64, steps);
            r.strength = percent / 100.0;
            assert_int_equal(task_steps_run(&r), steps); /* without a picture it means nothing */
            r.image = "id";
            assert_int_equal(task_steps_run(&r), steps - flux_original_first_step(steps, r.strength));
        }
    task t = {.request = request("demo", 64, 20), .steps = 20};
    double whole = task_step_pixels(&t.request);
    t.request.image = "id";
    t.request.strength = 0.5;
    t.request.count = 2;
    assert_float_equal(task_step_pixels(&t.request), whole, 1e-9); /* two halves */
    assert_float_equal(task_done_fraction(&t), 0, 1e-9);
    t.step = 10;
    assert_float_equal(task_done_fraction(&t), 0, 1e-9);
    t.step = 15;
    assert_float_equal(task_done_fraction(&t), 0.25, 1e-9);
    t.image = 1;
    t.step = 10;
    assert_float_equal(task_done_fraction(&t), 0.5, 1e-9);
    t.step = 20;
    assert_float_equal(task_done_fraction(&t), 1, 1e-9);
    const task_estimate e = {.encode_seconds = 1, .step_seconds = 2, .decode_seconds = 3};
    assert_float_equal(task_estimate_seconds(&e, &t.request), 1 + 2 * (10 * 2 + 3), 1e-9);
}

static void unknown_shapes_are_estimated_by_their_pixels(void **state) {
    (void)state;
    profile_table *p = NULL;
    task_estimate e;
    assert_true(profile_table_new(&p, NULL));
    task_request r = request("dev", 128, 10), other = request("schnell", 64, 10), pair = request("dev", 64, 10);
    pair.negative_prompt = "blurry";
    pair.true_cfg_scale = 2;
    assert_false(profile_table_estimate(p, &r, &e));
    profile_table_learn(p, "dev|auto|64x64|single|1", &(profile){.step_seconds = 2, .encode_seconds = 1, .decode_seconds = 3});
    assert_true(profile_table_estimate(p, &r, &e));
    assert_float_equal(e.step_seconds, 8, 1e-9);
    assert_float_equal(e.decode_seconds, 12, 1e-9);
    assert_float_equal(task_estimate_seconds(&e, &r), 1 + 10 * 8 + 12, 1e-9);
    assert_true(profile_table_estimate(p, &pair, &e));
    assert_float_equal(e.step_seconds, 4, 1e-9);
    assert_true(profile_table_estimate(p, &other, &e)); /* another model: better than nothing */
    assert_float_equal(e.step_seconds, 2, 1e-9);
    profile_table_learn(p, "schnell|auto|64x64|single|4", &(profile){.step_seconds = 4}); /* four images in a step */
    assert_true(profile_table_estimate(p, &other, &e));
    assert_float_equal(e.step_seconds, 1, 1e-9);
    assert_true(profile_table_work(p, &other) < profile_table_work(p, &pair));
    profile_table_free(p);
}

static void the_table_is_bounded(void **state) {
    (void)state;
    profile_table *p = NULL;
    assert_true(profile_table_new(&p, NULL));
    char shape[64];
    const char *name;
    for (int i = 0; i < PROFILE_TABLE_MAX + 100; i++) {
        snprintf(shape, sizeof shape, "m%d|auto|64x64|single|1", i);
        profile_table_learn(p, shape, &(profile){.step_seconds = 1 + i});
        profile_table_learn(p, "m0|auto|64x64|single|1", &(profile){.step_seconds = 1});
    }
    assert_int_equal(profile_table_count(p), PROFILE_TABLE_MAX);
    assert_non_null(profile_table_find(p, "m0|auto|64x64|single|1")); /* learnt again and again */
    assert_null(profile_table_find(p, "m1|auto|64x64|single|1"));
    for (size_t i = 0; i < profile_table_count(p); i++) {
        const profile *at = profile_table_at(p, i, &name);
        assert_ptr_equal(at, profile_table_find(p, name));
        assert_float_equal(at->step_seconds, 1 + atoi(name + 1), 1e-9);
    }
    profile_table_free(p);
}

static void requests_that_differ_share_no_steps(void **state) {
    (void)state;
    task_request a = request("demo", 64, 10), b = a;
    b.steps = 20; /* step indices may differ */
    b.seed = 7;
    b.prompt = "other";
    assert_true(task_batch_key(&a) == task_batch_key(&b));
    b = a;
    b.width = 128;
    assert_true(task_batch_key(&a) != task_batch_key(&b));
    b = a;
    b.max_sequence_length = 256;
    assert_true(task_batch_key(&a) != task_batch_key(&b));
    b = a;
    b.negative_prompt = "x";
    assert_true(task_batch_key(&a) == task_batch_key(&b)); /* it has no effect without true_cfg_scale */
    b.true_cfg_scale = 4;
    assert_true(task_batch_key(&a) != task_batch_key(&b));
    b = a;
    b.precision = "f32";
    assert_true(task_batch_key(&a) != task_batch_key(&b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_keeps_its_number_while_it_is_held),
        cmocka_unit_test(tasks_are_found_by_id),
        cmocka_unit_test(the_earliest_deadline_is_first),
        cmocka_unit_test(buckets_include_those_before),
        cmocka_unit_test(figures_are_means_that_forget),
        cmocka_unit_test(steps_that_are_left_out_are_no_work),
        cmocka_unit_test(unknown_shapes_are_estimated_by_their_pixels),
        cmocka_unit_test(the_table_is_bounded),
        cmocka_unit_test(requests_that_differ_share_no_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
