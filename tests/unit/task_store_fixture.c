#include "task_store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sqlite3.h>

static void take_task(void *context, task *t) {
    fixture *f = context;
    assert_true(f->task_count < KEPT);
    f->tasks[f->task_count++] = t;
}

static void skip_task(void *context, const error *why) {
    fixture *f = context;
    f->skipped++;
    f->skip = *why;
}

static void take_profile(void *context, const stored_profile *p) {
    fixture *f = context;
    f->profiles++;
    f->profile = *p;
}

static void take_setting(void *context, const char *key, const char *value) {
    fixture *f = context;
    size_t n = strlen(f->settings);
    snprintf(f->settings + n, sizeof f->settings - n, "%s=%s;", key, value);
}

static void take_webhook(void *context, const stored_webhook *w) {
    fixture *f = context;
    size_t n = strlen(f->webhooks);
    snprintf(f->webhooks + n, sizeof f->webhooks - n, "%s of %.26s to %s: %s, %d, %lld;", w->id, w->task, w->url, w->body, w->attempts,
             (long long)w->due_ms);
}

static void take_gone(void *context, const char *url) {
    fixture *f = context;
    size_t n = strlen(f->gone);
    snprintf(f->gone + n, sizeof f->gone - n, "%s;", url);
}

static void trouble(void *context, const error *why) {
    fixture *f = context;
    if (why == NULL) {
        f->recoveries++;
        return;
    }
    f->troubles++;
    f->trouble = *why;
}

static void remove_files(void *context, const char *id, int images) {
    fixture *f = context;
    snprintf(f->removed_id, sizeof f->removed_id, "%s", id);
    f->removed += images;
}

bool open_store(fixture *f, error *e) {
    const task_store_options options = {.path = f->path, .context = f, .trouble = trouble, .remove_files = remove_files};
    const task_store_readers readers = {{f, take_task, skip_task}, f, take_profile, take_setting, take_webhook, take_gone};
    return task_store_open(&options, &readers, &f->report, &f->store, e);
}

static void forget(fixture *f) {
    for (int i = 0; i < f->task_count; i++) {
        arena_free(&f->tasks[i]->memory);
        free(f->tasks[i]);
    }
    f->task_count = f->skipped = f->profiles = 0;
    f->settings[0] = f->webhooks[0] = f->gone[0] = '\0';
}

void close_store(fixture *f) {
    task_store_free(f->store);
    f->store = NULL;
    forget(f);
}

void reopen(fixture *f) {
    close_store(f);
    error e = {0};
    bool ok = open_store(f, &e);
    if (!ok) print_error("%s\n", e.text);
    assert_true(ok);
}

int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->folder, sizeof f->folder, "/tmp/imagined-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/imagined.db", f->folder);
    *state = f;
    return 0;
}

int tear_down(void **state) {
    fixture *f = *state;
    close_store(f);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    free(f);
    return system(command);
}

task make_task(int number, const char *prompt) {
    const uint8_t random[10] = {0};
    task t = {.status = TASK_QUEUED,
              .priority = PRIORITY_NORMAL,
              .sequence = (uint64_t)number,
              .created_ms = 1700000000000 + number,
              .request = {.model = "demo", .prompt = prompt, .precision = "auto", .width = 64, .height = 48, .steps = 4, .count = 1, .max_sequence_length = 77}};
    task_id_format(number, random, t.id);
    return t;
}

void done(void *context, const char *id, const error *fault) {
    fixture *f = context;
    uint64_t ms = 0;
    for (int i = 0; i < 10; i++) ms = ms << 5 | (uint64_t)(strchr(TASK_ID_DIGITS, id[i]) - TASK_ID_DIGITS);
    f->order_broken += ms < f->next_sequence;
    f->next_sequence = ms;
    f->done++;
    if (fault == NULL) return;
    f->refused++;
    f->refusal = *fault;
}

void serve_until(fixture *f, const int *counter, int wanted) {
    while (*counter < wanted) {
        struct pollfd p = {.fd = task_store_fd(f->store), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 30000), 1);
        task_store_service(f->store);
    }
}

void execute(const char *path, const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

void fill(fixture *f, int count) {
    error e;
    for (int i = 0; i < count; i++) {
        task t = make_task(i, "some words that take up a little room in a page of the database");
        assert_true(task_store_add_task(f->store, &t, NULL, NULL, &e));
    }
}
