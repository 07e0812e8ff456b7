/* The front's side of an engine: whatever the engine does, the front learns of it once, starts the next one, blames the right task,
 * and leaves no process and no descriptor behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "engine/engine_client.h"
#include "engine/engine_death.h"

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

/* Processes that no signal of the client ends, as if they were stuck in the kernel; and a clock that a test may put forward. */
static bool nothing_kills;
static double clock_offset;

int __real_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number) { return nothing_kills ? 0 : __real_kill(pid, number); }

double __real_clock_seconds(void);
double __wrap_clock_seconds(void);
double __wrap_clock_seconds(void) { return __real_clock_seconds() + clock_offset; }

/* What the client told, in order. */
typedef struct record {
    buffer told; /* "ready;progress a;image a;done a;died a;" with progress told once in a row */
    int ready, progress, images, done, failed, died;
    engine_death death; /* the last */
    error fault;        /* of the last failed */
} record;

static void on_ready(void *context, const engine_message *m) {
    record *r = context;
    r->ready++;
    assert_string_equal(m->hello.device_kind, "fake");
    buffer_printf(&r->told, "ready;");
}

static void on_progress(void *context, const engine_message *m) {
    record *r = context;
    if (r->progress++ == 0) buffer_printf(&r->told, "progress %s;", m->id);
}

static void on_image(void *context, const engine_message *m, int memfd) {
    record *r = context;
    r->images++;
    unsigned char pixels[12] = {0};
    assert_int_equal(pread(memfd, pixels, sizeof pixels, 0), 12);
    assert_int_equal(pixels[11], 7);
    assert_int_equal(fcntl(memfd, F_GETFD), FD_CLOEXEC);
    close(memfd);
    buffer_printf(&r->told, "image %s;", m->id);
}

static void on_done(void *context, const engine_message *m) {
    record *r = context;
    r->done++;
    buffer_printf(&r->told, "done %s;", m->id);
}

static void on_failed(void *context, const engine_message *m) {
    record *r = context;
    r->failed++;
    r->fault = m->fault;
    buffer_printf(&r->told, "failed %s;", m->id);
}

static void on_preview(void *context, const engine_message *m, int memfd) {
    record *r = context;
    unsigned char pixels[12] = {0};
    assert_int_equal(pread(memfd, pixels, sizeof pixels, 0), 12);
    assert_int_equal(pixels[11], 7);
    assert_int_equal(fcntl(memfd, F_GETFD), FD_CLOEXEC);
    close(memfd);
    buffer_printf(&r->told, "preview %s;", m->id);
}

static void on_died(void *context, const engine_death *d) {
    record *r = context;
    r->died++;
    r->death = *d;
    buffer_printf(&r->told, "died %s;", d->running);
}

static bool hears_no_previews; /* the next client */
static int timeout_seconds;    /* the next client's */

static void on_answer(void *context, const char *command, const engine_answer *a) {
    (void)a;
    buffer_printf(&((record *)context)->told, "answer %s;", command);
}

static engine_client *start(record *r, const char *behaviour) {
    *r = (record){0};
    setenv("FAKE_ENGINE", behaviour, 1);
    engine_events events = {r, on_ready, on_progress, on_image, on_done, on_failed, on_died, .answer = on_answer,
                            .preview = hears_no_previews ? NULL : on_preview};
    engine_client *c = NULL;
    error e = {0};
    if (!engine_client_new(&(engine_options){"cpu", 2, 2, 1, .timeout_seconds = timeout_seconds}, &events, &c, &e)) fail_msg("%s", e.text);
    timeout_seconds = 0;
    return c;
}

/* One turn of an event loop: sleeps until the client has something to do, or `most` seconds. */
static void turn(engine_client *c, double most) {
    int wait = engine_client_wait_ms(c), most_ms = (int)(most * 1000.0);
    struct pollfd p = {.fd = engine_client_fd(c), .events = POLLIN};
    poll(&p, 1, wait >= 0 && wait < most_ms ? wait : most_ms);
    engine_client_service(c);
}

static bool run_until(engine_client *c, const int *counter, int value, double seconds) {
    double deadline = clock_seconds() + seconds;
    while (*counter < value && clock_seconds() < deadline) turn(c, deadline - clock_seconds());
    return *counter >= value;
}

static bool admit(engine_client *c, const char *id, const char *what) {
    engine_request request = {.width = 2, .height = 2, .steps = 1, .count = 1, .max_sequence_length = 1};
    snprintf(request.prompt, sizeof request.prompt, "%s", what);
    return engine_client_admit(c, id, &request, &(engine_files){0}, NULL);
}

