/* Engines that die: whatever they die of, the front learns of it once, blames the right task, starts the next one, and leaves no process
 * and no descriptor behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/engine_death.h"
#include "descriptors.h"
#include "engine_record.h"

/* The kernel's count of OOM kills, or what a test pretends it is. */
static struct pretended_oom {
    bool pretends;
    uint64_t kills;
    int readings;
} oom;

uint64_t __real_engine_oom_kills(const char *root);
uint64_t __wrap_engine_oom_kills(const char *root);
uint64_t __wrap_engine_oom_kills(const char *root) {
    if (!oom.pretends) return __real_engine_oom_kills(root);
    oom.readings++;
    return oom.kills;
}

/* Every way to die: who is charged, what is said, and that a next engine works. */
static void deaths_are_told_and_charged(void **state) {
    (void)state;
    static const struct {
        const char *prompt, *reason;
        bool charged;
        const char *running;
    } cases[] = {
        {"segv", "killed by SIGSEGV", true, "t"},
        {"abrt", "killed by SIGABRT", true, "t"},
        {"bus", "killed by SIGBUS", true, "t"},
        {"fpe", "killed by SIGFPE", true, "t"},
        {"ill", "killed by SIGILL", true, "t"},
        {"kill", "killed by SIGKILL", false, "t"},
        {"exit", "exited with status 3", false, "t"},
        {"silent abrt", "killed by SIGABRT", false, ""}, /* no slice was running: nobody to charge */
        {"late segv", "killed by SIGSEGV", false, ""},   /* done came first */
        {"garbage", "killed for sending something that is no message", false, "t"},
        {"wrong kind", "killed for sending something that is no message", false, "t"},
        {"unsealed", "killed for sending something that is no message", false, "t"},
        {"short image", "killed for sending something that is no message", false, "t"},
        {"unsealed preview", "killed for sending something that is no message", false, "t"},
        {"short preview", "killed for sending something that is no message", false, "t"},
        {"close", "killed by SIGKILL", false, "t"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        record r;
        engine_client *c = record_start(&r, "");
        assert_true(record_until(c, &r.ready, 1, 10));
        pid_t first = engine_client_pid(c);
        assert_true(record_admit(c, "t", cases[i].prompt));
        if (!record_until(c, &r.died, 1, 10)) fail_msg("'%s' was not noticed", cases[i].prompt);
        if (r.death.charged != cases[i].charged) fail_msg("'%s' was charged wrongly", cases[i].prompt);
        assert_string_equal(r.death.reason, cases[i].reason);
        assert_string_equal(r.death.running, cases[i].running);
        assert_int_equal(r.done, strcmp(cases[i].prompt, "late segv") == 0);
        assert_false(record_admit(c, "u", "done"));
        int done = r.done;
        assert_true(record_until(c, &r.ready, 2, 10));
        assert_int_not_equal(engine_client_pid(c), first);
        assert_true(record_admit(c, "u", "done"));
        assert_true(record_until(c, &r.done, done + 1, 10));
        assert_int_equal(r.died, 1);
        record_finish(c, &r);
    }
}

static void a_foreign_kill_charges_nothing(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "");
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "hang"));
    assert_true(record_until(c, &r.progress, 1, 10));
    kill(engine_client_pid(c), SIGKILL);
    assert_true(record_until(c, &r.died, 1, 10));
    assert_false(r.death.charged);
    assert_string_equal(r.death.running, "t");
    record_finish(c, &r);
}

/* An engine that never idles: an OOM kill of somebody else, a while ago, makes no foreign kill the task's fault; one of just now is its
 * own. */
