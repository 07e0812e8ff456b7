#include "engine_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"

bool record_set_up(void) {
    const char *fake = getenv("IMAGINED_FAKE_ENGINE");
    return fake != NULL && setenv("IMAGINED_ENGINE_EXECUTABLE", fake, 1) == 0;
}

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

static void take_pixels(int memfd) {
    unsigned char pixels[12] = {0};
    assert_int_equal(pread(memfd, pixels, sizeof pixels, 0), 12);
    assert_int_equal(pixels[11], 7);
    assert_int_equal(fcntl(memfd, F_GETFD), FD_CLOEXEC);
    close(memfd);
}

static void on_image(void *context, const engine_message *m, int memfd) {
    record *r = context;
    r->images++;
    take_pixels(memfd);
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
    take_pixels(memfd);
    buffer_printf(&r->told, "preview %s;", m->id);
}

static void on_died(void *context, const engine_death *d) {
    record *r = context;
    r->died++;
    r->death = *d;
    buffer_printf(&r->told, "died %s;", d->running);
}

static void on_answer(void *context, const char *command, const engine_answer *a) {
    (void)a;
    buffer_printf(&((record *)context)->told, "answer %s;", command);
}

engine_events record_events(record *r) {
    return (engine_events){r, on_ready, on_progress, on_image, on_done, on_failed, on_died, .answer = on_answer, .preview = on_preview};
}

engine_client *record_start_with(record *r, const char *behaviour, int timeout_seconds, bool hears_previews) {
    *r = (record){0};
    setenv("FAKE_ENGINE", behaviour, 1);
    engine_events events = record_events(r);
    if (!hears_previews) events.preview = NULL;
    engine_client *c = NULL;
    error e = {0};
    if (!engine_client_new(&(engine_options){"cpu", 2, 2, 1, .timeout_seconds = timeout_seconds}, &events, &c, &e)) fail_msg("%s", e.text);
    return c;
}

engine_client *record_start(record *r, const char *behaviour) { return record_start_with(r, behaviour, 0, true); }

void record_turn(engine_client *c, double most) {
    int wait = engine_client_wait_ms(c), most_ms = (int)(most * 1000.0);
    struct pollfd p = {.fd = engine_client_fd(c), .events = POLLIN};
    poll(&p, 1, wait >= 0 && wait < most_ms ? wait : most_ms);
    engine_client_service(c);
}

bool record_until(engine_client *c, const int *counter, int value, double seconds) {
    double deadline = clock_seconds() + seconds;
    while (*counter < value && clock_seconds() < deadline) record_turn(c, deadline - clock_seconds());
    return *counter >= value;
}

bool record_admit(engine_client *c, const char *id, const char *what) {
    engine_request request = {.width = 2, .height = 2, .steps = 1, .count = 1, .max_sequence_length = 1};
    snprintf(request.prompt, sizeof request.prompt, "%s", what);
    return engine_client_admit(c, id, &request, &(engine_files){0}, NULL);
}

void record_finish(engine_client *c, record *r) {
    engine_client_free(c);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    buffer_free(&r->told);
}
