/* The database of tasks when memory runs out: opening, reading rows back, copying and handing over; each allocation of ours fails in
 * turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "fault.h"
#include "queue/task_store.h"

typedef struct work {
    char path[96];
    int taken;
} work;

static task some_task(void) {
    task t = {.id = "0123456789ABCDEFGHJKMNPQRS",
              .status = TASK_FAILED,
              .request = {.model = "demo", .prompt = "a fox", .negative_prompt = "blurry", .precision = "auto", .owner = "alice", .idempotency_key = "k"}};
    t.request.width = t.request.height = 64;
    t.request.steps = t.request.count = t.request.max_sequence_length = 1;
    error_set(&t.failure, ERROR_INTERNAL, "no");
    return t;
}

static void take(void *context, task *t) {
    work *w = context;
    w->taken++;
    arena_free(&t->memory);
    free(t);
}

static void refuse(void *context, const error *why) {
    (void)context;
    fail_msg("%s", why->text); /* no row is bad: memory is what lacks */
}

static bool database_work(void *context, error *e) {
    work *w = context;
    task_database *db = NULL;
    task_database_report report;
    const task_database_reader reader = {w, take, refuse};
    const task t = some_task();
    w->taken = 0;
    bool ok = task_database_open(w->path, &report, &db, e) && task_database_begin(db, e) && task_database_put_task(db, &t, e) &&
              task_database_commit(db, e) && task_database_read_tasks(db, &reader, e);
    assert_string_equal(report.moved_to, ""); /* lack of memory is not taken for damage */
    assert_true(!ok || w->taken == 1);
    task_database_close(db);
    return ok;
}

static bool store_work(void *context, error *e) {
    work *w = context;
    task_store *s = NULL;
    task_database_report report;
    const task_store_options options = {.path = w->path};
    const task_store_readers readers = {.tasks = {w, take, refuse}};
    const task t = some_task();
    const stored_webhook m = {"m-1", t.id, "http://a.example/", "{}", 0, 1};
    /* What the writer's thread does with these allocates nothing of ours: one thread at a time is counted. */
    bool ok = task_store_open(&options, &readers, &report, &s, e) && task_store_put_webhook(s, &m, e) &&
              task_store_put_gone_webhook(s, m.url, e) && task_store_delete_webhook(s, m.id, e);
    task_store_free(s);
    return ok;
}

static bool copy_work(void *context, error *e) {
    (void)context;
    const task t = some_task();
    task copy;
    bool ok = task_copy(&t, &copy, e);
    arena_free(&copy.memory);
    return ok;
}

static void each_allocation(void **state) {
    (void)state;
    work w;
    char folder[] = "/tmp/imagined-fault-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    snprintf(w.path, sizeof w.path, "%s/imagined.db", folder);
    assert_true(fault_fail_each(database_work, &w) >= 3);
    assert_true(fault_fail_each(store_work, &w) >= 9);
    assert_true(fault_fail_each(copy_work, NULL) >= 1);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
