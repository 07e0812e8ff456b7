/* When an engine counts as hung: from what was seen of it alone, so that neither slow work, nor a starved machine, nor one that slept is
 * taken for a hang, and a hang never for work. Also what is due from an engine, and what the kernel tells of a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/engine_debts.h"
#include "engine/process_time.h"
#include "engine/watchdog.h"

static const double timeout = 600;

/* An engine that is looked at whenever it is due. */
typedef struct scene {
    watchdog dog;
    watchdog_sight sight;
    double share;       /* of a core that it uses */
    double heard_every; /* seconds; 0: it says nothing */
    double heard_at;
} scene;

static scene begin(double share) {
    scene s = {.sight = {.now = 1000, .awaited = true, .on_cpu = true}, .share = share, .heard_at = 1000};
    watchdog_begin(&s.dog, s.sight.now);
    return s;
}

static watchdog_verdict look_once(scene *s) {
    double due = watchdog_due(&s->dog, timeout);
    assert_true(due > s->sight.now);
    s->sight.cpu += (due - s->sight.now) * s->share;
    s->sight.now = due;
    s->sight.heard = s->heard_every > 0 && due - s->heard_at >= s->heard_every;
    if (s->sight.heard) s->heard_at = due;
    return watchdog_look(&s->dog, &s->sight, timeout);
}

/* The seconds until it counts as hung, at most `most`. */
static double until_hung(scene *s, double most, watchdog_verdict *why) {
    double start = s->sight.now;
    do *why = look_once(s);
    while (*why == WATCHDOG_ALIVE && s->sight.now - start < most);
    return s->sight.now - start;
}

static void assert_alive_for(scene s, double seconds) {
    watchdog_verdict why;
    until_hung(&s, seconds, &why);
    assert_int_equal(why, WATCHDOG_ALIVE);
}

static void assert_hung_after(scene s, double seconds, watchdog_verdict expected) {
    watchdog_verdict why;
    double took = until_hung(&s, 100 * timeout, &why);
    assert_int_equal(why, expected);
    assert_true(took >= seconds && took <= seconds + 2 * 30);
}

static void neither_words_nor_work_is_a_hang(void **state) {
    (void)state;
    assert_hung_after(begin(0), timeout, WATCHDOG_STILL);
    assert_hung_after(begin(0.0002), timeout, WATCHDOG_STILL); /* a helper thread that looks around */
    scene gpu = begin(0);
    gpu.sight.on_cpu = false;
    assert_hung_after(gpu, timeout, WATCHDOG_STILL);
}

static void slow_and_starved_work_is_none(void **state) {
    (void)state;
    assert_alive_for(begin(2), 100 * timeout);
    assert_alive_for(begin(0.003), 100 * timeout); /* niced, beside others who keep all cores busy */
    scene speaks = begin(0);
    speaks.heard_every = 0.8 * timeout;
    assert_alive_for(speaks, 100 * timeout);
}

static void work_that_ends_begins_the_wait(void **state) {
    (void)state;
    scene s = begin(1);
    watchdog_verdict why;
    until_hung(&s, 10 * timeout, &why);
    assert_int_equal(why, WATCHDOG_ALIVE);
    s.share = 0;
    assert_hung_after(s, timeout, WATCHDOG_STILL);
}

/* What waits for a driver in a loop looks like work: on a GPU it is believed for a while. */
static void off_the_cpu_work_is_believed_for_a_while_only(void **state) {
    (void)state;
    scene s = begin(1);
    s.sight.on_cpu = false;
    assert_hung_after(s, WATCHDOG_VOUCHED * timeout, WATCHDOG_SILENT);
    s.heard_every = 5 * timeout;
    assert_alive_for(s, 100 * timeout);
}

/* Long before it counts as hung. */
static void stillness_shows_after_a_few_looks(void **state) {
    (void)state;
    scene still = begin(0), works = begin(1);
    for (int i = 0; i < 2; i++) look_once(&still);
    assert_false(watchdog_is_still(&still.dog, timeout));
    for (int i = 0; i < 2; i++) look_once(&still);
    assert_true(watchdog_is_still(&still.dog, timeout));
    still.heard_every = 1;
    look_once(&still);
    assert_false(watchdog_is_still(&still.dog, timeout));
    for (int i = 0; i < 20; i++) {
        look_once(&works);
        assert_false(watchdog_is_still(&works.dog, timeout));
    }
}