static int open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    int n = 0;
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}

/* Frees, then asks the kernel whether a child is left, and gives the record back. */
static void finish(engine_client *c, record *r) {
    engine_client_free(c);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    buffer_free(&r->told);
}

static void a_task_goes_through(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_false(engine_client_ready(c));
    assert_false(admit(c, "early", "done"));
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "a", "done"));
    assert_true(run_until(c, &r.done, 1, 10));
    assert_true(admit(c, "b", "fail"));
    assert_true(run_until(c, &r.failed, 1, 10));
    assert_int_equal(r.fault.code, ERROR_BAD_FILE);
    assert_string_equal(r.fault.text, "the file is bad");
    assert_true(engine_client_cancel(c, "c", NULL));
    assert_true(run_until(c, &r.failed, 2, 10));
    assert_int_equal(r.fault.code, ERROR_CANCELLED);
    assert_string_equal(buffer_text(&r.told), "ready;progress a;image a;done a;failed b;failed c;");
    assert_int_equal(engine_client_wait_ms(c), -1);
    finish(c, &r);
}

/* Also to a front that does not want them: the descriptor is closed then. */
static void a_preview_comes_before_its_end(void **state) {
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        record r;
        hears_no_previews = turn == 1;
        engine_client *c = start(&r, "");
        hears_no_previews = false;
        assert_true(run_until(c, &r.ready, 1, 10));
        int before = open_descriptors();
        assert_true(admit(c, "a", "preview"));
        assert_true(run_until(c, &r.done, 1, 10));
        assert_int_equal(open_descriptors(), before);
        assert_string_equal(buffer_text(&r.told), turn == 0 ? "ready;progress a;preview a;done a;" : "ready;progress a;done a;");
        finish(c, &r);
    }
}

static void an_id_that_does_not_fit_is_refused(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_false(admit(c, "", "done"));
    assert_false(admit(c, "1234567890123456789012345678901234567890", "done"));
    finish(c, &r);
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
        engine_client *c = start(&r, "");
        assert_true(run_until(c, &r.ready, 1, 10));
        pid_t first = engine_client_pid(c);
        assert_true(admit(c, "t", cases[i].prompt));
        if (!run_until(c, &r.died, 1, 10)) fail_msg("'%s' was not noticed", cases[i].prompt);
        if (r.death.charged != cases[i].charged) fail_msg("'%s' was charged wrongly", cases[i].prompt);
        assert_string_equal(r.death.reason, cases[i].reason);
        assert_string_equal(r.death.running, cases[i].running);
        assert_int_equal(r.done, strcmp(cases[i].prompt, "late segv") == 0);
        assert_false(admit(c, "u", "done"));
        int done = r.done;
        assert_true(run_until(c, &r.ready, 2, 10));
        assert_int_not_equal(engine_client_pid(c), first);
        assert_true(admit(c, "u", "done"));
        assert_true(run_until(c, &r.done, done + 1, 10));
        assert_int_equal(r.died, 1);
        finish(c, &r);
    }
}

static void a_foreign_kill_charges_nothing(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "hang"));
    assert_true(run_until(c, &r.progress, 1, 10));
    kill(engine_client_pid(c), SIGKILL);
    assert_true(run_until(c, &r.died, 1, 10));
    assert_false(r.death.charged);
    assert_string_equal(r.death.running, "t");
    finish(c, &r);
}

/* An engine that never idles: an OOM kill of somebody else, a while ago, makes no foreign kill the task's fault; one of just now is its own. */
static void an_old_oom_kill_elsewhere_charges_nothing(void **state) {
    (void)state;
    for (int own = 0; own < 2; own++) {
        record r;
        oom = (struct pretended_oom){.pretends = true, .kills = 5};
        engine_client *c = start(&r, "");
        assert_true(run_until(c, &r.ready, 1, 10));
        assert_true(admit(c, "t", "busy"));
        assert_true(run_until(c, &r.progress, 1, 10));
        oom = (struct pretended_oom){.pretends = true, .kills = 6};
        assert_true(run_until(c, &oom.readings, 1, 60));
        assert_true(run_until(c, &r.progress, r.progress + 2, 10)); /* slices that began after it */
        kill(engine_client_pid(c), SIGSTOP);
        turn(c, 0.1);
        turn(c, 0.1);
        oom.kills += (uint64_t)own;
        kill(engine_client_pid(c), SIGKILL);
        assert_true(run_until(c, &r.died, 1, 10));
        assert_string_equal(r.death.running, "t");
        assert_int_equal(r.death.charged, own);
        assert_string_equal(r.death.reason, own ? "killed by SIGKILL (out of memory)" : "killed by SIGKILL");
        oom.pretends = false;
        finish(c, &r);
    }
}

