/* The queue's promises: order by priority and then by submission, slots, tasks put back where they were, charges, cancelling, forgetting,
 * positions; and that all of it holds after any sequence of operations, compared with a naive model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/queue_manager.h"

static const queue_limits roomy = {.max_queued = 1000, .max_active = 2, .keep_finished = 1000};

static task_request request(const char *prompt) {
    return (task_request){
        .model = "demo", .prompt = prompt, .precision = "auto", .width = 64, .height = 64, .steps = 4, .count = 2, .seed = UINT64_MAX};
}

static task *submit(queue_manager *q, const char *prompt, task_priority p, int64_t now) {
    task_request r = request(prompt);
    task *t = NULL;
    error e;
    assert_true(queue_manager_submit_task(q, &r, p, now, &t, &e));
    return t;
}

static queue_manager *make(const queue_limits *limits) {
    queue_manager *q = NULL;
    error e;
    assert_true(queue_manager_new(limits, &q, &e));
    return q;
}

static void a_task_is_a_copy_of_the_request(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    char prompt[] = "a fox";
    task *t = submit(q, prompt, PRIORITY_NORMAL, 1000);
    prompt[0] = 'X';
    assert_string_equal(t->request.prompt, "a fox");
    assert_null(t->request.negative_prompt);
    assert_true(t->images[0].seed == UINT64_MAX);
    assert_true(t->images[1].seed == 0); /* seeds wrap around */
    assert_int_equal(t->status, TASK_QUEUED);
    assert_true(task_id_valid(t->id));
    assert_ptr_equal(queue_manager_find(q, t->id), t);
    assert_null(queue_manager_find(q, "00000000000000000000000000"));
    queue_manager_free(q);
}

