/* The policy's rules one by one, with their reasons (test_policy_simulation holds them all together), and how the queue manager serves
 * them: keys' shares over many tasks, deadlines, suspending, estimates, Retry-After. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "queue/policy.h"
#include "queue/queue_manager.h"

static const queue_limits limits = {
    .max_queued = 1000, .max_active = 1, .keep_finished = 1000, .max_suspended = 2, .age_ms = 1000, .affinity_ms = 500};
static const queue_situation ready = {.engine_ready = true, .can_suspend = true};

static queue_manager *make(const queue_limits *l) {
    queue_manager *q = NULL;
    error e;
    assert_true(queue_manager_new(l, &q, &e));
    return q;
}

typedef struct kind {
    const char *owner, *model;
    int side, steps;
    int64_t deadline_ms;
    task_priority priority;
} kind;

static task *submit(queue_manager *q, kind k, int64_t now) {
    task *t = NULL;
    const task_request r = {.model = k.model != NULL ? k.model : "demo",
                            .prompt = "x",
                            .precision = "auto",
                            .width = k.side > 0 ? k.side : 64,
                            .height = 64,
                            .steps = k.steps > 0 ? k.steps : 4,
                            .count = 1,
                            .owner = k.owner,
                            .deadline_ms = k.deadline_ms};
    assert_true(queue_manager_submit_task(q, &r, k.priority, now, &t, NULL));
    return t;
}

static queue_decision decide(queue_manager *q, int64_t now) {
    queue_decision d;
    queue_manager_decide(q, &ready, now, &d);
    return d;
}

static task *start_next(queue_manager *q, int64_t now) {
    queue_decision d = decide(q, now);
    assert_int_equal(d.action, POLICY_ADMIT);
    queue_manager_start(q, d.task, now);
    queue_manager_run(q, d.task);
    return d.task;
}

static void waiting_raises_by_one_class_at_a_time(void **state) {
    (void)state;
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 0, 999, 1000), RANK_LOW);
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 0, 1000, 1000), RANK_NORMAL);
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 0, 2000, 1000), RANK_HIGH);
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 0, 3000, 1000), RANK_OVERDUE);
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 0, INT64_MAX, 1000), RANK_OVERDUE);
    assert_int_equal(policy_rank_of(PRIORITY_NORMAL, 0, 1999, 1000), RANK_HIGH);
    assert_int_equal(policy_rank_of(PRIORITY_HIGH, 0, 1000, 1000), RANK_OVERDUE);
    assert_int_equal(policy_rank_of(PRIORITY_URGENT, 0, 1000000, 1000), RANK_URGENT);
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 0, 1000000, 0), RANK_LOW);
    assert_int_equal(policy_rank_of(PRIORITY_LOW, 5000, 10, 1000), RANK_LOW); /* the clock was set back */
}

static void an_old_low_task_goes_before_a_new_high_one(void **state) {
    (void)state;
    queue_manager *q = make(&limits);
    task *low = submit(q, (kind){.priority = PRIORITY_LOW}, 1);
    task *high = submit(q, (kind){.priority = PRIORITY_HIGH}, 1500);
    queue_decision d = decide(q, 1500);
    assert_ptr_equal(d.task, high);
    d = decide(q, 3001);
    assert_ptr_equal(d.task, low);
    assert_non_null(strstr(d.reason, "first of overdue, risen from low by waiting 3.0 s"));
    queue_manager_free(q);
}

static void overdue_keys_take_turns(void **state) {
    (void)state;
    queue_manager *q = make(&limits);
    task *first = submit(q, (kind){.owner = "anna", .priority = PRIORITY_HIGH}, 1);
    task *second = submit(q, (kind){.owner = "anna", .priority = PRIORITY_HIGH}, 2);
    task *other = submit(q, (kind){.owner = "ben", .priority = PRIORITY_HIGH}, 3);
    task *order[] = {first, other, second};
    for (int i = 0; i < 3; i++) {
        task *t = start_next(q, 5000 + i);
        assert_ptr_equal(t, order[i]);
        queue_manager_complete(q, t, 5000 + i);
    }
    queue_manager_free(q);
}

