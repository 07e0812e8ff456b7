/* An engine that computes nothing: it does what the prompt of a task, or FAKE_ENGINE for its start, tells it. For the client's tests. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine_start.h"
#include "engine/task_message.h"

static uint64_t number;

static engine_message *message(engine_message_kind kind, const char *id) {
    static engine_message m;
    m = (engine_message){.kind = kind, .engine = number};
    snprintf(m.id, sizeof m.id, "%s", id);
    return &m;
}

static void say(const engine_message *m, int fd) {
    if (!engine_message_send_within(ENGINE_SOCKET, m, fd, 10000, NULL)) _exit(9);
}

static void progress(const char *id, int step) {
    engine_message *m = message(MESSAGE_PROGRESS, id);
    m->progress.phase = PHASE_DENOISE;
    m->progress.images = 1;
    m->progress.step = step;
    m->progress.steps = ENGINE_MAX_STEPS;
    say(m, -1);
}

static void image(const char *id, size_t size, int seals) {
    engine_message *m = message(MESSAGE_IMAGE, id);
    m->image.width = m->image.height = 2;
    int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char pixels[64];
    memset(pixels, 7, sizeof pixels);
    if (fd < 0 || write(fd, pixels, size) != (ssize_t)size || fcntl(fd, F_ADD_SEALS, seals) != 0) _exit(8);
    say(m, fd);
    close(fd);
}

static void preview(const char *id, int height, int seals) {
    engine_message *m = message(MESSAGE_PREVIEW, id);
    m->preview.step = 1;
    m->preview.width = 2;
    m->preview.height = height;
    int fd = memfd_create("preview", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || write(fd, "\7\7\7\7\7\7\7\7\7\7\7\7", 12) != 12 || fcntl(fd, F_ADD_SEALS, seals) != 0) _exit(8);
    say(m, fd);
    close(fd);
}

static void done(const char *id) { say(message(MESSAGE_DONE, id), -1); }

static void failed(const char *id, error_code code, const char *text) {
    engine_message *m = message(MESSAGE_FAILED, id);
    error_set(&m->fault, code, "%s", text);
    say(m, -1);
}

static void die(int signal_number) {
    signal(signal_number, SIG_DFL); /* a sanitizer catches some */
    raise(signal_number);
}

static void compute(double seconds) {
    double end = clock_seconds() + seconds;
    while (clock_seconds() < end) {}
}

/* Which of descriptors 4–255 are open, which signals are blocked, and whether SIGINT is ignored and SIGUSR1 not. */
static void report(const char *id) {
    char text[256];
    int open_count = 0;
    for (int fd = ENGINE_SOCKET + 1; fd < 256; fd++) open_count += fcntl(fd, F_GETFD) >= 0;
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    struct sigaction interrupt, user;
    sigaction(SIGINT, NULL, &interrupt);
    sigaction(SIGUSR1, NULL, &user);
    snprintf(text, sizeof text, "open %d blocked %d ignored %d default %d", open_count, sigisemptyset(&blocked) == 0,
             interrupt.sa_handler == SIG_IGN, user.sa_handler == SIG_DFL);
    failed(id, ERROR_INTERNAL, text);
}

/* What the files hold, at most 100 bytes of each. */
static void tell_files(const char *id, const engine_files *files) {
    char text[256] = "";
    size_t size = 0;
    for (int i = 0; i < files->count; i++) {
        ssize_t n = pread(files->fds[i], text + size, 100, 0);
        size += n > 0 ? (size_t)n : 0;
        text[size++] = '|';
    }
    failed(id, ERROR_INTERNAL, text);
}