static void messages_of_another_engine_are_dropped(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "stale"));
    assert_true(run_until(c, &r.done, 1, 10));
    turn(c, 0.05);
    assert_int_equal(r.done, 1);
    assert_int_equal(r.images, 0);
    finish(c, &r);
}

static void a_flood_arrives_whole_and_never_holds_the_loop(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "flood"));
    usleep(50000); /* a front that is busy elsewhere: the engine waits for it */
    int before = 0;
    while (r.done == 0) {
        turn(c, 10);
        assert_true(r.progress - before <= 256);
        before = r.progress;
    }
    assert_int_equal(r.progress, 20001);
    finish(c, &r);
}

static void pauses_double_while_engines_die_at_once(void **state) {
    (void)state;
    record r;
    double begin = clock_seconds();
    engine_client *c = start(&r, "exit");
    assert_true(run_until(c, &r.died, 2, 10));
    double second = clock_seconds() - begin; /* no pause before the second */
    assert_true(run_until(c, &r.died, 4, 10));
    double fourth = clock_seconds() - begin; /* 0.1 and 0.2 s before the third and fourth */
    assert_true(fourth - second >= 0.29);
    assert_string_equal(r.death.reason, "exited with status 5");
    int wait = engine_client_wait_ms(c);
    assert_true(wait > 300 && wait <= 401);
    assert_int_equal(engine_client_fd(c), -1);
    assert_int_equal(engine_client_pid(c), 0);

    setenv("FAKE_ENGINE", "", 1); /* the next one lives, finishes a task, and so clears the record */
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "done"));
    assert_true(run_until(c, &r.done, 1, 10));
    kill(engine_client_pid(c), SIGKILL);
    assert_true(run_until(c, &r.died, 5, 10));
    assert_in_range(engine_client_wait_ms(c), 0, 1);
    finish(c, &r);
}

static void an_engine_that_cannot_start_is_reported(void **state) {
    (void)state;
    record r = {0};
    const char *fake = getenv("IMAGINED_FAKE_ENGINE");
    int before = open_descriptors();
    setenv("IMAGINED_ENGINE_EXECUTABLE", "/nonexistent/engine", 1);
    engine_events events = {&r, on_ready, on_progress, on_image, on_done, on_failed, on_died};
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
    c = start(&r, "exit");
    setenv("IMAGINED_ENGINE_EXECUTABLE", fake, 1);
    unlink(copy);
    assert_true(run_until(c, &r.died, 3, 10));
    assert_non_null(strstr(r.death.reason, "cannot start the engine"));
    assert_false(r.death.charged);
    assert_int_equal(r.death.running[0], 0);
    finish(c, &r);
    assert_int_equal(open_descriptors(), before);
}

static void an_engines_last_words_are_told_with_its_death(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "no device");
    assert_true(run_until(c, &r.died, 1, 10));
    assert_string_equal(r.death.reason, "there is no device 'x'");
    assert_false(r.death.charged);
    setenv("FAKE_ENGINE", "exit", 1);
    assert_true(run_until(c, &r.died, 2, 10));
    assert_string_equal(r.death.reason, "exited with status 5"); /* the words were the other's */
    assert_int_equal(r.failed, 0);
    finish(c, &r);
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
    engine_client *c = start(&r, "");
    sigprocmask(SIG_UNBLOCK, &some, NULL);
    signal(SIGUSR1, SIG_DFL);
    close(forgotten);
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "report"));
    assert_true(run_until(c, &r.failed, 1, 10));
    assert_string_equal(r.fault.text, "open 0 blocked 0 ignored 1 default 1");
    finish(c, &r);
}

