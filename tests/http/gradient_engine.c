/* An engine that paints gradients and does what a prompt tells it to do wrong, so that the server's ways of failing can be tested in
 * milliseconds.
 *
 * Started by the front in place of its own binary (IMAGINED_ENGINE_EXECUTABLE). Words in a prompt: "slow" 50 ms a step; "fail" an
 * ERROR_OUT_OF_MEMORY; "skip" no image; "lie" an image of another size; "segv<N", "kill<N" die so in the first step while this is an engine
 * below number N. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/engine_start.h"
#include "engine/task_message.h"

enum { MAX_TASKS = 16 };

typedef struct job {
    bool used;
    char id[ENGINE_ID_BYTES];
    engine_request request;
    int image, step;
    bool loaded;
} job;

typedef struct fake {
    uint64_t number;
    job jobs[MAX_TASKS];
    engine_message message;
} fake;

static bool says(const job *j, const char *word) { return strstr(j->request.prompt, word) != NULL; }

static void tell(fake *f, engine_message_kind kind, const char *id, int fd) {
    f->message.kind = kind;
    f->message.engine = f->number;
    memset(f->message.id, 0, sizeof f->message.id);
    snprintf(f->message.id, sizeof f->message.id, "%s", id);
    error e;
    while (!engine_message_send(ENGINE_SOCKET, &f->message, fd, &e)) {
        if (e.code != ERROR_BUSY) exit(0);
        usleep(1000);
    }
}

static void progress(fake *f, const job *j, engine_phase phase) {
    f->message = (engine_message){.progress = {phase, j->image, j->request.count, j->step, j->request.steps}};
    tell(f, MESSAGE_PROGRESS, j->id, -1);
}

static void die_if_told(const fake *f, const job *j, const char *word, int signal_number) {
    const char *at = strstr(j->request.prompt, word);
    if (at == NULL || f->number >= strtoull(at + strlen(word), NULL, 10)) return;
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void send_image(fake *f, const job *j) {
    int width = says(j, "lie") ? 8 : j->request.width, height = j->request.height;
    size_t bytes = (size_t)width * (size_t)height * 3;
    uint64_t seed = j->request.seed + (uint64_t)j->image;
    int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) exit(1);
    unsigned char *rgb = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (rgb == MAP_FAILED) exit(1);
    for (size_t i = 0; i < bytes; i++) rgb[i] = (unsigned char)(i / 7 + seed * 31);
    munmap(rgb, bytes);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    f->message = (engine_message){.image = {j->image, width, height, seed}};
    tell(f, MESSAGE_IMAGE, j->id, fd);
    close(fd);
}

static void end(fake *f, job *j, engine_message_kind kind) {
    tell(f, kind, j->id, -1);
    *j = (job){0};
}

static void slice(fake *f, job *j) {
    if (!j->loaded) {
        progress(f, j, PHASE_LOAD);
        progress(f, j, PHASE_ENCODE);
        j->loaded = true;
    } else if (j->step < j->request.steps) {
        progress(f, j, PHASE_DENOISE);
        if (says(j, "slow")) usleep(50 * 1000);
        die_if_told(f, j, "segv<", SIGSEGV);
        die_if_told(f, j, "kill<", SIGKILL);
        j->step++;
        if (!says(j, "fail")) return;
        f->message = (engine_message){0};
        error_set(&f->message.fault, ERROR_OUT_OF_MEMORY, "told to fail");
        end(f, j, MESSAGE_FAILED);
    } else {
        progress(f, j, PHASE_DECODE);
        if (!says(j, "skip")) send_image(f, j);
        j->step = 0;
        if (++j->image < j->request.count) return;
        f->message = (engine_message){.metrics = {.denoise_seconds = 0.5, .steps_run = j->request.steps}};
        end(f, j, MESSAGE_DONE);
    }
}

static void take(fake *f, const engine_message *m) {
    if (m->kind == MESSAGE_STOP) exit(0);
    for (int i = 0; i < MAX_TASKS; i++) {
        job *j = &f->jobs[i];
        if (m->kind == MESSAGE_ADMIT && !j->used) {
            *j = (job){.used = true, .request = m->request};
            memcpy(j->id, m->id, sizeof j->id);
            return;
        }
        if (m->kind == MESSAGE_CANCEL && j->used && strcmp(j->id, m->id) == 0) {
            f->message = (engine_message){0};
            error_set(&f->message.fault, ERROR_CANCELLED, "cancelled");
            end(f, j, MESSAGE_FAILED);
            return;
        }
    }
}

int main(int argc, char **argv) {
    static fake f;
    static engine_message m;
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--engine") == 0) f.number = strtoull(argv[i + 1], NULL, 10);
    f.message = (engine_message){.hello = {"fake", "gradients", 1}};
    tell(&f, MESSAGE_HELLO, "", -1);
    for (;;) {
        bool busy = false, got = true;
        for (int i = 0; i < MAX_TASKS; i++) busy |= f.jobs[i].used;
        while (got) {
            int fd;
            if (!engine_message_receive(ENGINE_SOCKET, busy ? 0 : -1, &m, &fd, &got, NULL)) return 0;
            if (got) take(&f, &m);
            busy = true;
        }
        for (int i = 0; i < MAX_TASKS; i++)
            if (f.jobs[i].used) slice(&f, &f.jobs[i]);
    }
}
