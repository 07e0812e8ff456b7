/* Engines that hang: one that is awaited and gives no sign of life is ended and replaced, its task is to blame where a slice ran, and one
 * that cannot be killed holds up nothing but the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "base/clock.h"
#include "descriptors.h"
#include "engine_record.h"

/* Processes that no signal of the client ends, as if they were stuck in the kernel; and a clock that a test may put forward. */
static bool nothing_kills;
static double clock_offset;

int __real_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number) { return nothing_kills ? 0 : __real_kill(pid, number); }

double __real_clock_seconds(void);
double __wrap_clock_seconds(void);
double __wrap_clock_seconds(void) { return __real_clock_seconds() + clock_offset; }

static void assert_hung(const record *r, const char *running, bool charged) {
    assert_true(r->death.hung);
    assert_non_null(strstr(r->death.reason, "hung"));
    assert_string_equal(r->death.running, running);
    assert_string_equal(r->death.owed, "");
    assert_int_equal(r->death.charged, charged);
    assert_int_equal(engine_death_charges(&r->death, running), charged);
}

/* With no slice running: `owed` is to blame, or nobody. */
static void assert_hung_over(const record *r, const char *owed) {
    assert_true(r->death.hung);
    assert_string_equal(r->death.running, "");
    assert_string_equal(r->death.owed, owed);
    assert_int_equal(r->death.charged, owed[0] != '\0');
    assert_int_equal(engine_death_charges(&r->death, owed), owed[0] != '\0');
    assert_false(engine_death_charges(&r->death, "another"));
}

/* In a slice: its task is to blame, whether SIGABRT ends the engine or only SIGKILL does, and the next engine works. */
static void an_engine_that_hangs_in_a_slice_is_replaced(void **state) {
    (void)state;
    static const struct {
        const char *prompt;
        int number;
    } cases[] = {{"hang", SIGABRT}, {"hang and defy", SIGKILL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        record r;
        engine_client *c = record_start_with(&r, "", 2, true);
        assert_true(record_until(c, &r.ready, 1, 10));
        pid_t first = engine_client_pid(c);
        assert_true(record_admit(c, "t", cases[i].prompt));
        assert_true(record_until(c, &r.died, 1, 60));
        assert_hung(&r, "t", true);
        assert_true(WIFSIGNALED(r.death.status));
        assert_int_equal(WTERMSIG(r.death.status), cases[i].number);
        assert_int_equal(r.death.pid, first);
        assert_int_equal(r.death.engine, 1);
        assert_true(record_until(c, &r.ready, 2, 10));
        assert_true(record_admit(c, "u", "done"));
        assert_true(record_until(c, &r.done, 1, 10));
        record_finish(c, &r);
    }
}

/* Before its hello, over a command: nobody is charged; before the first word about a task: that one. */
static void an_engine_that_does_not_answer_is_replaced(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start_with(&r, "mute", 1, true);
    setenv("FAKE_ENGINE", "", 1);
    assert_true(record_until(c, &r.died, 1, 60));
    assert_hung_over(&r, "");
    assert_int_equal(r.ready, 0);
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "silent hang"));
    assert_true(record_until(c, &r.died, 2, 60));
    assert_hung_over(&r, "t");
    assert_true(record_until(c, &r.ready, 2, 10));
    assert_true(engine_client_command(c, MESSAGE_CLEANUP, "c", NULL, NULL)); /* which this engine knows nothing of */
    assert_true(record_until(c, &r.died, 3, 60));
    assert_hung_over(&r, "");
    record_finish(c, &r);
}