/* The files of a task arrive in their order, and the caller's stay its own. */
static void files_come_along(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    engine_request request = {.width = 2, .height = 2, .steps = 1, .count = 1, .max_sequence_length = 1, .prompt = "files", .has_image = true, .has_mask = true,
                              .strength = 0.5};
    engine_files files = {2, {memfd_create("image", MFD_CLOEXEC), memfd_create("mask", MFD_CLOEXEC)}};
    assert_int_equal(write(files.fds[0], "picture", 7), 7);
    assert_int_equal(write(files.fds[1], "mask", 4), 4);
    for (int i = 1; i <= 2; i++) { /* the second time with the same */
        assert_true(engine_client_admit(c, "t", &request, &files, NULL));
        assert_true(run_until(c, &r.failed, i, 10));
        assert_string_equal(r.fault.text, "picture|mask|");
    }
    engine_files_close(&files);
    request.has_image = request.has_mask = false;
    assert_true(engine_client_admit(c, "t", &request, &files, NULL));
    assert_true(run_until(c, &r.failed, 3, 10));
    assert_string_equal(r.fault.text, "");
    finish(c, &r);
}

static void the_end_is_polite_then_not(void **state) {
    (void)state;
    record r;
    double begin = clock_seconds();
    engine_client *c = start(&r, "mute"); /* stops on request, though it never said hello */
    finish(c, &r);
    assert_true(clock_seconds() - begin < 1.5);
    c = start(&r, "deaf");
    assert_true(run_until(c, &r.ready, 1, 10));
    begin = clock_seconds();
    finish(c, &r);
    double took = clock_seconds() - begin;
    assert_true(took > 1.9 && took < 4);
    c = start(&r, "abrt"); /* freed between two engines */
    assert_true(run_until(c, &r.died, 2, 10));
    assert_int_equal(engine_client_pid(c), 0);
    finish(c, &r);
    engine_client_free(NULL);
}

/* --- hanging --- */

static void assert_hung(const record *r, const char *running, bool charged) {
    assert_true(r->death.hung);
    assert_non_null(strstr(r->death.reason, "hung"));
    assert_string_equal(r->death.running, running);
    assert_int_equal(r->death.charged, charged);
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
        timeout_seconds = 2;
        engine_client *c = start(&r, "");
        assert_true(run_until(c, &r.ready, 1, 10));
        pid_t first = engine_client_pid(c);
        assert_true(admit(c, "t", cases[i].prompt));
        assert_true(run_until(c, &r.died, 1, 60));
        assert_hung(&r, "t", true);
        assert_true(WIFSIGNALED(r.death.status));
        assert_int_equal(WTERMSIG(r.death.status), cases[i].number);
        assert_int_equal(r.death.pid, first);
        assert_int_equal(r.death.engine, 1);
        assert_true(run_until(c, &r.ready, 2, 10));
        assert_true(admit(c, "u", "done"));
        assert_true(run_until(c, &r.done, 1, 10));
        finish(c, &r);
    }
}

/* Before its hello, before the first word about a task, over a command: nobody is charged where no slice ran. */
static void an_engine_that_does_not_answer_is_replaced(void **state) {
    (void)state;
    record r;
    timeout_seconds = 1;
    engine_client *c = start(&r, "mute");
    setenv("FAKE_ENGINE", "", 1);
    assert_true(run_until(c, &r.died, 1, 60));
    assert_hung(&r, "", false);
    assert_int_equal(r.ready, 0);
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "silent hang"));
    assert_true(run_until(c, &r.died, 2, 60));
    assert_hung(&r, "", false);
    assert_true(run_until(c, &r.ready, 2, 10));
    assert_true(engine_client_command(c, MESSAGE_CLEANUP, "c", NULL, NULL)); /* which this engine knows nothing of */
    assert_true(run_until(c, &r.died, 3, 60));
    assert_hung(&r, "", false);
    finish(c, &r);
}

/* It owes nothing, but does not even read what it is told. */
static void an_engine_that_reads_nothing_is_replaced(void **state) {
    (void)state;
    record r;
    timeout_seconds = 1;
    engine_client *c = start(&r, "deaf");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    setenv("FAKE_ENGINE", "", 1);
    while (engine_client_set_priority(c, "t", 1, NULL)) {}
    assert_true(engine_client_wait_ms(c) >= 0);
    assert_true(run_until(c, &r.died, 1, 60));
    assert_hung(&r, "", false);
    finish(c, &r);
}

static void work_without_a_word_is_no_hang(void **state) {
    (void)state;
    record r;
    timeout_seconds = 2;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "compute"));
    assert_true(run_until(c, &r.done, 1, 60));
    assert_int_equal(r.died, 0);
    finish(c, &r);
}

static bool turn_for(engine_client *c, double seconds, const record *r) {
    double end = clock_seconds() + seconds;
    while (clock_seconds() < end && r->died == 0) turn(c, 0.2);
    return r->died == 0;
}

