/* The tasks' database where something is wrong: damaged, newer, held and unwritable files are told; a full disk refuses additions, keeps
 * what was promised and goes on when there is space again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "task_store_fixture.h"

static void write_file(const char *path, const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    close(fd);
}

static void a_damaged_database_is_moved_aside(void **state) {
    fixture *f = *state;
    static char junk[8192];
    memset(junk, 'x', sizeof junk);
    for (int how = 0; how < 3; how++) {
        reopen(f);
        assert_string_equal(f->report.moved_to, "");
        fill(f, 200);
        close_store(f);
        struct stat info;
        assert_int_equal(stat(f->path, &info), 0);
        assert_true(info.st_size > 20000);
        if (how == 0) write_file(f->path, junk, sizeof junk);            /* another file altogether */
        if (how == 1) assert_int_equal(truncate(f->path, info.st_size / 2 / 4096 * 4096), 0); /* cut short */
        if (how == 2) {                                                  /* pages overwritten */
            int fd = open(f->path, O_WRONLY);
            assert_int_equal(pwrite(fd, junk, 4096, 4096), 4096);
            close(fd);
        }
        error e = {0};
        assert_true(open_store(f, &e));
        assert_int_equal(f->task_count, 0);
        assert_int_equal(f->report.damage.code, ERROR_BAD_FILE);
        assert_non_null(strstr(f->report.damage.text, f->path));
        assert_true(file_exists(f->report.moved_to));
        assert_true(strncmp(f->report.moved_to, f->path, strlen(f->path)) == 0);
        close_store(f);
        assert_int_equal(unlink(f->path), 0);
    }
}

static void rows_that_cannot_be_read_stay_and_are_told(void **state) {
    fixture *f = *state;
    static const char *const damages[] = {
        "UPDATE tasks SET status = 'dozing' WHERE sequence = 1",
        "UPDATE tasks SET priority = '' WHERE sequence = 1",
        "UPDATE tasks SET request = '{' WHERE sequence = 1",
        "UPDATE tasks SET request = '{}' WHERE sequence = 1",
        "UPDATE tasks SET request = json_set(request, '$.count', 17) WHERE sequence = 1",
        "UPDATE tasks SET request = json_set(request, '$.count', 2) WHERE sequence = 1",
        "UPDATE tasks SET request = json_set(request, '$.width', 'wide') WHERE sequence = 1",
        "UPDATE tasks SET request = json_remove(request, '$.prompt') WHERE sequence = 1",
        "UPDATE tasks SET images = 'x' WHERE sequence = 1",
        "UPDATE tasks SET plan = '' WHERE sequence = 1",
        "UPDATE tasks SET failure = '[' WHERE sequence = 1",
        "UPDATE tasks SET metrics = '' WHERE sequence = 1",
        "UPDATE tasks SET id = 'short' WHERE sequence = 1",
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        reopen(f);
        fill(f, 3);
        close_store(f);
        execute(f->path, damages[i]);
        reopen(f);
        assert_string_equal(f->report.moved_to, "");
        if (f->skipped != 1) print_error("%s\n", damages[i]);
        assert_int_equal(f->skipped, 1);
        assert_int_equal(f->skip.code, ERROR_BAD_FILE);
        assert_non_null(strstr(f->skip.text, f->path));
        assert_int_equal(f->task_count, 2);
        reopen(f);
        assert_int_equal(f->skipped, 1);
        close_store(f);
        assert_int_equal(unlink(f->path), 0);
    }
}

static void a_newer_database_is_left_alone(void **state) {
    fixture *f = *state;
    reopen(f);
    fill(f, 1);
    close_store(f);
    execute(f->path, "PRAGMA user_version = 9999");
    error e = {0};
    assert_false(open_store(f, &e));
    assert_int_equal(e.code, ERROR_UNSUPPORTED);
    assert_non_null(strstr(e.text, f->path));
    execute(f->path, "PRAGMA user_version = 2");
    reopen(f);
    assert_int_equal(f->task_count, 1);
}

