/* The tasks' database: what is written comes back the same after the process is gone, in order and only when it is really on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "task_store_fixture.h"

static void everything_comes_back(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    assert_int_equal(f->task_count, 0);
    assert_string_equal(f->report.moved_to, "");
    task t = make_task(7, "a fox, \"quoted\" \xC3\xBC\n");
    t.request.negative_prompt = "";
    t.request.owner = "alice";
    t.request.deadline_ms = 1800000000000;
    t.request.idempotency_key = "k-1";
    t.request.body_hash = UINT64_MAX;
    t.request.body_size = 99;
    t.request.awaited = true;
    t.request.seed = UINT64_MAX;
    t.request.count = 2;
    t.request.guidance_scale = 3.3;
    t.request.true_cfg_scale = 1.0 / 3;
    t.status = TASK_FAILED;
    t.priority = PRIORITY_LOW;
    t.started_ms = 5;
    t.finished_ms = 6;
    t.charges = 2;
    t.cancel_requested = true;
    t.images[0] = (task_image){.stored = true, .seed = UINT64_MAX, .bytes = 1 << 20};
    t.images[1].seed = 0;
    error_field(&t.failure, ERROR_TOO_LARGE, "width", "it is too large: \xC3\xBC");
    t.metrics.denoise_seconds = 0.1;
    t.metrics.memory_peak = UINT64_MAX - 1;
    task_plan plan = {.count = 2, .steps = {"evict idle models", "decode in tiles"}};
    t.plan = &plan;
    t.request.webhook = "https://a.example/";
    t.request.webhook_events = 5;
    t.webhook = (task_webhook){.started = true, .attempts = 7, .delivered = 2, .given_up = 1, .last_error = "no \"answer\""};
    assert_true(task_store_add_task(f->store, &t, done, f, &e));
    const stored_profile p = {"demo", "bf16", "64x64|77|pair", 3, 1ull << 40, 5, 0.25, 1.5, 0.125, 2.5, 1700000000001};
    assert_true(task_store_put_profile(f->store, &p, &e));
    assert_true(task_store_put_setting(f->store, "paused", "by hand", &e) && task_store_put_setting(f->store, "gone", "x", &e) &&
                task_store_put_setting(f->store, "gone", NULL, &e));
    serve_until(f, &f->done, 1);
    assert_int_equal(f->refused, 0);

    reopen(f);
    assert_int_equal(f->task_count, 1);
    const task *r = f->tasks[0];
    assert_string_equal(r->id, t.id);
    assert_string_equal(r->request.prompt, t.request.prompt);
    assert_string_equal(r->request.negative_prompt, "");
    assert_string_equal(r->request.owner, "alice");
    assert_string_equal(r->request.idempotency_key, "k-1");
    assert_string_equal(r->request.model, "demo");
    assert_string_equal(r->request.precision, "auto");
    assert_true(r->request.body_hash == UINT64_MAX && r->request.body_size == 99 && r->request.awaited && r->request.seed == UINT64_MAX);
    assert_true(r->request.width == 64 && r->request.height == 48 && r->request.steps == 4 && r->request.count == 2 &&
                r->request.max_sequence_length == 77);
    assert_true(r->request.guidance_scale == 3.3 && r->request.true_cfg_scale == 1.0 / 3 && r->request.deadline_ms == 1800000000000);
    assert_true(r->status == TASK_FAILED && r->priority == PRIORITY_LOW && r->sequence == 7 && r->charges == 2 && r->cancel_requested);
    assert_true(r->created_ms == t.created_ms && r->started_ms == 5 && r->finished_ms == 6);
    assert_true(r->images[0].stored && r->images[0].seed == UINT64_MAX && r->images[0].bytes == 1 << 20);
    assert_true(!r->images[1].stored && r->images[1].seed == 0);
    assert_int_equal(r->failure.code, ERROR_TOO_LARGE);
    assert_string_equal(r->failure.field, "width");
    assert_string_equal(r->failure.text, t.failure.text);
    assert_true(r->metrics.denoise_seconds == 0.1 && r->metrics.memory_peak == UINT64_MAX - 1);
    assert_int_equal(r->plan->count, 2);
    assert_string_equal(r->plan->steps[1], "decode in tiles");
    assert_string_equal(r->request.webhook, "https://a.example/");
    assert_true(r->request.webhook_events == 5 && r->webhook.started && r->webhook.attempts == 7 && r->webhook.delivered == 2 &&
                r->webhook.given_up == 1);
    assert_string_equal(r->webhook.last_error, "no \"answer\"");
    assert_int_equal(f->profiles, 1);
    assert_memory_equal(&f->profile, &p, sizeof p);
    assert_string_equal(f->settings, "paused=by hand;");
}

static void a_changed_task_replaces_its_row_and_a_closing_one_has_its_end(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task t = make_task(1, "x");
    assert_true(task_store_add_task(f->store, &t, done, f, &e));
    t.status = TASK_RUNNING;
    assert_true(task_store_note_task(f->store, &t, &e));
    t.closing = true;
    t.end = TASK_COMPLETED;
    t.finished_ms = 9;
    assert_true(task_store_put_task(f->store, &t, done, f, &e));
    serve_until(f, &f->done, 2);
    reopen(f);
    assert_int_equal(f->task_count, 1);
    assert_true(f->tasks[0]->status == TASK_COMPLETED && f->tasks[0]->finished_ms == 9 && !f->tasks[0]->closing);
}

static void messages_come_back_by_when_they_are_due(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    const stored_webhook later = {"m-1", "T1", "http://a.example/", "{\"x\": 1}", 3, 2000},
                         sooner = {"m-2", "T2", "http://b.example/", "{}", 0, 1000},
                         through = {"m-3", "T2", "http://b.example/", "{}", 0, 1};
    stored_webhook again = later;
    assert_true(task_store_put_webhook(f->store, &later, &e) && task_store_put_webhook(f->store, &sooner, &e) &&
                task_store_put_webhook(f->store, &through, &e));
    again.attempts = 4;
    again.due_ms = 3000;
    assert_true(task_store_put_webhook(f->store, &again, &e) && task_store_delete_webhook(f->store, "m-3", &e));
    assert_true(task_store_put_gone_webhook(f->store, "http://c.example/", &e));
    reopen(f);
    assert_string_equal(f->webhooks, "m-2 of T2 to http://b.example/: {}, 0, 1000;m-1 of T1 to http://a.example/: {\"x\": 1}, 4, 3000;");
    assert_string_equal(f->gone, "http://c.example/;");
}

static void the_oldest_of_many_gone_addresses_are_forgotten(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    close_store(f);
    execute(f->path, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO gone_webhooks SELECT 'u' || i, i FROM n");
    reopen(f);
    assert_true(task_store_put_gone_webhook(f->store, "newest", &e));
    reopen(f);
    assert_memory_equal(f->gone, "u2;u3;", 6);
    close_store(f);
    execute(f->path, "DELETE FROM gone_webhooks WHERE gone_ms BETWEEN 2 AND 999");
    reopen(f);
    assert_string_equal(f->gone, "u1000;newest;");
}

/* An end and the message that tells of it are one: whichever cannot be written keeps the other back. */
static void an_end_and_its_message_are_written_together_or_not_at_all(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task good = make_task(1, "good"), faulty = make_task(2, "faulty");
    const stored_webhook of_good = {"m-1", good.id, "http://a.example/", "{}", 0, 1000},
                         of_faulty = {"m-2", faulty.id, "http://a.example/", "{}", 0, 1000};
    assert_true(task_store_put_task_and_webhook(f->store, &good, &of_good, done, f, &e));
    faulty.request.model = NULL; /* the table does not take that */
    assert_true(task_store_put_task_and_webhook(f->store, &faulty, &of_faulty, done, f, &e));
    serve_until(f, &f->done, 2);
    assert_int_equal(f->refused, 1);
    reopen(f);
    assert_int_equal(f->task_count, 1);
    assert_non_null(strstr(f->webhooks, "m-1 of "));
    assert_null(strstr(f->webhooks, "m-2"));
    /* And the other way round: a message that cannot be written. */
    close_store(f);
    execute(f->path, "CREATE TRIGGER no BEFORE INSERT ON webhooks BEGIN SELECT RAISE(ABORT, 'no'); END");
    reopen(f);
    task third = make_task(3, "third");
    const stored_webhook of_third = {"m-3", third.id, "http://a.example/", "{}", 0, 1000};
    assert_true(task_store_put_task_and_webhook(f->store, &third, &of_third, done, f, &e));
    serve_until(f, &f->done, 3);
    assert_int_equal(f->refused, 2);
    reopen(f);
    assert_int_equal(f->task_count, 1);
}