/* A key whose pictures are four times as large gets a quarter of the turns, however many it has sent; and one that comes late has no claim
 * to the past. */
static void service_is_shared_by_work(void **state) {
    (void)state;
    queue_limits ageless = limits;
    ageless.age_ms = 0;
    queue_manager *q = make(&ageless);
    int large = 0, small = 0, late = 0;
    for (int i = 0; i < 60; i++) submit(q, (kind){.owner = "large", .side = 256, .priority = PRIORITY_NORMAL}, i);
    for (int i = 0; i < 60; i++) submit(q, (kind){.owner = "small", .side = 64, .priority = PRIORITY_NORMAL}, 100 + i);
    for (int i = 0; i < 25; i++) {
        task *t = start_next(q, 1000);
        large += strcmp(t->request.owner, "large") == 0;
        queue_manager_complete(q, t, 1000);
    }
    assert_in_range(large, 4, 6);
    for (int i = 0; i < 60; i++) submit(q, (kind){.owner = "late", .side = 64, .priority = PRIORITY_NORMAL}, 2000 + i);
    for (int i = 0; i < 18; i++) {
        task *t = start_next(q, 3000);
        late += strcmp(t->request.owner, "late") == 0;
        small += strcmp(t->request.owner, "small") == 0;
        queue_manager_complete(q, t, 3000);
    }
    assert_in_range(late, 7, 10);
    assert_in_range(small, 6, 9);
    queue_manager_free(q);
}

/* Somebody who asks for one picture after the other, never two at once, gets no more than who has sent all at once. */
static void asking_one_at_a_time_wins_nothing(void **state) {
    (void)state;
    queue_limits ageless = limits;
    ageless.age_ms = 0;
    queue_manager *q = make(&ageless);
    int single = 0;
    bool there = false;
    for (int i = 0; i < 60; i++) submit(q, (kind){.owner = "many", .priority = PRIORITY_NORMAL}, i);
    for (int i = 0; i < 40; i++) {
        if (!there) submit(q, (kind){.owner = "single", .priority = PRIORITY_NORMAL}, 1000 + i);
        task *t = start_next(q, 1000 + i);
        there = strcmp(t->request.owner, "single") != 0;
        single += !there;
        queue_manager_complete(q, t, 1000 + i);
    }
    assert_in_range(single, 18, 22);
    queue_manager_free(q);
}

static void the_loaded_model_goes_first_for_so_long(void **state) {
    (void)state;
    queue_manager *q = make(&limits);
    const char *const loaded[] = {"dev"};
    queue_manager_set_loaded(q, loaded, 1);
    task *older = submit(q, (kind){.model = "schnell", .priority = PRIORITY_LOW}, 10000);
    task *newer[3];
    for (int i = 0; i < 3; i++) newer[i] = submit(q, (kind){.model = "dev", .priority = PRIORITY_LOW}, 10001);
    queue_decision d = decide(q, 10002);
    assert_ptr_equal(d.task, newer[0]);
    assert_ptr_equal(d.passed, older);
    assert_non_null(strstr(d.reason, "its model is loaded"));
    queue_manager_start(q, d.task, 10002);
    queue_manager_complete(q, d.task, 10501);
    assert_ptr_equal(decide(q, 10501).task, newer[1]);
    assert_ptr_equal(decide(q, 10502).task, older); /* 500 ms after it first gave way */
    assert_null(decide(q, 10502).passed);
    task *high = submit(q, (kind){.model = "schnell", .priority = PRIORITY_HIGH}, 10502);
    assert_ptr_equal(decide(q, 10502).task, high); /* never across classes */
    queue_manager_free(q);
}

static void tasks_that_can_share_steps_go_first(void **state) {
    (void)state;
    queue_limits two = limits;
    two.max_active = 2;
    queue_manager *q = make(&two);
    submit(q, (kind){.side = 128, .priority = PRIORITY_NORMAL}, 1);
    start_next(q, 2);
    submit(q, (kind){.side = 256, .priority = PRIORITY_NORMAL}, 3);
    task *alike = submit(q, (kind){.side = 128, .priority = PRIORITY_NORMAL}, 4);
    queue_decision d = decide(q, 5);
    assert_ptr_equal(d.task, alike);
    assert_non_null(strstr(d.reason, "share steps"));
    queue_manager_free(q);
}