/* Where it owes several: neither one that is suspended, nor one that came after what it is stuck over. */
static void who_was_due_longest_is_charged(void **state) {
    (void)state;
    static const struct {
        const char *first, *owed;
    } cases[] = {{"suspended", "u"}, {"command", ""}, {"done", "u"}, {"due", "t"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        record r;
        engine_client *c = record_start_with(&r, "", 1, true);
        const char *first = cases[i].first;
        bool command = strcmp(first, "command") == 0, done = strcmp(first, "done") == 0;
        assert_true(record_until(c, &r.ready, 1, 10));
        assert_true(command ? engine_client_command(c, MESSAGE_CLEANUP, "t", NULL, NULL) : record_admit(c, "t", done ? first : "nothing"));
        if (strcmp(first, "suspended") == 0) assert_true(engine_client_suspend(c, "t", NULL));
        assert_true(record_admit(c, "u", "silent hang"));
        assert_true(record_until(c, &r.died, 1, 60));
        assert_hung_over(&r, cases[i].owed);
        record_finish(c, &r);
    }
}

/* It owes nothing, but does not even read what it is told. */
static void an_engine_that_reads_nothing_is_replaced(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start_with(&r, "deaf", 1, true);
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    setenv("FAKE_ENGINE", "", 1);
    while (engine_client_set_priority(c, "t", 1, NULL)) {}
    assert_true(engine_client_wait_ms(c) >= 0);
    assert_true(record_until(c, &r.died, 1, 60));
    assert_hung(&r, "", false);
    record_finish(c, &r);
}

static void work_without_a_word_is_no_hang(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start_with(&r, "", 2, true);
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "compute"));
    assert_true(record_until(c, &r.done, 1, 60));
    assert_int_equal(r.died, 0);
    record_finish(c, &r);
}

static bool turn_for(engine_client *c, double seconds, const record *r) {
    double end = clock_seconds() + seconds;
    while (clock_seconds() < end && r->died == 0) record_turn(c, 0.2);
    return r->died == 0;
}