static void a_database_is_held_by_one(void **state) {
    fixture *f = *state;
    reopen(f);
    fixture other = *f;
    other.store = NULL;
    error e = {0};
    /* Another process: locks of one process do not stand in its own way. */
    pid_t child = fork();
    if (child == 0) _exit(open_store(&other, &e) ? 0 : e.code == ERROR_BUSY && strstr(e.text, "second server") != NULL ? 42 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void what_cannot_be_opened_is_named(void **state) {
    fixture *f = *state;
    error e = {0};
    snprintf(f->path, sizeof f->path, "%s/nowhere/imagined.db", f->folder);
    assert_false(open_store(f, &e));
    assert_int_equal(e.code, ERROR_IO);
    assert_non_null(strstr(e.text, f->path));
    snprintf(f->path, sizeof f->path, "%s", f->folder); /* a folder */
    assert_false(open_store(f, &e));
    assert_non_null(strstr(e.text, f->path));
    snprintf(f->path, sizeof f->path, "%s/imagined.db", f->folder);
}

/* A disk that takes nothing, without needing one: files of this process may not grow. (The signal that goes with it is ignored.) */
static void limit_files(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_disk_that_takes_nothing_refuses_additions_and_keeps_promises(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task first = make_task(1, "first"), second = make_task(2, "second");
    assert_true(task_store_add_task(f->store, &first, done, f, &e));
    serve_until(f, &f->done, 1);
    limit_files(0);
    assert_true(task_store_add_task(f->store, &second, done, f, &e));
    serve_until(f, &f->troubles, 1);
    assert_true(f->done == 2 && f->refused == 1);
    assert_non_null(strstr(f->refusal.text, f->path));
    first.status = TASK_COMPLETED;
    assert_true(task_store_put_task(f->store, &first, done, f, &e)); /* promised */
    assert_true(task_store_delete_task(f->store, second.id, 0, &e));
    limit_files(RLIM_INFINITY);
    serve_until(f, &f->recoveries, 1);
    serve_until(f, &f->done, 3);
    assert_int_equal(f->refused, 1);
    assert_int_equal(f->troubles, 1);
    reopen(f);
    assert_int_equal(f->task_count, 1);
    assert_int_equal(f->tasks[0]->status, TASK_COMPLETED);
}

static void trouble_ends_by_itself(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task t = make_task(1, "x");
    limit_files(0);
    assert_true(task_store_add_task(f->store, &t, done, f, &e));
    serve_until(f, &f->troubles, 1);
    limit_files(RLIM_INFINITY);
    serve_until(f, &f->recoveries, 1); /* nothing else is handed over: the store tries by itself */
}

static void a_change_at_fault_takes_no_promise_with_it(void **state) {
    fixture *f = *state;
    error e;
    reopen(f);
    task refused = make_task(1, "refused"), kept = make_task(2, "kept"), faulty = make_task(3, "faulty"),
         last = make_task(4, "refused, too");
    faulty.request.model = NULL; /* the table does not take that, whatever the disk does */
    limit_files(0);
    assert_true(task_store_add_task(f->store, &refused, done, f, &e));
    serve_until(f, &f->troubles, 1);
    assert_true(task_store_put_task(f->store, &kept, done, f, &e));
    assert_true(task_store_put_task(f->store, &faulty, NULL, NULL, &e));
    assert_true(task_store_add_task(f->store, &last, done, f, &e));
    serve_until(f, &f->done, 2); /* the others were tried before it */
    assert_int_equal(f->refused, 2);
    limit_files(RLIM_INFINITY);
    serve_until(f, &f->done, 3);
    serve_until(f, &f->recoveries, 1);
    assert_int_equal(f->refused, 2);
    reopen(f);
    assert_int_equal(f->task_count, 1);
    assert_string_equal(f->tasks[0]->id, kept.id);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_damaged_database_is_moved_aside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_that_cannot_be_read_stay_and_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_database_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_database_is_held_by_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_opened_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_that_takes_nothing_refuses_additions_and_keeps_promises, set_up, tear_down),
        cmocka_unit_test_setup_teardown(trouble_ends_by_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_change_at_fault_takes_no_promise_with_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