/* What version 1 had written, by the very statements that made it. */
static void a_database_of_the_first_version_is_brought_up_to_date(void **state) {
    fixture *f = *state;
    error e;
    execute(f->path,
            "CREATE TABLE tasks (id TEXT PRIMARY KEY NOT NULL, status TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL, owner TEXT,"
            " model TEXT NOT NULL, request TEXT NOT NULL, created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL,"
            " deadline_ms INTEGER NOT NULL, charges INTEGER NOT NULL, cancel_requested INTEGER NOT NULL, images TEXT NOT NULL, failure TEXT, metrics TEXT NOT NULL,"
            " plan TEXT, idempotency_key TEXT, body_hash INTEGER NOT NULL, body_size INTEGER NOT NULL, engine TEXT, lease_owner TEXT, lease_expires INTEGER)"
            " WITHOUT ROWID;"
            "CREATE TABLE profiles (model TEXT NOT NULL, precision TEXT NOT NULL, shape TEXT NOT NULL, batch INTEGER NOT NULL, peak_bytes INTEGER NOT NULL,"
            " reserve_bytes INTEGER NOT NULL, step_seconds REAL NOT NULL, load_seconds REAL NOT NULL, encode_seconds REAL NOT NULL, decode_seconds REAL NOT NULL,"
            " measured_ms INTEGER NOT NULL, PRIMARY KEY (model, precision, shape, batch)) WITHOUT ROWID;"
            "CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;"
            "INSERT INTO tasks VALUES ('00000000000000000000000001', 'completed', 'high', 4, NULL, 'demo',"
            " '{\"prompt\":\"old\",\"precision\":\"auto\",\"width\":64,\"height\":64,\"steps\":4,\"count\":1,\"max_sequence_length\":77}', 1, 2, 3, 0, 0, 0,"
            " '[{\"seed\":5,\"stored\":true,\"bytes\":9}]', NULL, '{}', NULL, NULL, 0, 0, NULL, NULL, NULL);"
            "INSERT INTO settings VALUES ('paused', 'by hand');"
            "PRAGMA user_version = 1");
    reopen(f);
    assert_int_equal(f->task_count, 1);
    assert_true(f->tasks[0]->sequence == 4 && f->tasks[0]->images[0].bytes == 9 && f->tasks[0]->request.webhook == NULL &&
                f->tasks[0]->webhook.attempts == 0);
    assert_string_equal(f->settings, "paused=by hand;");
    task t = make_task(5, "new");
    const stored_webhook w = {"m-1", t.id, "http://a.example/", "{}", 0, 1000};
    assert_true(task_store_put_task_and_webhook(f->store, &t, &w, NULL, NULL, &e));
    reopen(f);
    assert_int_equal(f->task_count, 2);
    assert_memory_equal(f->webhooks, "m-1 ", 4);
}