static void an_urgent_task_suspends_the_last_of_the_lowest(void **state) {
    (void)state;
    queue_limits three = limits;
    three.max_active = 3;
    three.age_ms = 0;
    queue_manager *q = make(&three);
    task *high = submit(q, (kind){.priority = PRIORITY_HIGH}, 1), *low = submit(q, (kind){.priority = PRIORITY_LOW}, 1),
         *later = submit(q, (kind){.priority = PRIORITY_LOW}, 2);
    for (int i = 0; i < 3; i++) start_next(q, 3 + i);
    later->step = 3;
    task *urgent = submit(q, (kind){.priority = PRIORITY_URGENT}, 10);
    queue_decision d = decide(q, 11);
    assert_int_equal(d.action, POLICY_SUSPEND);
    assert_ptr_equal(d.task, later);
    queue_manager_suspend_task(q, later, 11);
    assert_true(later->status == TASK_QUEUED && later->suspended && later->step == 3);
    assert_ptr_equal(start_next(q, 12), urgent);
    assert_int_equal(queue_manager_position(q, later), 1);

    /* It goes on before others of its class, but after better ones. */
    submit(q, (kind){.priority = PRIORITY_LOW}, 0);
    task *normal = submit(q, (kind){.priority = PRIORITY_NORMAL}, 13);
    queue_manager_complete(q, urgent, 20);
    assert_ptr_equal(start_next(q, 20), normal);
    queue_manager_complete(q, normal, 21);
    d = decide(q, 21);
    assert_int_equal(d.action, POLICY_RESUME);
    assert_ptr_equal(d.task, later);
    queue_manager_resume_task(q, later, 21);
    assert_true(later->status == TASK_RUNNING && !later->suspended && later->step == 3);
    assert_true(low->status == TASK_RUNNING && high->status == TASK_RUNNING);

    /* What is through with its steps, or is being cancelled, is not suspended; nor more than may be. */
    bool at_once;
    queue_manager_through(q, later);
    assert_true(queue_manager_cancel_task(q, low, 22, &at_once, NULL) && !at_once);
    assert_int_equal(decide(q, 22).action, POLICY_CANCEL);
    queue_manager_cancel_told(q, low);
    submit(q, (kind){.priority = PRIORITY_URGENT}, 23);
    d = decide(q, 23);
    assert_true(d.action == POLICY_SUSPEND && d.task == high);
    const queue_situation cannot = {.engine_ready = true};
    queue_manager_decide(q, &cannot, 23, &d);
    assert_int_equal(d.action, POLICY_NONE);
    assert_non_null(strstr(d.reason, "no task that runs can be suspended"));
    queue_manager_free(q);
}

static void a_task_waits_for_the_memory_it_needs(void **state) {
    (void)state;
    queue_limits two = limits;
    two.max_active = 2;
    queue_manager *q = make(&two);
    profile_table_learn(queue_manager_profiles(q), "demo|auto|256x64|single|1", &(profile){.peak_bytes = 3 << 20});
    task *running = submit(q, (kind){.priority = PRIORITY_NORMAL}, 1);
    start_next(q, 2);
    task *large = submit(q, (kind){.side = 256, .priority = PRIORITY_NORMAL}, 3);
    submit(q, (kind){.priority = PRIORITY_NORMAL}, 4); /* could share steps, but may not overtake what waits for memory by being small */
    queue_situation little = {.engine_ready = true, .available_bytes = 2 << 20};
    queue_decision d;
    queue_manager_set_loaded(q, NULL, 0);
    queue_manager_through(q, running);
    queue_manager_decide(q, &little, 5, &d);
    assert_int_equal(d.action, POLICY_NONE);
    assert_non_null(strstr(d.reason, "needs 3 MB, and 2 MB are there"));
    queue_manager_complete(q, running, 6);
    queue_manager_decide(q, &little, 6, &d);
    assert_ptr_equal(d.task, large); /* alone it may try */
    queue_manager_free(q);
}

