/* Those who watch a task hear of it, and of no other; with its end, or once it will not start, each is told a last time and is gone; one
 * may leave at any time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/tasks/watches.h"

typedef struct listener {
    watch *watch;
    int changes, ends, given_up;
    bool leaves; /* at the first change */
} listener;

static void changed(void *context, const task *t, task_change what) {
    listener *l = context;
    assert_non_null(t);
    if (what == CHANGE_ENDED) l->ends++;
    else l->changes++;
    if (what == CHANGE_ENDED) l->watch = NULL;
    if (what != CHANGE_ENDED && l->leaves) watches_drop(l->watch);
}

static void given_up(void *context, task *t) {
    listener *l = context;
    assert_int_equal(t->status, TASK_QUEUED);
    l->given_up++;
}

static task *submit(queue_manager *q) {
    const task_request r = {.model = "demo", .prompt = "x", .precision = "auto", .width = 16, .height = 16, .steps = 1, .count = 1};
    task *t;
    error e;
    assert_true(queue_manager_submit_task(q, &r, PRIORITY_NORMAL, 1, &t, &e));
    return t;
}

static void listen(watches *w, const task *t, listener *l) {
    const watcher who = {l, changed, given_up};
    error e;
    assert_true(watches_add(w, t, &who, &l->watch, &e));
}

static void each_hears_of_its_task(void **state) {
    (void)state;
    const queue_limits limits = {.max_queued = 10, .max_active = 2, .keep_finished = 2};
    queue_manager *q;
    watches *w;
    error e;
    listener a = {0}, b = {0}, other = {0}, leaving = {.leaves = true}, left_open = {0};
    assert_true(queue_manager_new(&limits, &q, &e) && watches_new(q, &w, &e));
    task *one = submit(q), *two = submit(q);
    listen(w, one, &a);
    listen(w, one, &leaving);
    listen(w, two, &other);
    listen(w, one, &b);
    watches_changed(w, one, CHANGE_PROGRESS);
    watches_changed(w, one, CHANGE_PREVIEW);
    assert_true(a.changes == 2 && b.changes == 2 && leaving.changes == 1 && other.changes == 0);
    watches_changed(w, one, CHANGE_ENDED);
    watches_changed(w, one, CHANGE_ENDED);
    watches_changed(w, one, CHANGE_PROGRESS);
    assert_true(a.ends == 1 && b.ends == 1 && a.changes == 2 && leaving.ends == 0 && other.ends == 0);
    watches_give_up_queued(w);
    watches_give_up_queued(w);
    assert_true(other.given_up == 1 && a.given_up == 0);
    listen(w, two, &left_open); /* is freed with the rest */
    watches_drop(NULL);
    watches_free(w);
    queue_manager_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_hears_of_its_task)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
