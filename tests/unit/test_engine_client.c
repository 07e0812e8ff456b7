/* The front's side of an engine: tasks go through, what is not for it is dropped, it is started and stopped, and leaves no process and no
 * descriptor behind. (How engines die: test_engine_deaths.c; hang: test_engine_hangs.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "descriptors.h"
#include "engine/engine_debts.h"
#include "engine_record.h"

static void a_task_goes_through(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_false(engine_client_ready(c));
    assert_false(record_admit(c, "early", "done"));
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "a", "done"));
    assert_true(record_until(c, &r.done, 1, 10));
    assert_true(record_admit(c, "b", "fail"));
    assert_true(record_until(c, &r.failed, 1, 10));
    assert_int_equal(r.fault.code, ERROR_BAD_FILE);
    assert_string_equal(r.fault.text, "the file is bad");
    assert_true(engine_client_cancel(c, "c", NULL));
    assert_true(record_until(c, &r.failed, 2, 10));
    assert_int_equal(r.fault.code, ERROR_CANCELLED);
    assert_string_equal(buffer_text(&r.told), "ready;progress a;image a;done a;failed b;failed c;");
    assert_int_equal(engine_client_wait_ms(c), -1);
    record_finish(c, &r);
}

/* Also to a front that does not want them: the descriptor is closed then. */
static void a_preview_comes_before_its_end(void **state) {
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        record r;
        engine_client *c = record_start_with(&r, "", 0, turn == 0);
        assert_true(record_until(c, &r.ready, 1, 10));
        int before = open_descriptors();
        assert_true(record_admit(c, "a", "preview"));
        assert_true(record_until(c, &r.done, 1, 10));
        assert_int_equal(open_descriptors(), before);
        assert_string_equal(buffer_text(&r.told), turn == 0 ? "ready;progress a;preview a;done a;" : "ready;progress a;done a;");
        record_finish(c, &r);
    }
}

static void an_id_that_does_not_fit_is_refused(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_false(record_admit(c, "", "done"));
    assert_false(record_admit(c, "1234567890123456789012345678901234567890", "done"));
    record_finish(c, &r);
}

static void messages_of_another_engine_are_dropped(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "stale"));
    assert_true(record_until(c, &r.done, 1, 10));
    record_turn(c, 0.05);
    assert_int_equal(r.done, 1);
    assert_int_equal(r.images, 0);
    record_finish(c, &r);
}

static void a_flood_arrives_whole_and_never_holds_the_loop(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "flood"));
    usleep(50000); /* a front that is busy elsewhere: the engine waits for it */
    int before = 0;
    while (r.done == 0) {
        record_turn(c, 10);
        assert_true(r.progress - before <= 256);
        before = r.progress;
    }
    assert_int_equal(r.progress, 20001);
    record_finish(c, &r);
}

static void the_engine_inherits_nothing(void **state) {
    (void)state;
    int forgotten = open("/dev/null", O_RDONLY); /* by a library that does not know O_CLOEXEC */
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, NULL);
    signal(SIGUSR1, SIG_IGN);
    record r;
    engine_client *c = record_start(&r, "");
    sigprocmask(SIG_UNBLOCK, &some, NULL);
    signal(SIGUSR1, SIG_DFL);
    close(forgotten);
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "report"));
    assert_true(record_until(c, &r.failed, 1, 10));
    assert_string_equal(r.fault.text, "open 0 blocked 0 ignored 1 default 1");
    record_finish(c, &r);
}

/* The files of a task arrive in their order, and the caller's stay its own. */
static void files_come_along(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    engine_request request = {.width = 2, .height = 2, .steps = 1, .count = 1, .max_sequence_length = 1, .prompt = "files", .has_image = true, .has_mask = true,
                              .strength = 0.5};
    engine_files files = {2, {memfd_create("image", MFD_CLOEXEC), memfd_create("mask", MFD_CLOEXEC)}};
    assert_int_equal(write(files.fds[0], "picture", 7), 7);
    assert_int_equal(write(files.fds[1], "mask", 4), 4);
    for (int i = 1; i <= 2; i++) { /* the second time with the same */
        assert_true(engine_client_admit(c, "t", &request, &files, NULL));
        assert_true(record_until(c, &r.failed, i, 10));
        assert_string_equal(r.fault.text, "picture|mask|");
    }
    engine_files_close(&files);
    request.has_image = request.has_mask = false;
    assert_true(engine_client_admit(c, "t", &request, &files, NULL));
    assert_true(record_until(c, &r.failed, 3, 10));
    assert_string_equal(r.fault.text, "");
    record_finish(c, &r);
}

/* The prompt is one that the engine never answers. False when it takes no further task, not when its socket is full just now. */
static bool admit_silent(engine_client *c, int i, error *e) {
    const engine_request request = {.width = 2, .height = 2, .steps = 1, .count = 1, .max_sequence_length = 1, .prompt = "nothing"};
    char id[ENGINE_ID_BYTES];
    snprintf(id, sizeof id, "t%d", i);
    double give_up = clock_seconds() + 30;
    for (;;) {
        *e = (error){0};
        if (engine_client_admit(c, id, &request, &(engine_files){0}, e)) return true;
        if (strstr(e->text, "already") != NULL || clock_seconds() > give_up) return false;
        usleep(1000);
    }
}