/* Nobody looks then, and nothing wakes the loop. */
static void an_engine_that_owes_nothing_may_be_silent(void **state) {
    (void)state;
    record r;
    timeout_seconds = 1;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    assert_true(admit(c, "t", "done"));
    assert_in_range(engine_client_wait_ms(c), 0, 101);
    assert_true(run_until(c, &r.done, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    assert_true(turn_for(c, 2, &r));
    /* A task that gets no slices, then is cancelled. */
    assert_true(admit(c, "u", "nothing"));
    assert_true(engine_client_suspend(c, "u", NULL));
    assert_int_equal(engine_client_wait_ms(c), -1);
    assert_true(turn_for(c, 2, &r));
    assert_true(engine_client_cancel(c, "u", NULL));
    assert_true(run_until(c, &r.failed, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    finish(c, &r);
}

static void without_a_timeout_nothing_hangs(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "hang"));
    assert_true(run_until(c, &r.progress, 1, 10));
    assert_int_equal(engine_client_wait_ms(c), -1);
    finish(c, &r);
}

/* The server was stopped together with its engine, for an hour: the engine gets what time it had. */
static void an_hour_that_nobody_watched_is_no_hang(void **state) {
    (void)state;
    record r;
    timeout_seconds = 20;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    assert_true(admit(c, "t", "hang"));
    assert_true(run_until(c, &r.progress, 1, 10));
    for (int i = 0; i < 3; i++) {
        clock_offset += 3600;
        turn(c, 0);
        assert_true(engine_client_ready(c));
    }
    assert_int_equal(r.died, 0);
    finish(c, &r);
}

/* Its tasks are put back at once, and the next engine waits until it is gone. */
static void an_engine_that_cannot_be_killed_holds_up_nothing_but_the_next(void **state) {
    (void)state;
    record r;
    int before = open_descriptors();
    timeout_seconds = 1;
    engine_client *c = start(&r, "");
    assert_true(run_until(c, &r.ready, 1, 10));
    pid_t first = engine_client_pid(c);
    assert_true(admit(c, "t", "hang"));
    assert_true(run_until(c, &r.progress, 1, 10));
    nothing_kills = true;
    double give_up = clock_seconds() + 60;
    while (engine_client_ready(c) && clock_seconds() < give_up) turn(c, 0.2);
    assert_false(engine_client_ready(c));
    assert_int_equal(r.died, 0); /* it may still write its core */
    assert_false(engine_client_stuck(c));
    clock_offset += 6; /* SIGKILL is due */
    turn(c, 0);
    clock_offset += 11;
    turn(c, 0);
    assert_int_equal(r.died, 1);
    assert_hung(&r, "t", true);
    assert_non_null(strstr(r.death.reason, "does not end"));
    assert_true(engine_client_stuck(c));
    assert_in_range(engine_client_wait_ms(c), 500, 2000);
    assert_int_equal(engine_client_fd(c), -1);
    assert_false(admit(c, "t", "done"));
    clock_offset += 100;
    turn(c, 0.1);
    assert_int_equal(engine_client_pid(c), first);
    assert_int_equal(r.died, 1);

    nothing_kills = false;
    kill(first, SIGKILL);
    assert_true(run_until(c, &r.ready, 2, 10));
    assert_false(engine_client_stuck(c));
    assert_int_equal(r.died, 1);
    assert_true(admit(c, "t", "done"));
    assert_true(run_until(c, &r.done, 1, 10));
    finish(c, &r);
    assert_int_equal(open_descriptors(), before);
}

/* Neither does one that was only told to stop, nor one at the server's end. */
static void an_engine_that_does_not_stop_is_left(void **state) {
    (void)state;
    record r;
    engine_client *c = start(&r, "deaf");
    assert_true(run_until(c, &r.ready, 1, 10));
    pid_t first = engine_client_pid(c);
    nothing_kills = true;
    engine_client_stop(c);
    clock_offset += 3;
    turn(c, 0);
    assert_false(engine_client_stuck(c));
    clock_offset += 11;
    turn(c, 0);
    assert_true(engine_client_stuck(c));
    assert_int_equal(r.died, 1);
    assert_false(r.death.hung);
    engine_client_start(c);
    turn(c, 0.1);
    assert_int_equal(engine_client_pid(c), first);
    engine_client_free(c); /* in no time worth mention: it was waited for already */
    buffer_free(&r.told);
    nothing_kills = false;
    kill(first, SIGKILL);
    assert_int_equal(waitpid(first, NULL, 0), first);
}

/* Turns until no process is left, at most ten seconds. */
static bool run_until_gone(engine_client *c) {
    double deadline = clock_seconds() + 10;
    while (engine_client_pid(c) != 0 && clock_seconds() < deadline) turn(c, 0.1);
    return engine_client_pid(c) == 0;
}

static void a_stopped_engine_is_gone_until_it_is_started(void **state) {
    (void)state;
    static const char *const behaviours[] = {"", "deaf"};
    for (int i = 0; i < 2; i++) {
        record r;
        engine_client *c = start(&r, behaviours[i]);
        assert_true(run_until(c, &r.ready, 1, 10));
        engine_client_stop(c);
        assert_true(engine_client_stopped(c));
        assert_false(engine_client_ready(c));
        assert_false(admit(c, "a", "done"));
        assert_true(run_until_gone(c));
        assert_int_equal(engine_client_fd(c), -1);
        assert_int_equal(engine_client_wait_ms(c), -1);
        engine_client_service(c);
        assert_int_equal(engine_client_pid(c), 0);
        engine_client_start(c);
        assert_true(run_until(c, &r.ready, 2, 10));
        assert_int_equal(r.died, 0);
        /* Started again while the old one still ends. */
        engine_client_stop(c);
        engine_client_start(c);
        assert_true(run_until(c, &r.ready, 3, 10));
        assert_int_equal(r.died, 0);
        finish(c, &r);
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
        engine_client *c = start(&r, "deaf"); /* only the parent-death signal reaches it */
        if (!run_until(c, &r.ready, 1, 10)) _exit(1);
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

static void nothing_leaks_over_many_engines(void **state) {
    (void)state;
    record r;
    int before = open_descriptors();
    engine_client *c = start(&r, "");
    static const char *const ends[] = {"segv", "kill", "garbage", "short image", "late segv"};
    for (int i = 0; i < 25; i++) {
        assert_true(run_until(c, &r.ready, i + 1, 10));
        assert_true(admit(c, "t", "done"));
        int done = r.done;
        assert_true(run_until(c, &r.done, done + 1, 10));
        assert_true(admit(c, "u", ends[i % 5]));
        assert_true(run_until(c, &r.died, i + 1, 10));
    }
    finish(c, &r);
    assert_int_equal(open_descriptors(), before);
}

/* --- who is to blame --- */

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
    const char *fake = getenv("IMAGINED_FAKE_ENGINE");
    if (fake == NULL) return 77; /* run by meson */
    setenv("IMAGINED_ENGINE_EXECUTABLE", fake, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_goes_through),
        cmocka_unit_test(a_preview_comes_before_its_end),
        cmocka_unit_test(an_id_that_does_not_fit_is_refused),
        cmocka_unit_test(deaths_are_told_and_charged),
        cmocka_unit_test(a_foreign_kill_charges_nothing),
        cmocka_unit_test(an_old_oom_kill_elsewhere_charges_nothing),
        cmocka_unit_test(messages_of_another_engine_are_dropped),
        cmocka_unit_test(a_flood_arrives_whole_and_never_holds_the_loop),
        cmocka_unit_test(pauses_double_while_engines_die_at_once),
        cmocka_unit_test(an_engine_that_cannot_start_is_reported),
        cmocka_unit_test(an_engines_last_words_are_told_with_its_death),
        cmocka_unit_test(the_engine_inherits_nothing),
        cmocka_unit_test(files_come_along),
        cmocka_unit_test(the_end_is_polite_then_not),
        cmocka_unit_test(an_engine_that_hangs_in_a_slice_is_replaced),
        cmocka_unit_test(an_engine_that_does_not_answer_is_replaced),
        cmocka_unit_test(an_engine_that_reads_nothing_is_replaced),
        cmocka_unit_test(work_without_a_word_is_no_hang),
        cmocka_unit_test(an_engine_that_owes_nothing_may_be_silent),
        cmocka_unit_test(without_a_timeout_nothing_hangs),
        cmocka_unit_test(an_hour_that_nobody_watched_is_no_hang),
        cmocka_unit_test(an_engine_that_cannot_be_killed_holds_up_nothing_but_the_next),
        cmocka_unit_test(an_engine_that_does_not_stop_is_left),
        cmocka_unit_test(a_stopped_engine_is_gone_until_it_is_started),
        cmocka_unit_test(an_engine_does_not_outlive_its_front),
        cmocka_unit_test(nothing_leaks_over_many_engines),
        cmocka_unit_test(only_the_works_own_deaths_are_charged),
        cmocka_unit_test(oom_kills_are_counted_where_the_kernel_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