static void notes_are_written_without_company(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task t = make_task(1, "x");
    assert_true(task_store_note_task(f->store, &t, &e));
    reopen(f); /* closing writes what waits */
    assert_int_equal(f->task_count, 1);
}

static void deleting_removes_files_first_and_then_the_row(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task a = make_task(1, "a"), b = make_task(2, "b");
    assert_true(task_store_add_task(f->store, &a, done, f, &e) && task_store_add_task(f->store, &b, done, f, &e));
    assert_true(task_store_delete_task(f->store, a.id, 3, &e));
    reopen(f);
    assert_int_equal(f->task_count, 1);
    assert_string_equal(f->tasks[0]->id, b.id);
    assert_int_equal(f->removed, 3);
    assert_string_equal(f->removed_id, a.id);
}

static void tasks_come_back_in_the_order_of_submission(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    for (int i = 0; i < 500; i++) {
        task t = make_task(i, "x");
        assert_true(task_store_add_task(f->store, &t, done, f, &e));
    }
    serve_until(f, &f->done, 500);
    assert_int_equal(f->refused, 0);
    assert_int_equal(f->order_broken, 0);
    reopen(f);
    assert_int_equal(f->task_count, 500);
    for (int i = 0; i < 500; i++) assert_int_equal(f->tasks[i]->sequence, i);
}

/* A process that is killed after it was told of the commit has everything on disk that it was told of. */
static void what_was_told_survives_kill_9(void **state) {
    fixture *f = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        error e;
        if (!open_store(f, &e)) _exit(1);
        for (int i = 0; i < 300; i++) {
            task t = make_task(i, "x");
            if (!task_store_add_task(f->store, &t, done, f, &e)) _exit(2);
            struct pollfd p = {.fd = task_store_fd(f->store), .events = POLLIN};
            if (poll(&p, 1, 0) == 1) task_store_service(f->store);
            if (write(ends[1], &f->done, sizeof f->done) != sizeof f->done) _exit(3);
        }
        for (;;) pause();
    }
    close(ends[1]);
    int told = 0, n;
    for (int i = 0; i < 300 && read(ends[0], &n, sizeof n) == sizeof n; i++) told = n;
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &n, 0), child);
    assert_true(WIFSIGNALED(n));
    close(ends[0]);
    reopen(f);
    assert_true(f->task_count >= told);
    for (int i = 0; i < f->task_count; i++) assert_int_equal(f->tasks[i]->sequence, i); /* no hole */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_changed_task_replaces_its_row_and_a_closing_one_has_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_come_back_by_when_they_are_due, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_of_many_gone_addresses_are_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_and_its_message_are_written_together_or_not_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_database_of_the_first_version_is_brought_up_to_date, set_up, tear_down),
        cmocka_unit_test_setup_teardown(notes_are_written_without_company, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleting_removes_files_first_and_then_the_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tasks_come_back_in_the_order_of_submission, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_told_survives_kill_9, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