static void an_old_oom_kill_elsewhere_charges_nothing(void **state) {
    (void)state;
    for (int own = 0; own < 2; own++) {
        record r;
        oom = (struct pretended_oom){.pretends = true, .kills = 5};
        engine_client *c = record_start(&r, "");
        assert_true(record_until(c, &r.ready, 1, 10));
        assert_true(record_admit(c, "t", "busy"));
        assert_true(record_until(c, &r.progress, 1, 10));
        oom = (struct pretended_oom){.pretends = true, .kills = 6};
        assert_true(record_until(c, &oom.readings, 1, 60));
        assert_true(record_until(c, &r.progress, r.progress + 2, 10)); /* slices that began after it */
        kill(engine_client_pid(c), SIGSTOP);
        record_turn(c, 0.1);
        record_turn(c, 0.1);
        oom.kills += (uint64_t)own;
        kill(engine_client_pid(c), SIGKILL);
        assert_true(record_until(c, &r.died, 1, 10));
        assert_string_equal(r.death.running, "t");
        assert_int_equal(r.death.charged, own);
        assert_string_equal(r.death.reason, own ? "killed by SIGKILL (out of memory)" : "killed by SIGKILL");
        oom.pretends = false;
        record_finish(c, &r);
    }
}

static void pauses_double_while_engines_die_at_once(void **state) {
    (void)state;
    record r;
    double begin = clock_seconds();
    engine_client *c = record_start(&r, "exit");
    assert_true(record_until(c, &r.died, 2, 10));
    double second = clock_seconds() - begin; /* no pause before the second */
    assert_true(record_until(c, &r.died, 4, 10));
    double fourth = clock_seconds() - begin; /* 0.1 and 0.2 s before the third and fourth */
    assert_true(fourth - second >= 0.29);
    assert_string_equal(r.death.reason, "exited with status 5");
    int wait = engine_client_wait_ms(c);
    assert_true(wait > 300 && wait <= 401);
    assert_int_equal(engine_client_fd(c), -1);
    assert_int_equal(engine_client_pid(c), 0);

    setenv("FAKE_ENGINE", "", 1); /* the next one lives, finishes a task, and so clears the record */
    assert_true(record_until(c, &r.ready, 1, 10));
    assert_true(record_admit(c, "t", "done"));
    assert_true(record_until(c, &r.done, 1, 10));
    kill(engine_client_pid(c), SIGKILL);
    assert_true(record_until(c, &r.died, 5, 10));
    assert_in_range(engine_client_wait_ms(c), 0, 1);
    record_finish(c, &r);
}