static void ids_sort_by_time(void **state) {
    (void)state;
    const uint8_t zeros[10] = {0}, ones[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    char a[TASK_ID_BYTES], b[TASK_ID_BYTES];
    task_id_format(1700000000000, ones, a);
    task_id_format(1700000000001, zeros, b);
    assert_true(strcmp(a, b) < 0);
    assert_string_equal(a + 10, "ZZZZZZZZZZZZZZZZ");
    assert_string_equal(b + 10, "0000000000000000");
    task_id_format(0, zeros, a);
    assert_string_equal(a, "00000000000000000000000000");
    assert_false(task_id_valid("0000000000000000000000000"));   /* too short */
    assert_false(task_id_valid("000000000000000000000000000")); /* too long */
    assert_false(task_id_valid("0000000000000000000000000U"));  /* no such digit */
    assert_false(task_id_valid("../../../../../etc/passwd0"));
}

static void names_are_read_in_any_case_and_as_numbers(void **state) {
    (void)state;
    task_priority p;
    task_status s;
    assert_true(task_priority_parse("Urgent", &p) && p == PRIORITY_URGENT);
    assert_true(task_priority_parse("LOW", &p) && p == PRIORITY_LOW);
    assert_true(task_priority_parse("1", &p) && p == PRIORITY_HIGH);
    assert_false(task_priority_parse("4", &p));
    assert_false(task_priority_parse("", &p));
    assert_false(task_priority_parse("10", &p));
    assert_true(task_status_parse("cancelled", &s) && s == TASK_CANCELLED);
    assert_false(task_status_parse("done", &s));
}

static void better_priorities_go_first_then_older_tasks(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    task *low = submit(q, "low", PRIORITY_LOW, 1), *first = submit(q, "first", PRIORITY_NORMAL, 2),
         *second = submit(q, "second", PRIORITY_NORMAL, 2), *urgent = submit(q, "urgent", PRIORITY_URGENT, 3);
    assert_int_equal(queue_manager_position(q, urgent), 1);
    assert_int_equal(queue_manager_position(q, first), 2);
    assert_int_equal(queue_manager_position(q, second), 3);
    assert_int_equal(queue_manager_position(q, low), 4);
    error e;
    assert_true(queue_manager_set_priority(q, low, PRIORITY_URGENT, &e)); /* older than `urgent` */
    assert_ptr_equal(queue_manager_get_next_task(q), low);
    queue_manager_free(q);
}

static void slots_are_limited(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    for (int i = 0; i < 3; i++) submit(q, "x", PRIORITY_NORMAL, i);
    task *a = queue_manager_get_next_task(q);
    queue_manager_start(q, a, 10);
    task *b = queue_manager_get_next_task(q);
    assert_ptr_not_equal(a, b);
    queue_manager_start(q, b, 11);
    queue_manager_run(q, b);
    assert_int_equal(b->status, TASK_RUNNING);
    assert_int_equal(queue_manager_position(q, a), 0);
    assert_null(queue_manager_get_next_task(q));
    assert_int_equal(queue_manager_get_queue_stats(q).active, 2);
    queue_manager_complete(q, a, 12);
    assert_non_null(queue_manager_get_next_task(q));
    assert_int_equal(queue_manager_get_queue_stats(q).completed, 1);
    queue_manager_free(q);
}

static void a_full_queue_refuses(void **state) {
    (void)state;
    const queue_limits small = {.max_queued = 1, .max_active = 1, .keep_finished = 10};
    queue_manager *q = make(&small);
    task *t = submit(q, "x", PRIORITY_NORMAL, 1), *other = NULL;
    task_request r = request("y");
    error e;
    assert_false(queue_manager_submit_task(q, &r, PRIORITY_URGENT, 2, &other, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    queue_manager_start(q, t, 3); /* no longer waits */
    assert_true(queue_manager_submit_task(q, &r, PRIORITY_URGENT, 4, &other, &e));
    queue_manager_free(q);
}

static void a_task_put_back_has_its_old_place(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    task *a = submit(q, "a", PRIORITY_NORMAL, 1), *b = submit(q, "b", PRIORITY_NORMAL, 2);
    queue_manager_start(q, a, 5);
    a->images[0].stored = true;
    a->step = 3;
    queue_manager_put_back(q, a, false, "killed by SIGKILL", 6);
    assert_int_equal(a->status, TASK_QUEUED);
    assert_int_equal(a->charges, 0);
    assert_int_equal(a->step, 0);
    assert_int_equal(a->started_ms, 0);
    assert_true(a->images[0].stored);
    assert_int_equal(queue_manager_position(q, a), 1);
    assert_int_equal(queue_manager_position(q, b), 2);
    queue_manager_free(q);
}

static void the_third_charge_fails_the_task(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    task *t = submit(q, "x", PRIORITY_NORMAL, 1);
    for (int i = 1; i <= TASK_MAX_CHARGES; i++) {
        assert_int_equal(t->status, TASK_QUEUED);
        queue_manager_start(q, t, 5);
        queue_manager_put_back(q, t, false, "killed by SIGKILL", 6); /* costs nothing */
        queue_manager_start(q, t, 5);
        queue_manager_put_back(q, t, true, "killed by SIGSEGV", 6);
        assert_int_equal(t->charges, i);
    }
    assert_true(t->closing);
    assert_int_equal(t->status, TASK_LOADING); /* nobody sees the end before it is told */
    queue_manager_finish(q, t);
    assert_int_equal(t->status, TASK_FAILED);
    assert_non_null(strstr(t->failure.text, "killed by SIGSEGV"));
    assert_int_equal(queue_manager_get_queue_stats(q).failed, 1);
    queue_manager_free(q);
}

static void cancelling_depends_on_where_a_task_stands(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    task *queued = submit(q, "q", PRIORITY_LOW, 1), *running = submit(q, "r", PRIORITY_URGENT, 2);
    bool at_once = false;
    error e;
    assert_true(queue_manager_cancel_task(q, queued, 3, &at_once, &e));
    assert_true(at_once && queued->closing);
    assert_int_equal(queued->status, TASK_QUEUED);
    assert_int_equal(queue_manager_position(q, queued), 0);
    assert_ptr_equal(queue_manager_get_next_task(q), running);
    assert_true(queue_manager_cancel_task(q, queued, 4, &at_once, &e)); /* a second wish changes nothing */
    assert_true(at_once);
    queue_manager_finish(q, queued);
    assert_int_equal(queued->status, TASK_CANCELLED);
    assert_int_equal(queued->finished_ms, 3);
    assert_false(queue_manager_cancel_task(q, queued, 4, &at_once, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_false(queue_manager_set_priority(q, queued, PRIORITY_HIGH, &e));

    queue_manager_start(q, running, 5);
    assert_true(queue_manager_cancel_task(q, running, 6, &at_once, &e));
    assert_false(at_once);
    assert_int_equal(running->status, TASK_LOADING);
    /* Its engine dies before it could stop: it is not made again only to be thrown away. */
    queue_manager_put_back(q, running, true, "killed by SIGSEGV", 7);
    queue_manager_finish(q, running);
    assert_int_equal(running->status, TASK_CANCELLED);
    assert_int_equal(queue_manager_get_queue_stats(q).cancelled, 2);
    queue_manager_free(q);
}

static void old_finished_tasks_are_forgotten(void **state) {
    (void)state;
    const queue_limits forgetful = {.max_queued = 100, .max_active = 1, .keep_finished = 2};
    queue_manager *q = make(&forgetful);
    char ids[4][TASK_ID_BYTES];
    task *waiting = submit(q, "waits", PRIORITY_LOW, 0);
    for (int i = 0; i < 4; i++) {
        task *t = submit(q, "x", PRIORITY_NORMAL, i);
        memcpy(ids[i], t->id, TASK_ID_BYTES);
        queue_manager_start(q, t, i);
        queue_manager_complete(q, t, 100); /* all at the same millisecond */
    }
    assert_null(queue_manager_find(q, ids[0]));
    assert_null(queue_manager_find(q, ids[1]));
    assert_non_null(queue_manager_find(q, ids[2]));
    assert_non_null(queue_manager_find(q, ids[3]));
    assert_ptr_equal(queue_manager_find(q, waiting->id), waiting);
    assert_int_equal(queue_manager_get_queue_stats(q).completed, 4);
    queue_manager_free(q);
}

static void a_closing_task_keeps_its_first_end(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    task *t = submit(q, "x", PRIORITY_NORMAL, 1);
    error e;
    bool at_once = true;
    queue_manager_start(q, t, 2);
    queue_manager_run(q, t);
    queue_manager_close(q, t, TASK_COMPLETED, NULL, 3);
    assert_int_equal(t->status, TASK_RUNNING);
    assert_int_equal(queue_manager_get_queue_stats(q).completed, 0);
    assert_true(queue_manager_cancel_task(q, t, 4, &at_once, &e)); /* too late, as when the engine was faster */
    assert_false(at_once);
    assert_false(t->cancel_requested);
    error_set(&e, ERROR_INTERNAL, "no");
    queue_manager_close(q, t, TASK_FAILED, &e, 5);
    queue_manager_finish(q, t);
    assert_int_equal(t->status, TASK_COMPLETED);
    assert_int_equal(t->finished_ms, 3);
    assert_int_equal(t->failure.code, ERROR_NONE);
    assert_int_equal(queue_manager_get_queue_stats(q).active, 0);
    queue_manager_free(q);
}

static void a_prepared_task_has_its_place_but_is_not_there(void **state) {
    (void)state;
    const queue_limits small = {.max_queued = 2, .max_active = 1, .keep_finished = 10};
    queue_manager *q = make(&small);
    task_request r = request("x");
    task *first = NULL, *second = NULL, *third = NULL;
    error e;
    assert_true(queue_manager_prepare_task(q, &r, PRIORITY_NORMAL, 1, &first, &e));
    assert_true(queue_manager_prepare_task(q, &r, PRIORITY_NORMAL, 2, &second, &e));
    assert_false(queue_manager_prepare_task(q, &r, PRIORITY_NORMAL, 3, &third, &e)); /* they count */
    assert_int_equal(e.code, ERROR_BUSY);
    assert_null(queue_manager_find(q, first->id));
    assert_null(queue_manager_get_next_task(q));
    assert_int_equal(queue_manager_get_queue_stats(q).queued, 0);
    queue_manager_accept_task(q, second);
    assert_ptr_equal(queue_manager_get_next_task(q), second);
    queue_manager_accept_task(q, first);
    assert_ptr_equal(queue_manager_get_next_task(q), first);
    queue_manager_start(q, first, 4);
    assert_true(queue_manager_prepare_task(q, &r, PRIORITY_NORMAL, 5, &third, &e));
    queue_manager_discard_task(q, third);
    assert_true(queue_manager_prepare_task(q, &r, PRIORITY_NORMAL, 6, &third, &e));
    queue_manager_discard_task(q, third);
    queue_manager_free(q);
}

typedef struct heard {
    int changed, closing, final, forgotten;
} heard;

static void hear_changed(void *context, task *t) {
    heard *h = context;
    h->changed++;
    h->closing += t->closing;
    h->final += task_status_is_final(t->status);
}

static void hear_forgotten(void *context, task *t) {
    heard *h = context;
    assert_true(task_status_is_final(t->status));
    h->forgotten++;
}

static void every_change_is_told(void **state) {
    (void)state;
    const queue_limits forgetful = {.max_queued = 10, .max_active = 1, .keep_finished = 1};
    heard h = {0};
    const queue_hooks hooks = {&h, hear_changed, hear_forgotten};
    queue_manager *q = make(&forgetful);
    queue_manager_set_hooks(q, &hooks);
    error e;
    bool at_once;
    task *t = submit(q, "x", PRIORITY_NORMAL, 1);
    assert_int_equal(h.changed, 1);
    assert_true(queue_manager_set_priority(q, t, PRIORITY_HIGH, &e));
    queue_manager_start(q, t, 2);
    queue_manager_run(q, t);
    queue_manager_run(q, t); /* nothing new */
    assert_int_equal(h.changed, 4);
    queue_manager_put_back(q, t, true, "killed by SIGSEGV", 3);
    queue_manager_start(q, t, 4);
    assert_true(queue_manager_cancel_task(q, t, 5, &at_once, &e));
    assert_int_equal(h.changed, 7);
    queue_manager_cancelled(q, t, 6);
    assert_int_equal(h.changed, 9);
    assert_true(h.closing == 1 && h.final == 1 && h.forgotten == 0);
    t = submit(q, "y", PRIORITY_NORMAL, 7);
    assert_true(queue_manager_cancel_task(q, t, 8, &at_once, &e));
    queue_manager_finish(q, t);
    assert_int_equal(h.forgotten, 1);
    queue_manager_free(q);
}

static void finished_tasks_stand_in_the_order_of_their_ends(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    heard h = {0};
    const queue_hooks hooks = {&h, hear_changed, hear_forgotten};
    queue_manager_set_hooks(q, &hooks);
    task *a = submit(q, "a", PRIORITY_NORMAL, 1), *b = submit(q, "b", PRIORITY_NORMAL, 2), *c = submit(q, "c", PRIORITY_NORMAL, 3);
    assert_null(queue_manager_oldest_finished(q));
    queue_manager_cancelled(q, c, 4);
    queue_manager_cancelled(q, a, 5);
    queue_manager_cancelled(q, b, 6);
    assert_ptr_equal(queue_manager_oldest_finished(q), c);
    assert_ptr_equal(queue_manager_next_finished(c), a);
    assert_ptr_equal(queue_manager_next_finished(a), b);
    assert_null(queue_manager_next_finished(b));
    queue_manager_forget_task(q, a);
    assert_ptr_equal(queue_manager_next_finished(c), b);
    assert_int_equal(queue_manager_finished_count(q), 2);
    assert_int_equal(h.forgotten, 1);
    assert_ptr_equal(queue_manager_first(q), c);
    assert_ptr_equal(queue_manager_after(c), b);
    queue_manager_free(q);
}

static void restored_tasks_have_their_old_places(void **state) {
    (void)state;
    queue_manager *q = make(&roomy);
    const task_status was[] = {TASK_COMPLETED, TASK_RUNNING, TASK_QUEUED, TASK_FAILED};
    const uint8_t zeros[10] = {0};
    for (int i = 0; i < 4; i++) {
        task *t = calloc(1, sizeof *t);
        assert_non_null(t);
        task_id_format(i, zeros, t->id);
        t->request = request("x");
        t->status = was[i];
        t->priority = PRIORITY_NORMAL;
        t->sequence = (uint64_t)(10 + i);
        t->charges = 2;
        assert_true(queue_manager_restore_task(q, t, NULL));
    }
    queue_stats s = queue_manager_get_queue_stats(q);
    assert_true(s.queued == 2 && s.active == 0 && s.completed == 1 && s.failed == 1);
    task *next = queue_manager_get_next_task(q);
    assert_true(next->sequence == 11 && next->charges == 2 && next->status == TASK_QUEUED);
    task *later = submit(q, "y", PRIORITY_NORMAL, 100);
    assert_int_equal(later->sequence, 14);
    assert_int_equal(queue_manager_position(q, later), 3);
    queue_manager_free(q);
}

/* --- any sequence of operations --- */

enum { MODEL_TASKS = 400, KEPT = 7, QUEUED = 20, ACTIVE = 3 };

/* The model: a row a task ever submitted, everything computed anew from the rows. */
typedef struct row {
    char id[TASK_ID_BYTES];
    task_status status;
    task_priority priority;
    int finished; /* when, counting ends; 0 not yet */
    int charges;
    bool cancel_requested;
} row;

typedef struct model {
    row rows[MODEL_TASKS];
    int count, ends;
} model;

static uint32_t draw(uint64_t *random, uint32_t below) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % below;
}

static int count_status(const model *m, task_status from, task_status to) {
    int n = 0;
    for (int i = 0; i < m->count; i++) n += m->rows[i].status >= from && m->rows[i].status <= to;
    return n;
}

/* Kept are the KEPT that finished last. */
static bool forgotten(const model *m, const row *r) { return r->finished > 0 && r->finished <= m->ends - KEPT; }

static int next_row(const model *m) {
    int best = -1;
    if (count_status(m, TASK_LOADING, TASK_RUNNING) >= ACTIVE) return -1;
    for (int i = 0; i < m->count; i++)
        if (m->rows[i].status == TASK_QUEUED && (best < 0 || m->rows[i].priority < m->rows[best].priority)) best = i;
    return best;
}

static void end_row(model *m, row *r, task_status s) {
    r->status = s;
    r->finished = ++m->ends;
}

static void compare(queue_manager *q, const model *m) {
    queue_stats s = queue_manager_get_queue_stats(q);
    assert_int_equal(s.queued, count_status(m, TASK_QUEUED, TASK_QUEUED));
    assert_int_equal(s.active, count_status(m, TASK_LOADING, TASK_RUNNING));
    assert_int_equal(s.completed, count_status(m, TASK_COMPLETED, TASK_COMPLETED));
    assert_int_equal(s.failed, count_status(m, TASK_FAILED, TASK_FAILED));
    assert_int_equal(s.cancelled, count_status(m, TASK_CANCELLED, TASK_CANCELLED));
    task *next = queue_manager_get_next_task(q), *listed = queue_manager_first(q);
    int expected = next_row(m);
    assert_string_equal(next != NULL ? next->id : "", expected >= 0 ? m->rows[expected].id : "");
    for (int i = m->count - 1; i >= 0; i--) {
        const row *r = &m->rows[i];
        task *t = queue_manager_find(q, r->id);
        assert_true((t == NULL) == forgotten(m, r));
        if (t == NULL) continue;
        assert_ptr_equal(t, listed); /* newest first, nothing between */
        listed = queue_manager_after(t);
        assert_int_equal(t->status, r->status);
        assert_int_equal(t->charges, r->charges);
        size_t position = r->status == TASK_QUEUED;
        for (int n = 0; n < m->count && r->status == TASK_QUEUED; n++)
            position +=
                m->rows[n].status == TASK_QUEUED && (m->rows[n].priority < r->priority || (m->rows[n].priority == r->priority && n < i));
        assert_int_equal(queue_manager_position(q, t), position);
    }
    assert_null(listed);
}

static void submit_random(queue_manager *q, model *m, uint64_t *random, int64_t now) {
    if (m->count == MODEL_TASKS) return;
    task_request r = request("x");
    task_priority p = (task_priority)draw(random, 4);
    task *t = NULL;
    bool full = count_status(m, TASK_QUEUED, TASK_QUEUED) >= QUEUED;
    assert_true(queue_manager_submit_task(q, &r, p, now, &t, NULL) == !full);
    if (full) return;
    row *made = &m->rows[m->count++];
    *made = (row){.status = TASK_QUEUED, .priority = p};
    memcpy(made->id, t->id, TASK_ID_BYTES);
}

static void end_active(queue_manager *q, model *m, row *r, task *t, uint32_t how, int64_t now) {
    error why = {.code = ERROR_INTERNAL};
    if (how == 0) {
        queue_manager_complete(q, t, now);
        end_row(m, r, TASK_COMPLETED);
    } else if (how == 1) {
        queue_manager_fail(q, t, &why, now);
        end_row(m, r, TASK_FAILED);
    } else {
        bool charged = how == 2;
        if (r->cancel_requested) {
            end_row(m, r, TASK_CANCELLED);
        } else {
            r->charges += charged;
            r->status = TASK_QUEUED;
            if (charged && r->charges == TASK_MAX_CHARGES) end_row(m, r, TASK_FAILED);
        }
        queue_manager_put_back(q, t, charged, "x", now);
        if (t->closing) queue_manager_finish(q, t);
    }
}

static void act_on_random(queue_manager *q, model *m, uint64_t *random, uint32_t what, int64_t now) {
    if (m->count == 0) return;
    row *r = &m->rows[draw(random, (uint32_t)m->count)];
    task *t = queue_manager_find(q, r->id);
    if (t == NULL) return;
    bool final = task_status_is_final(r->status), at_once;
    if (what == 0) {
        task_priority p = (task_priority)draw(random, 4);
        assert_true(queue_manager_set_priority(q, t, p, NULL) == !final);
        if (!final) r->priority = p;
    } else if (what == 1) {
        assert_true(queue_manager_cancel_task(q, t, now, &at_once, NULL) == !final);
        if (final) return;
        assert_true(at_once == (r->status == TASK_QUEUED));
        r->cancel_requested = true;
        if (!at_once) return;
        end_row(m, r, TASK_CANCELLED);
        queue_manager_finish(q, t);
    } else if (task_status_holds_slot(r->status)) {
        end_active(q, m, r, t, draw(random, 4), now);
    }
}

static void any_sequence_agrees_with_the_model(void **state) {
    (void)state;
    const queue_limits limits = {.max_queued = QUEUED, .max_active = ACTIVE, .keep_finished = KEPT};
    static model m;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        queue_manager *q = make(&limits);
        uint64_t random = seed;
        m.count = m.ends = 0;
        for (int64_t now = 1; now <= 1500; now++) {
            uint32_t what = draw(&random, 8);
            task *t = what >= 5 ? queue_manager_get_next_task(q) : NULL;
            if (what < 2) {
                submit_random(q, &m, &random, now);
            } else if (what < 5) {
                act_on_random(q, &m, &random, what - 2, now);
            } else if (t != NULL) {
                m.rows[next_row(&m)].status = TASK_LOADING;
                queue_manager_start(q, t, now);
                if (what == 7) {
                    for (int i = 0; i < m.count; i++)
                        if (strcmp(m.rows[i].id, t->id) == 0) m.rows[i].status = TASK_RUNNING;
                    queue_manager_run(q, t);
                }
            }
            compare(q, &m);
        }
        assert_true(m.ends > KEPT); /* forgetting was tried */
        queue_manager_free(q);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_is_a_copy_of_the_request),
        cmocka_unit_test(ids_sort_by_time),
        cmocka_unit_test(names_are_read_in_any_case_and_as_numbers),
        cmocka_unit_test(better_priorities_go_first_then_older_tasks),
        cmocka_unit_test(slots_are_limited),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_task_put_back_has_its_old_place),
        cmocka_unit_test(the_third_charge_fails_the_task),
        cmocka_unit_test(cancelling_depends_on_where_a_task_stands),
        cmocka_unit_test(old_finished_tasks_are_forgotten),
        cmocka_unit_test(a_closing_task_keeps_its_first_end),
        cmocka_unit_test(a_prepared_task_has_its_place_but_is_not_there),
        cmocka_unit_test(every_change_is_told),
        cmocka_unit_test(finished_tasks_stand_in_the_order_of_their_ends),
        cmocka_unit_test(restored_tasks_have_their_old_places),
        cmocka_unit_test(any_sequence_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
