#include "engine_front.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/engine_process.h"

front front_start_with(const char *device_name) {
    int ends[2];
    assert_true(engine_message_pair(ends, NULL));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(ends[0]);
        _exit(engine_process_run(ends[1], ENGINE_NUMBER,
                                 &(engine_options){.device = device_name, .threads = 3, .max_models = 2, .log_level = 3}));
    }
    close(ends[1]);
    return (front){.socket = ends[0], .pid = pid};
}

void front_send(front *f, engine_message_kind kind, const char *id, const engine_request *request) {
    static engine_message m;
    m = (engine_message){.kind = kind, .engine = ENGINE_NUMBER};
    snprintf(m.id, sizeof m.id, "%s", id);
    if (request != NULL) m.request = *request;
    assert_true(engine_message_send(f->socket, &m, -1, NULL));
}

void front_admit_as(front *f, const char *id, const char *prompt, int steps, int count, int priority, bool alone) {
    engine_request r = {.priority = priority, .alone = alone, .width = 16, .height = 8, .steps = steps, .count = count, .max_sequence_length = 1, .seed = UINT64_MAX};
    snprintf(r.prompt, sizeof r.prompt, "%s", prompt);
    front_send(f, MESSAGE_ADMIT, id, &r);
}

void front_admit(front *f, const char *id, const char *prompt, int steps, int count) {
    front_admit_as(f, id, prompt, steps, count, 2, false);
}

/* *fd: −1 where none came. */
static bool receive(front *f, int *fd) {
    engine_files files;
    bool got = false;
    error e = {0};
    if (!engine_message_receive(f->socket, 10000, &f->last, &files, &got, &e)) {
        if (strstr(e.text, "is gone") == NULL) fail_msg("%s", e.text);
        return false;
    }
    if (!got) fail_msg("nothing came for 10 s");
    assert_int_equal(f->last.engine, ENGINE_NUMBER);
    *fd = files.count > 0 ? files.fds[0] : -1;
    return true;
}

bool front_next(front *f, int *fd) {
    int received;
    f->fresh = false;
    for (;;) {
        if (!receive(f, &received)) return false;
        if (f->last.kind == MESSAGE_PROFILE) {
            f->profile = f->last.profile;
            f->profiles++;
            continue;
        }
        if (f->last.kind != MESSAGE_SNAPSHOT) break;
        assert_int_equal(f->last.snapshot.number, f->snapshots + 1);
        f->snapshots++;
        f->fresh = true;
        f->peak_bytes = f->last.snapshot.models[0].peak_bytes;
        f->latent_bytes = f->last.snapshot.latent_bytes;
    }
    bool result = f->last.kind == MESSAGE_IMAGE || f->last.kind == MESSAGE_DONE || f->last.kind == MESSAGE_ANSWER;
    if (result && !f->fresh) fail_msg("a result came without a snapshot before it");
    if (fd != NULL) *fd = received;
    else if (received >= 0) close(received);
    return true;
}

void front_expect(front *f, engine_message_kind kind, const char *id) {
    do assert_true(front_next(f, NULL));
    while (f->last.kind == MESSAGE_PROGRESS && kind != MESSAGE_PROGRESS);
    assert_int_equal(f->last.kind, kind);
    assert_string_equal(f->last.id, id);
}

front front_start(void) {
    front f = front_start_with("cpu");
    front_expect(&f, MESSAGE_HELLO, "");
    return f;
}

int front_end(front *f) {
    int status;
    close(f->socket);
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    return status;
}