/* The machine slept, or the server was stopped together with its engine: an hour passed that nobody watched. */
static void time_that_nobody_watched_does_not_count(void **state) {
    (void)state;
    scene s = begin(0);
    for (int i = 0; i < 5; i++) {
        s.sight.now += 3600;
        assert_int_equal(watchdog_look(&s.dog, &s.sight, timeout), WATCHDOG_ALIVE);
    }
    assert_true(s.dog.still <= 5 * 60);
    assert_hung_after(s, timeout - s.dog.still, WATCHDOG_STILL);
}

static void nothing_counts_while_nothing_is_due_or_a_debugger_holds_it(void **state) {
    (void)state;
    scene idle = begin(0), debugged = begin(0);
    idle.sight.awaited = false;
    debugged.sight.debugged = true;
    assert_alive_for(idle, 100 * timeout);
    assert_alive_for(debugged, 100 * timeout);
}

/* The word came before the debugger: the wait begins with it. */
static void a_word_just_before_a_debugger_counts(void **state) {
    (void)state;
    scene s = begin(0);
    watchdog_verdict why;
    until_hung(&s, 0.9 * timeout, &why);
    assert_int_equal(why, WATCHDOG_ALIVE);
    s.sight.debugged = true;
    s.heard_every = 1;
    assert_int_equal(look_once(&s), WATCHDOG_ALIVE);
    s.sight.debugged = false;
    s.heard_every = 0;
    assert_hung_after(s, timeout, WATCHDOG_STILL);
}

static void what_the_kernel_does_not_tell_is_taken_for_work(void **state) {
    (void)state;
    scene s = begin(0);
    s.sight.cpu = -1;
    assert_alive_for(s, 100 * timeout);
    s.sight.on_cpu = false;
    assert_hung_after(s, WATCHDOG_VOUCHED * timeout, WATCHDOG_SILENT);
}

/* CPU time from before something was awaited is no work done for it. */
static void work_of_earlier_does_not_count(void **state) {
    (void)state;
    scene s = begin(0);
    s.sight.cpu = 5000;
    assert_hung_after(s, timeout, WATCHDOG_STILL);
}

static void looks_are_neither_frequent_nor_rare(void **state) {
    (void)state;
    watchdog w;
    watchdog_begin(&w, 100);
    assert_true(watchdog_due(&w, 1) >= 100.1 && watchdog_due(&w, 1) < 100.11);
    assert_true(watchdog_due(&w, 60) == 103);
    assert_true(watchdog_due(&w, 1e6) == 130);
}

/* --- what is due --- */

static void a_task_is_due_until_its_end(void **state) {
    (void)state;
    static engine_debts d;
    assert_false(engine_debts_due(&d));
    engine_debts_sent(&d, MESSAGE_KNOWN_PROFILE, "");
    engine_debts_sent(&d, MESSAGE_PRIORITY, "a");
    engine_debts_sent(&d, MESSAGE_CANCEL, "gone");
    engine_debts_answered(&d, "gone");
    assert_false(engine_debts_due(&d));
    engine_debts_sent(&d, MESSAGE_ADMIT, "a");
    engine_debts_sent(&d, MESSAGE_CLEANUP, "b");
    engine_debts_answered(&d, "a");
    assert_true(engine_debts_due(&d));
    engine_debts_answered(&d, "a");
    engine_debts_answered(&d, "b");
    assert_false(engine_debts_due(&d));
    assert_int_equal(d.count, 0);
}

static void a_suspended_task_is_not_due(void **state) {
    (void)state;
    static engine_debts d;
    engine_debts_sent(&d, MESSAGE_ADMIT, "a");
    engine_debts_sent(&d, MESSAGE_SUSPEND, "a");
    assert_false(engine_debts_due(&d));
    engine_debts_sent(&d, MESSAGE_RESUME, "a");
    assert_true(engine_debts_due(&d));
    engine_debts_sent(&d, MESSAGE_SUSPEND, "a");
    engine_debts_sent(&d, MESSAGE_CANCEL, "a"); /* that is answered */
    assert_true(engine_debts_due(&d));
    engine_debts_answered(&d, "a");
    assert_false(engine_debts_due(&d));
}