/* Nobody looks then, and nothing wakes the loop. */
static void an_engine_that_owes_nothing_may_be_silent(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start_with(&r, "", 1, true);
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    assert_true(record_admit(c, "t", "done"));
    assert_in_range(engine_client_wait_ms(c), 0, 101);
    assert_true(record_until(c, &r.done, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    assert_true(turn_for(c, 2, &r));
    /* A task that gets no slices, then is cancelled. */
    assert_true(record_admit(c, "u", "nothing"));
    assert_true(engine_client_suspend(c, "u", NULL));
    assert_int_equal(engine_client_wait_ms(c), -1);
    assert_true(turn_for(c, 2, &r));
    assert_true(engine_client_cancel(c, "u", NULL));
    assert_true(record_until(c, &r.failed, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    record_finish(c, &r);
}

static void without_a_timeout_nothing_hangs(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "hang"));
    assert_true(record_until(c, &r.progress, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    record_finish(c, &r);
}

/* The server was stopped together with its engine, for an hour: the engine gets what time it had. */
static void an_hour_that_nobody_watched_is_no_hang(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start_with(&r, "", 20, true);
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "hang"));
    assert_true(record_until(c, &r.progress, 1, 10));
    for (int i = 0; i < 3; i++) {
        clock_offset += 3600;
        record_turn(c, 0);
        assert_true(engine_client_ready(c));
    }
    assert_int_equal(r.died, 0);
    record_finish(c, &r);
}

/* Looks once a second, as long as the engine lives. */
static void pass_seconds(engine_client *c, const record *r, int seconds) {
    for (int i = 0; i < seconds && r->died == 0 && engine_client_ready(c); i++) {
        clock_offset += 1;
        record_turn(c, 0);
    }
}

/* It owed nothing while its only task was suspended: silence of before does not count for what is asked of it now. */
static void what_is_awaited_anew_gets_its_full_time(void **state) {
    (void)state;
    for (int how = 0; how < 2; how++) {
        record r;
        engine_client *c = record_start_with(&r, "", 20, true);
        assert_true(record_until(c, &r.ready, 1, 10));
        assert_true(record_admit(c, "t", "nothing"));
        pass_seconds(c, &r, 15);
        assert_true(engine_client_suspend(c, "t", NULL));
        assert_int_equal(engine_client_wait_ms(c), -1);
        assert_true(how == 0 ? engine_client_resume(c, "t", NULL) : record_admit(c, "u", "nothing"));
        pass_seconds(c, &r, 12);
        assert_true(engine_client_ready(c));
        pass_seconds(c, &r, 20);
        assert_false(engine_client_ready(c));
        assert_true(record_until(c, &r.died, 1, 60));
        record_finish(c, &r);
    }
}

/* What hangs is told as still long before it is ended, and until then; what owes nothing is not. */
static void stillness_is_told_before_a_hang(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start_with(&r, "", 20, true);
    assert_true(record_until(c, &r.ready, 1, 10));
    pass_seconds(c, &r, 10);
    assert_false(engine_client_still(c));
    assert_true(record_admit(c, "t", "hang and defy"));
    assert_false(engine_client_still(c));
    assert_true(record_until(c, &r.progress, 1, 10));
    pass_seconds(c, &r, 6);
    assert_true(engine_client_ready(c));
    assert_true(engine_client_still(c));
    assert_true(engine_client_suspend(c, "t", NULL));
    assert_false(engine_client_still(c));
    assert_true(engine_client_resume(c, "t", NULL));
    assert_false(engine_client_still(c));
    pass_seconds(c, &r, 30);
    assert_false(engine_client_ready(c));
    assert_int_equal(r.died, 0); /* it was aborted, and defies that */
    assert_true(engine_client_still(c));
    assert_true(record_until(c, &r.died, 1, 60));
    assert_false(engine_client_still(c));
    record_finish(c, &r);
}

/* Its tasks are put back at once, and the next engine waits until it is gone. */
static void an_engine_that_cannot_be_killed_holds_up_nothing_but_the_next(void **state) {
    (void)state;
    record r;
    int before = open_descriptors();
    engine_client *c = record_start_with(&r, "", 1, true);
    assert_true(record_until(c, &r.ready, 1, 10));
    pid_t first = engine_client_pid(c);
    assert_true(record_admit(c, "t", "hang"));
    assert_true(record_until(c, &r.progress, 1, 10));
    nothing_kills = true;
    double give_up = clock_seconds() + 60;
    while (engine_client_ready(c) && clock_seconds() < give_up) record_turn(c, 0.2);
    assert_false(engine_client_ready(c));
    assert_int_equal(r.died, 0); /* it may still write its core */
    assert_false(engine_client_stuck(c));
    clock_offset += 6; /* SIGKILL is due */
    record_turn(c, 0);
    clock_offset += 11;
    record_turn(c, 0);
    assert_int_equal(r.died, 1);
    assert_hung(&r, "t", true);
    assert_non_null(strstr(r.death.reason, "does not end"));
    assert_true(engine_client_stuck(c));
    assert_in_range(engine_client_wait_ms(c), 500, 2000);
    assert_int_equal(engine_client_fd(c), -1);
    assert_false(record_admit(c, "t", "done"));
    clock_offset += 100;
    record_turn(c, 0.1);
    assert_int_equal(engine_client_pid(c), first);
    assert_int_equal(r.died, 1);

    nothing_kills = false;
    kill(first, SIGKILL);
    assert_true(record_until(c, &r.ready, 2, 10));
    assert_false(engine_client_stuck(c));
    assert_int_equal(r.died, 1);
    assert_true(record_admit(c, "t", "done"));
    assert_true(record_until(c, &r.done, 1, 10));
    record_finish(c, &r);
    assert_int_equal(open_descriptors(), before);
}

/* Neither does one that was only told to stop, nor one at the server's end. */
static void an_engine_that_does_not_stop_is_left(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "deaf");
    assert_true(record_until(c, &r.ready, 1, 10));
    pid_t first = engine_client_pid(c);
    nothing_kills = true;
    engine_client_stop(c);
    clock_offset += 3;
    record_turn(c, 0);
    assert_false(engine_client_stuck(c));
    clock_offset += 11;
    record_turn(c, 0);
    assert_true(engine_client_stuck(c));
    assert_int_equal(r.died, 1);
    assert_false(r.death.hung);
    engine_client_start(c);
    record_turn(c, 0.1);
    assert_int_equal(engine_client_pid(c), first);
    engine_client_free(c); /* in no time worth mention: it was waited for already */
    buffer_free(&r.told);
    nothing_kills = false;
    kill(first, SIGKILL);
    assert_int_equal(waitpid(first, NULL, 0), first);
}

int main(void) {
    if (!record_set_up()) return 77; /* run by meson */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_that_hangs_in_a_slice_is_replaced),
        cmocka_unit_test(an_engine_that_does_not_answer_is_replaced),
        cmocka_unit_test(who_was_due_longest_is_charged),
        cmocka_unit_test(an_engine_that_reads_nothing_is_replaced),
        cmocka_unit_test(work_without_a_word_is_no_hang),
        cmocka_unit_test(an_engine_that_owes_nothing_may_be_silent),
        cmocka_unit_test(without_a_timeout_nothing_hangs),
        cmocka_unit_test(an_hour_that_nobody_watched_is_no_hang),
        cmocka_unit_test(what_is_awaited_anew_gets_its_full_time),
        cmocka_unit_test(stillness_is_told_before_a_hang),
        cmocka_unit_test(an_engine_that_cannot_be_killed_holds_up_nothing_but_the_next),
        cmocka_unit_test(an_engine_that_does_not_stop_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