static void obey(const char *id, const char *what, const engine_files *files) {
    static const struct {
        const char *name;
        int number;
    } deaths[] = {{"segv", SIGSEGV}, {"abrt", SIGABRT}, {"bus", SIGBUS},  {"fpe", SIGFPE},
                  {"ill", SIGILL},   {"kill", SIGKILL}, {"term", SIGTERM}};
    const int sealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    if (strcmp(what, "late segv") == 0) {
        progress(id, 0);
        image(id, 12, sealed);
        done(id);
        die(SIGSEGV);
    }
    if (strcmp(what, "files") == 0) {
        tell_files(id, files);
        return;
    }
    if (strcmp(what, "report") == 0) {
        report(id);
        return;
    }
    if (strcmp(what, "silent abrt") == 0) die(SIGABRT);
    if (strcmp(what, "silent hang") == 0)
        for (;;) pause();
    if (strcmp(what, "nothing") == 0) return;
    progress(id, 0);
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++)
        if (strcmp(what, deaths[i].name) == 0) die(deaths[i].number);
    if (strcmp(what, "done") == 0) {
        image(id, 12, sealed);
        done(id);
    } else if (strcmp(what, "exit") == 0) {
        _exit(3);
    } else if (strcmp(what, "fail") == 0) {
        failed(id, ERROR_BAD_FILE, "the file is bad");
    } else if (strcmp(what, "flood") == 0) {
        for (int i = 0; i < 20000; i++) progress(id, i % ENGINE_MAX_STEPS);
        done(id);
    } else if (strcmp(what, "busy") == 0) {
        for (int i = 0;; i = (i + 1) % ENGINE_MAX_STEPS) {
            progress(id, i);
            usleep(10000);
        }
    } else if (strcmp(what, "stale") == 0) {
        number--;
        done(id);
        image(id, 12, sealed);
        number++;
        done(id);
    } else if (strcmp(what, "garbage") == 0) {
        if (send(ENGINE_SOCKET, "garbage", 7, MSG_NOSIGNAL) != 7) _exit(7);
        pause();
    } else if (strcmp(what, "wrong kind") == 0) {
        say(message(MESSAGE_STOP, id), -1);
        pause();
    } else if (strcmp(what, "unsealed") == 0) {
        image(id, 12, 0);
        pause();
    } else if (strcmp(what, "short image") == 0) {
        image(id, 11, sealed);
        pause();
    } else if (strcmp(what, "preview") == 0) {
        preview(id, 2, sealed);
        done(id);
    } else if (strcmp(what, "unsealed preview") == 0) {
        preview(id, 2, 0);
        pause();
    } else if (strcmp(what, "short preview") == 0) {
        preview(id, 3, sealed);
        pause();
    } else if (strcmp(what, "close") == 0) {
        close(ENGINE_SOCKET);
        for (;;) pause();
    } else if (strcmp(what, "hang") == 0) {
        for (;;) pause();
    } else if (strcmp(what, "hang and defy") == 0) {
        signal(SIGABRT, SIG_IGN);
        for (;;) pause();
    } else if (strcmp(what, "compute") == 0) {
        compute(4);
        done(id);
    }
}

int main(int argc, char **argv) {
    const char *start = getenv("FAKE_ENGINE");
    if (start == NULL) start = "";
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (argc < 3 || strcmp(argv[1], "engine") != 0 || strcmp(argv[argc - 2], "--engine") != 0) return 64;
    number = strtoull(argv[argc - 1], NULL, 10);
    if (strcmp(start, "exit") == 0) return 5;
    if (strcmp(start, "abrt") == 0) die(SIGABRT);
    if (strcmp(start, "no device") == 0) {
        failed("", ERROR_DEVICE, "there is no device 'x'");
        return 1;
    }
    if (strcmp(start, "mute") != 0) {
        engine_message *hello = message(MESSAGE_HELLO, "");
        snprintf(hello->hello.device_kind, sizeof hello->hello.device_kind, "fake");
        say(hello, -1);
    }
    if (strcmp(start, "deaf") == 0)
        for (;;) pause();
    for (;;) {
        static engine_message m;
        bool got;
        engine_files files;
        if (!engine_message_receive(ENGINE_SOCKET, -1, &m, &files, &got, NULL)) return 0;
        if (!got) continue;
        char id[ENGINE_ID_BYTES];
        memcpy(id, m.id, sizeof id);
        if (m.kind == MESSAGE_STOP) return 0;
        if (m.kind == MESSAGE_CANCEL) failed(id, ERROR_CANCELLED, "cancelled");
        if (m.kind == MESSAGE_ADMIT) obey(id, m.request.prompt, &files);
        engine_files_close(&files);
    }
}