static void deadlines_are_decided_in_their_order(void **state) {
    (void)state;
    queue_manager *q = make(&limits);
    task *late = submit(q, (kind){.deadline_ms = 900, .priority = PRIORITY_NORMAL}, 1);
    task *early = submit(q, (kind){.deadline_ms = 300, .priority = PRIORITY_NORMAL}, 1);
    submit(q, (kind){.priority = PRIORITY_NORMAL}, 1);
    task *gone = submit(q, (kind){.deadline_ms = 200, .priority = PRIORITY_NORMAL}, 1);
    bool at_once;
    error why;
    assert_true(queue_manager_cancel_task(q, gone, 2, &at_once, NULL) && at_once);
    queue_manager_finish(q, gone);
    assert_int_equal(queue_manager_next_deadline(q), 300);
    start_next(q, 3);
    const queue_situation away = {.engine_ready = false};
    queue_decision d;
    queue_manager_decide(q, &away, 299, &d);
    assert_int_equal(d.action, POLICY_NONE);
    queue_manager_decide(q, &away, 300, &d); /* with no engine at all */
    assert_true(d.action == POLICY_EXPIRE && d.task == early);
    queue_manager_expired(early, &why);
    assert_int_equal(why.code, ERROR_TIMEOUT);
    queue_manager_fail(q, early, &why, 300);
    assert_int_equal(queue_manager_next_deadline(q), 900);
    d = decide(q, 2000);
    assert_true(d.action == POLICY_EXPIRE && d.task == late);
    queue_manager_expired(late, &why);
    assert_non_null(strstr(why.text, "still running"));
    queue_manager_fail(q, late, &why, 2000);
    assert_int_equal(queue_manager_next_deadline(q), 0);
    queue_manager_free(q);
}

static void two_reasons_to_pause_do_not_undo_each_other(void **state) {
    (void)state;
    queue_manager *q = make(&limits);
    submit(q, (kind){.priority = PRIORITY_URGENT}, 1);
    queue_manager_pause(q, "lunch");
    queue_manager_hold(q, "the disk is full");
    assert_string_equal(queue_manager_pause_reason(q), "the disk is full");
    queue_manager_release(q);
    assert_true(queue_manager_paused(q) && queue_manager_paused_by_operator(q));
    assert_string_equal(queue_manager_pause_reason(q), "lunch");
    assert_int_equal(decide(q, 2).action, POLICY_NONE);
    assert_null(queue_manager_peek_task(q));
    assert_int_equal(queue_manager_retry_after(q, 2), 120);
    queue_manager_hold(q, NULL);
    queue_manager_resume(q);
    assert_int_equal(decide(q, 2).action, POLICY_NONE);
    queue_manager_release(q);
    assert_int_equal(decide(q, 2).action, POLICY_ADMIT);
    assert_string_equal(queue_manager_pause_reason(q), "");
    queue_manager_free(q);
}

static void retry_after_follows_the_throughput(void **state) {
    (void)state;
    queue_manager *q = make(&limits);
    assert_int_equal(queue_manager_retry_after(q, 1), 5); /* nobody knows */
    int64_t now = 1000;
    for (int i = 0; i < 20; i++, now += 10000) {
        submit(q, (kind){.priority = PRIORITY_NORMAL}, now);
        queue_manager_complete(q, start_next(q, now), now);
    }
    now -= 10000;
    for (int i = 0; i < 20; i++) { /* places that become free bring the turns nearer */
        submit(q, (kind){.priority = PRIORITY_NORMAL}, now);
    }
    int first = queue_manager_retry_after(q, now), second = queue_manager_retry_after(q, now);
    assert_in_range(first, 9, 11);
    assert_in_range(second, 19, 21); /* the next client's place is the next to become free */
    for (int i = 0; i < 50; i++) queue_manager_retry_after(q, now);
    assert_int_equal(queue_manager_retry_after(q, now), 120);
    queue_manager_free(q);
}