static void an_engine_that_cannot_start_is_reported(void **state) {
    (void)state;
    record r = {0};
    const char *fake = getenv("IMAGINED_FAKE_ENGINE");
    int before = open_descriptors();
    setenv("IMAGINED_ENGINE_EXECUTABLE", "/nonexistent/engine", 1);
    const engine_events events = record_events(&r);
    engine_client *c = NULL;
    error e = {0};
    assert_false(engine_client_new(&(engine_options){"cpu", 0, 1, 1}, &events, &c, &e));
    assert_null(c);
    assert_non_null(strstr(e.text, "/nonexistent/engine"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);

    /* The binary goes away while the server runs. */
    char copy[] = "/tmp/imagined-fake-XXXXXX", command[1024];
    int fd = mkstemp(copy);
    assert_true(fd >= 0);
    close(fd);
    snprintf(command, sizeof command, "cp '%s' %s && chmod 700 %s", fake, copy, copy);
    assert_int_equal(system(command), 0);
    setenv("IMAGINED_ENGINE_EXECUTABLE", copy, 1);
    c = record_start(&r, "exit");
    setenv("IMAGINED_ENGINE_EXECUTABLE", fake, 1);
    unlink(copy);
    assert_true(record_until(c, &r.died, 3, 10));
    assert_non_null(strstr(r.death.reason, "cannot start the engine"));
    assert_false(r.death.charged);
    assert_int_equal(r.death.running[0], 0);
    record_finish(c, &r);
    assert_int_equal(open_descriptors(), before);
}

static void an_engines_last_words_are_told_with_its_death(void **state) {
    (void)state;
    record r;
    engine_client *c = record_start(&r, "no device");
    assert_true(record_until(c, &r.died, 1, 10));
    assert_string_equal(r.death.reason, "there is no device 'x'");
    assert_false(r.death.charged);
    setenv("FAKE_ENGINE", "exit", 1);
    assert_true(record_until(c, &r.died, 2, 10));
    assert_string_equal(r.death.reason, "exited with status 5"); /* the words were the other's */
    assert_int_equal(r.failed, 0);
    record_finish(c, &r);
}

static void nothing_leaks_over_many_engines(void **state) {
    (void)state;
    record r;
    int before = open_descriptors();
    engine_client *c = record_start(&r, "");
    static const char *const ends[] = {"segv", "kill", "garbage", "short image", "late segv"};
    for (int i = 0; i < 25; i++) {
        assert_true(record_until(c, &r.ready, i + 1, 10));
        assert_true(record_admit(c, "t", "done"));
        int done = r.done;
        assert_true(record_until(c, &r.done, done + 1, 10));
        assert_true(record_admit(c, "u", ends[i % 5]));
        assert_true(record_until(c, &r.died, i + 1, 10));
    }
    record_finish(c, &r);
    assert_int_equal(open_descriptors(), before);
}

static int signalled(int number) { return number; } /* a waitpid status: the signal in its low seven bits */

static void only_the_works_own_deaths_are_charged(void **state) {
    (void)state;
    char text[64];
    assert_true(engine_death_is_charged(signalled(SIGSEGV), false));
    assert_true(engine_death_is_charged(signalled(SIGABRT) | 0x80, false)); /* with a core dump */
    assert_false(engine_death_is_charged(signalled(SIGKILL), false));
    assert_true(engine_death_is_charged(signalled(SIGKILL), true));
    assert_false(engine_death_is_charged(signalled(SIGTERM), true));
    assert_false(engine_death_is_charged(0, true));
    assert_false(engine_death_is_charged(1 << 8, false));
    engine_death_describe(signalled(SIGKILL), true, text, sizeof text);
    assert_string_equal(text, "killed by SIGKILL (out of memory)");
    engine_death_describe(2 << 8, false, text, sizeof text);
    assert_string_equal(text, "exited with status 2");
}

static void put(const char *root, const char *path, const char *text) {
    char full[512], command[600];
    snprintf(full, sizeof full, "%s%s", root, path);
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", full);
    assert_int_equal(system(command), 0);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void oom_kills_are_counted_where_the_kernel_tells(void **state) {
    (void)state;
    char root[] = "/tmp/imagined-oom-XXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    assert_int_equal(engine_oom_kills(root), 0); /* nothing tells */
    put(root, "/proc/vmstat", "oom_kill_other 9\noom_kill 2\n");
    assert_int_equal(engine_oom_kills(root), 2);
    put(root, "/proc/self/cgroup", "0::/a b:c/x.service\n");
    assert_int_equal(engine_oom_kills(root), 2); /* a cgroup without its files */
    put(root, "/sys/fs/cgroup/memory.events", "low 1\noom 8\noom_kill 3\n");
    assert_int_equal(engine_oom_kills(root), 3); /* a container's view */
    put(root, "/sys/fs/cgroup/a b:c/x.service/memory.events", "low 1\noom 8\noom_kill 4\noom_group_kill 0\n");
    assert_int_equal(engine_oom_kills(root), 4);
    put(root, "/proc/self/cgroup", "12:cpu,memory:/docker/1\n1:name=systemd:/docker/1\n0::/docker/1\n");
    put(root, "/sys/fs/cgroup/memory/docker/1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
    assert_int_equal(engine_oom_kills(root), 5);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

int main(void) {
    if (!record_set_up()) return 77; /* run by meson */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deaths_are_told_and_charged),
        cmocka_unit_test(a_foreign_kill_charges_nothing),
        cmocka_unit_test(an_old_oom_kill_elsewhere_charges_nothing),
        cmocka_unit_test(pauses_double_while_engines_die_at_once),
        cmocka_unit_test(an_engine_that_cannot_start_is_reported),
        cmocka_unit_test(an_engines_last_words_are_told_with_its_death),
        cmocka_unit_test(nothing_leaks_over_many_engines),
        cmocka_unit_test(only_the_works_own_deaths_are_charged),
        cmocka_unit_test(oom_kills_are_counted_where_the_kernel_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