/* An engine that owes as much as can be kept in mind takes nothing more to answer, but is still told of what it has. */
static void who_owes_too_much_is_still_told_of_it(void **state) {
    (void)state;
    record r;
    error e;
    int count = 0;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    while (admit_silent(c, count, &e)) count++;
    assert_int_equal(count, ENGINE_DEBTS_MAX);
    assert_int_equal(e.code, ERROR_BUSY);
    assert_non_null(strstr(e.text, "already"));
    assert_false(engine_client_command(c, MESSAGE_CLEANUP, "c", NULL, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    assert_true(engine_client_suspend(c, "t7", NULL));
    assert_true(engine_client_resume(c, "t7", NULL));
    assert_true(engine_client_set_priority(c, "t7", 0, NULL));
    assert_true(engine_client_cancel(c, "t7", NULL));
    assert_true(record_until(c, &r.failed, 1, 10));
    assert_true(admit_silent(c, count, &e));
    record_finish(c, &r);
}

static void the_end_is_polite_then_not(void **state) {
    (void)state;
    record r;
    double begin = clock_seconds();
    engine_client *c = record_start(&r, "mute"); /* stops on request, though it never said hello */
    record_finish(c, &r);
    assert_true(clock_seconds() - begin < 1.5);
    c = record_start(&r, "deaf");
    assert_true(record_until(c, &r.ready, 1, 10));
    begin = clock_seconds();
    record_finish(c, &r);
    double took = clock_seconds() - begin;
    assert_true(took > 1.9 && took < 4);
    c = record_start(&r, "abrt"); /* freed between two engines */
    assert_true(record_until(c, &r.died, 2, 10));
    assert_int_equal(engine_client_pid(c), 0);
    record_finish(c, &r);
    engine_client_free(NULL);
}

/* Turns until no process is left, at most ten seconds. */
static bool run_until_gone(engine_client *c) {
    double deadline = clock_seconds() + 10;
    while (engine_client_pid(c) != 0 && clock_seconds() < deadline) record_turn(c, 0.1);
    return engine_client_pid(c) == 0;
}

static void a_stopped_engine_is_gone_until_it_is_started(void **state) {
    (void)state;
    static const char *const behaviours[] = {"", "deaf"};
    for (int i = 0; i < 2; i++) {
        record r;
        engine_client *c = record_start(&r, behaviours[i]);
        assert_true(record_until(c, &r.ready, 1, 10));
        engine_client_stop(c);
        assert_true(engine_client_stopped(c));
        assert_false(engine_client_ready(c));
        assert_false(record_admit(c, "a", "done"));
        assert_true(run_until_gone(c));
        assert_int_equal(engine_client_fd(c), -1);
        assert_int_equal(engine_client_wait_ms(c), -1);
        engine_client_service(c);
        assert_int_equal(engine_client_pid(c), 0);
        engine_client_start(c);
        assert_true(record_until(c, &r.ready, 2, 10));
        assert_int_equal(r.died, 0);
        /* Started again while the old one still ends. */
        engine_client_stop(c);
        engine_client_start(c);
        assert_true(record_until(c, &r.ready, 3, 10));
        assert_int_equal(r.died, 0);
        record_finish(c, &r);
    }
}

static void an_engine_does_not_outlive_its_front(void **state) {
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int report[2];
    assert_int_equal(pipe(report), 0);
    pid_t front = fork();
    assert_true(front >= 0);
    if (front == 0) {
        record r;
        engine_client *c = record_start(&r, "deaf"); /* only the parent-death signal reaches it */
        if (!record_until(c, &r.ready, 1, 10)) _exit(1);
        pid_t engine = engine_client_pid(c);
        if (write(report[1], &engine, sizeof engine) != sizeof engine) _exit(1);
        for (;;) pause();
    }
    pid_t engine;
    close(report[1]);
    assert_int_equal(read(report[0], &engine, sizeof engine), sizeof engine);
    close(report[0]);
    kill(front, SIGKILL);
    assert_int_equal(waitpid(front, NULL, 0), front);
    int status;
    assert_int_equal(waitpid(engine, &status, 0), engine); /* ours now, as subreaper */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int main(void) {
    if (!record_set_up()) return 77; /* run by meson */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_goes_through),
        cmocka_unit_test(a_preview_comes_before_its_end),
        cmocka_unit_test(an_id_that_does_not_fit_is_refused),
        cmocka_unit_test(messages_of_another_engine_are_dropped),
        cmocka_unit_test(a_flood_arrives_whole_and_never_holds_the_loop),
        cmocka_unit_test(the_engine_inherits_nothing),
        cmocka_unit_test(files_come_along),
        cmocka_unit_test(who_owes_too_much_is_still_told_of_it),
        cmocka_unit_test(the_end_is_polite_then_not),
        cmocka_unit_test(a_stopped_engine_is_gone_until_it_is_started),
        cmocka_unit_test(an_engine_does_not_outlive_its_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