static void estimates_add_up(void **state) {
    (void)state;
    queue_limits ageless = limits;
    ageless.age_ms = 0;
    queue_manager *q = make(&ageless);
    double seconds;
    task *running = submit(q, (kind){.steps = 10, .priority = PRIORITY_NORMAL}, 1000);
    assert_false(queue_manager_eta(q, running, 1000, &seconds)); /* nothing was learnt */
    profile_table_learn(queue_manager_profiles(q), "demo|auto|64x64|single|1",
                        &(profile){.load_seconds = 5, .encode_seconds = 1, .step_seconds = 2, .decode_seconds = 1});
    const char *const loaded[] = {"demo"};
    queue_manager_set_loaded(q, loaded, 1);
    start_next(q, 1000);
    running->step = 5; /* half of 22 seconds is left */
    task *next = submit(q, (kind){.steps = 10, .priority = PRIORITY_NORMAL}, 1000);
    task *twice = submit(q, (kind){.side = 128, .steps = 10, .priority = PRIORITY_NORMAL}, 1000); /* of a shape that nobody knows */
    assert_true(queue_manager_eta(q, running, 1000, &seconds));
    assert_float_equal(seconds, 11, 0.01);
    assert_true(queue_manager_eta(q, next, 1000, &seconds));
    assert_float_equal(seconds, 33, 0.01);
    assert_true(queue_manager_eta(q, twice, 1000, &seconds));
    assert_float_equal(seconds, 33 + 1 + 2 * (20 + 1), 0.01);
    assert_true(queue_manager_eta(q, next, 1500, &seconds));
    assert_float_equal(seconds, 32.5, 0.01);
    queue_manager_pause(q, NULL);
    assert_false(queue_manager_eta(q, next, 1500, &seconds));
    assert_true(queue_manager_eta(q, running, 1500, &seconds));
    queue_manager_free(q);
}

/* Ten thousand tasks: every position is given out once, in an order that agrees with the policy at its front. */
static void positions_of_a_long_queue(void **state) {
    (void)state;
    enum { MANY = 10000 };
    queue_limits long_one = limits;
    long_one.max_queued = MANY;
    long_one.age_ms = 300000;
    queue_manager *q = make(&long_one);
    static bool taken[MANY + 1];
    char owner[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(owner, sizeof owner, "key-%d", i % 300);
        submit(q, (kind){.owner = owner, .side = 64 + 64 * (i % 2), .priority = (task_priority)(1 + i % 3)}, i);
    }
    memset(taken, 0, sizeof taken);
    for (const task *t = queue_manager_first(q); t != NULL; t = queue_manager_after(t)) {
        size_t position = queue_manager_position(q, t);
        assert_in_range(position, 1, MANY);
        assert_false(taken[position]);
        taken[position] = true;
    }
    for (size_t i = 1; i <= 200; i++) {
        task *t = queue_manager_get_next_task(q);
        assert_int_equal(t->place.position, i);
        queue_manager_start(q, t, MANY);
        queue_manager_complete(q, t, MANY);
    }
    queue_manager_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_raises_by_one_class_at_a_time),
        cmocka_unit_test(an_old_low_task_goes_before_a_new_high_one),
        cmocka_unit_test(overdue_keys_take_turns),
        cmocka_unit_test(service_is_shared_by_work),
        cmocka_unit_test(asking_one_at_a_time_wins_nothing),
        cmocka_unit_test(the_loaded_model_goes_first_for_so_long),
        cmocka_unit_test(tasks_that_can_share_steps_go_first),
        cmocka_unit_test(an_urgent_task_suspends_the_last_of_the_lowest),
        cmocka_unit_test(a_task_waits_for_the_memory_it_needs),
        cmocka_unit_test(deadlines_are_decided_in_their_order),
        cmocka_unit_test(two_reasons_to_pause_do_not_undo_each_other),
        cmocka_unit_test(retry_after_follows_the_throughput),
        cmocka_unit_test(estimates_add_up),
        cmocka_unit_test(positions_of_a_long_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