/* Whom an engine hung over: what it owes longest, but rather what it never said a word of; a command is no task. */
static void the_suspect_is_what_is_due_longest(void **state) {
    (void)state;
    static engine_debts d;
    assert_string_equal(engine_debts_suspect(&d), "");
    engine_debts_sent(&d, MESSAGE_ADMIT, "a");
    engine_debts_sent(&d, MESSAGE_ADMIT, "b");
    engine_debts_sent(&d, MESSAGE_CLEANUP, "c");
    engine_debts_sent(&d, MESSAGE_ADMIT, "d");
    assert_string_equal(engine_debts_suspect(&d), "a");
    engine_debts_begun(&d, "a");
    engine_debts_begun(&d, "gone");
    assert_string_equal(engine_debts_suspect(&d), "b");
    engine_debts_sent(&d, MESSAGE_SUSPEND, "b");
    assert_string_equal(engine_debts_suspect(&d), "");
    engine_debts_sent(&d, MESSAGE_RESUME, "b");
    assert_string_equal(engine_debts_suspect(&d), "b");
    engine_debts_answered(&d, "b");
    engine_debts_answered(&d, "c");
    assert_string_equal(engine_debts_suspect(&d), "d");
    engine_debts_begun(&d, "d");
    assert_string_equal(engine_debts_suspect(&d), "a");
    engine_debts_answered(&d, "a"); /* those that are left keep their order */
    engine_debts_sent(&d, MESSAGE_ADMIT, "e");
    engine_debts_begun(&d, "e");
    assert_string_equal(engine_debts_suspect(&d), "d");
}

/* --- what the kernel tells --- */

static void the_kernels_line_is_read(void **state) {
    (void)state;
    process_time t;
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    assert_true(process_time_parse("12 (imagined-engine) D 1 1 1 0 -1 4194304 210 0 3 0 40 2 7 9 20 0 3 0 8 1 1", &t));
    assert_int_equal(t.state, 'D');
    assert_true(t.cpu_seconds == 42 * tick);
    assert_true(
        process_time_parse("12 (a) R (b) R) S 1 1 1 0 -1 4194304 210 0 3 0 18446744073709 0 7 9 20", &t)); /* a name like that is allowed */
    assert_int_equal(t.state, 'S');
    static const char *const bad[] = {
        "", "12", "12 (a", "12 (a)", "12 (a) R 1 1 1", "12 (a) R 1 1 1 0 -1 1 1 0 3 0 40", "12 (a) R 1 1 1 0 -1 1 1 0 3 0 x 2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(process_time_parse(bad[i], &t));
}

static void work_of_all_threads_shows(void **state) {
    (void)state;
    process_time before, now;
    assert_true(process_time_read(getpid(), &before));
    double give_up = clock_seconds() + 60;
    do assert_true(process_time_read(getpid(), &now));
    while (now.cpu_seconds - before.cpu_seconds < 0.05 && clock_seconds() < give_up);
    assert_true(now.cpu_seconds - before.cpu_seconds >= 0.05);
    assert_int_equal(now.state, 'R');
    pid_t child = fork();
    if (child == 0) _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_false(process_time_read(child, &now));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neither_words_nor_work_is_a_hang),
        cmocka_unit_test(slow_and_starved_work_is_none),
        cmocka_unit_test(work_that_ends_begins_the_wait),
        cmocka_unit_test(off_the_cpu_work_is_believed_for_a_while_only),
        cmocka_unit_test(stillness_shows_after_a_few_looks),
        cmocka_unit_test(time_that_nobody_watched_does_not_count),
        cmocka_unit_test(nothing_counts_while_nothing_is_due_or_a_debugger_holds_it),
        cmocka_unit_test(a_word_just_before_a_debugger_counts),
        cmocka_unit_test(what_the_kernel_does_not_tell_is_taken_for_work),
        cmocka_unit_test(work_of_earlier_does_not_count),
        cmocka_unit_test(looks_are_neither_frequent_nor_rare),
        cmocka_unit_test(a_task_is_due_until_its_end),
        cmocka_unit_test(a_suspended_task_is_not_due),
        cmocka_unit_test(the_suspect_is_what_is_due_longest),
        cmocka_unit_test(the_kernels_line_is_read),
        cmocka_unit_test(work_of_all_threads_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
