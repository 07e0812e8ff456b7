#include "engine/engine_process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/generation.h"
#include "engine/model_manager.h"
#include "engine/process_memory.h"
#include "engine/task_message.h"

enum {
    MAX_HELD = 16,   /* tasks at once; the front admits far fewer */
    NICENESS = 5,    /* enough for the front to answer while every core computes */
    OOM_SCORE = 500, /* of 1000: when memory ends, the engine is to go and not the front or somebody else */
};

typedef struct held_task {
    char id[ENGINE_ID_BYTES];
    generation *work;
    uint64_t memory_before, memory_peak;
} held_task;

typedef struct process {
    int socket;
    uint64_t number;
    device *device;
    model_manager *models;
    held_task held[MAX_HELD];
    size_t count, turn; /* turn: whose slice is next */
    bool peak_resets;   /* the kernel's peak can be started anew for each task */
    bool over;          /* told to stop, or the front is gone */
    engine_message in, out;
} process;

/* --- telling the front --- */

static engine_message *begin_message(process *p, engine_message_kind kind, const char *id) {
    p->out = (engine_message){.kind = kind, .engine = p->number};
    snprintf(p->out.id, sizeof p->out.id, "%s", id);
    return &p->out;
}

/* Waits for a front that is slow; when there is none any more, all is over. */
static void send_message(process *p, int fd) {
    error fault = {0};
    if (p->over || engine_message_send_within(p->socket, &p->out, fd, -1, &fault)) return;
    log_line(LOG_DEBUG, "%s", fault.text);
    p->over = true;
}

static void say_hello(process *p) {
    engine_message *m = begin_message(p, MESSAGE_HELLO, "");
    snprintf(m->hello.device_kind, sizeof m->hello.device_kind, "%s", device_kind(p->device));
    snprintf(m->hello.device_name, sizeof m->hello.device_name, "%s", device_name(p->device));
    m->hello.threads = device_threads(p->device);
    send_message(p, -1);
}

static void say_progress(process *p, const held_task *t) {
    generation_state s = generation_get_state(t->work);
    engine_message *m = begin_message(p, MESSAGE_PROGRESS, t->id);
    m->progress.phase = s.phase;
    m->progress.image = s.image;
    m->progress.images = s.images;
    m->progress.step = s.step;
    m->progress.steps = s.steps;
    send_message(p, -1);
}

static void say_failed(process *p, const char *id, const error *why) {
    engine_message *m = begin_message(p, MESSAGE_FAILED, id);
    m->fault = *why;
    if (why->code == ERROR_NONE) error_set(&m->fault, ERROR_INTERNAL, "it failed without saying why");
    send_message(p, -1);
}

/* The pixels in a file of memory that nobody can change any more: the front reads them in place. */
static bool make_memfd(const void *pixels, size_t size, int *out, error *e) {
    int fd = memfd_create("imagined-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return error_system(e, "make", "a memory file for the image");
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, (const char *)pixels + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            close(fd);
            return error_no_memory(e, "the finished image", size);
        }
        at += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
        error_system(e, "seal", "the memory file of the image");
        close(fd);
        return false;
    }
    *out = fd;
    return true;
}

static bool say_image(process *p, const held_task *t, const generated_image *image, error *e) {
    int fd = -1;
    if (!make_memfd(image->rgb, (size_t)image->width * (size_t)image->height * 3, &fd, e)) return false;
    engine_message *m = begin_message(p, MESSAGE_IMAGE, t->id);
    m->image.index = image->index;
    m->image.width = image->width;
    m->image.height = image->height;
    m->image.seed = image->seed;
    send_message(p, fd);
    close(fd);
    return true;
}

/* --- memory a task took --- */

static void raise_to(uint64_t *peak, uint64_t bytes) {
    if (bytes > *peak) *peak = bytes;
}

/* Gives the peak so far to all that are held. Where it cannot be reset, what is resident between two slices must do. */
static void note_peak(process *p) {
    uint64_t bytes = p->peak_resets ? process_memory_peak() : process_memory_resident();
    for (size_t i = 0; i < p->count; i++) raise_to(&p->held[i].memory_peak, bytes);
}

static void say_done(process *p, const held_task *t) {
    engine_message *m = begin_message(p, MESSAGE_DONE, t->id);
    m->metrics = *generation_metrics(t->work);
    m->metrics.memory_before = t->memory_before;
    m->metrics.memory_after = process_memory_resident();
    m->metrics.memory_peak = t->memory_peak;
    raise_to(&m->metrics.memory_peak, m->metrics.memory_after);
    send_message(p, -1);
}

/* --- tasks --- */

static size_t find_task(const process *p, const char *id) {
    size_t i = 0;
    while (i < p->count && strcmp(p->held[i].id, id) != 0) i++;
    return i;
}

/* The others keep their order and the turn stays with the one that follows. */
static void drop_task(process *p, size_t i) {
    generation_free(p->held[i].work);
    p->count--;
    memmove(&p->held[i], &p->held[i + 1], (p->count - i) * sizeof p->held[0]);
    if (p->turn > i) p->turn--;
}

static void admit(process *p, const engine_message *m) {
    error fault = {0};
    held_task t = {0};
    if (find_task(p, m->id) < p->count) {
        log_line(LOG_WARNING, "task %s was admitted twice", m->id);
        return;
    }
    memcpy(t.id, m->id, sizeof t.id);
    if (p->count == MAX_HELD) error_set(&fault, ERROR_BUSY, "the engine holds %d tasks already", MAX_HELD);
    else if (generation_new(p->models, &m->request, &t.work, &fault)) {
        note_peak(p);
        p->peak_resets = process_memory_reset_peak();
        t.memory_before = t.memory_peak = process_memory_resident();
        p->held[p->count++] = t;
        return;
    }
    say_failed(p, t.id, &fault);
}

static void cancel(process *p, const char *id) {
    size_t i = find_task(p, id);
    if (i == p->count) return; /* it was faster */
    drop_task(p, i); /* before the front hears of it, so that its memory is free then */
    error fault = {0};
    error_set(&fault, ERROR_CANCELLED, "the task was cancelled");
    say_failed(p, id, &fault);
}

static void obey(process *p, const engine_message *m) {
    if (m->engine != p->number) return;
    switch (m->kind) {
    case MESSAGE_ADMIT: admit(p, m); break;
    case MESSAGE_CANCEL: cancel(p, m->id); break;
    case MESSAGE_STOP: p->over = true; break;
    default: break; /* the engine's own kinds: from a front of this binary they cannot come */
    }
}

/* Reads all that has come; with nothing to do it waits for something to come. */
static void listen_to_front(process *p) {
    bool got = true;
    while (!p->over && got) {
        int fd;
        error fault = {0};
        if (!engine_message_receive(p->socket, p->count == 0 ? -1 : 0, &p->in, &fd, &got, &fault)) {
            log_line(LOG_DEBUG, "%s", fault.text);
            p->over = true;
        } else if (got) {
            if (fd >= 0) close(fd);
            obey(p, &p->in);
        }
    }
}

/* One slice of the task whose turn it is. */
static void run_slice(process *p) {
    if (p->turn >= p->count) p->turn = 0;
    size_t i = p->turn++;
    held_task *t = &p->held[i];
    say_progress(p, t);
    if (p->over) return;
    generated_image image = {0};
    error fault = {0};
    bool ok = generation_advance(t->work, &image, &fault);
    note_peak(p);
    if (ok && image.rgb != NULL) ok = say_image(p, t, &image, &fault);
    if (ok && !generation_get_state(t->work).finished) return;
    char id[ENGINE_ID_BYTES];
    memcpy(id, t->id, sizeof id);
    if (ok) say_done(p, t);
    drop_task(p, i);
    if (!ok) say_failed(p, id, &fault);
}

/* --- the process --- */

static void raise_oom_score(void) {
    FILE *f = fopen("/proc/self/oom_score_adj", "r+e");
    if (f == NULL) return;
    int score;
    if (fscanf(f, "%d", &score) == 1 && score < OOM_SCORE) {
        rewind(f);
        fprintf(f, "%d", OOM_SCORE);
    }
    fclose(f); /* where it is not allowed, it stays as it is */
}

/* What concerns the whole process; before any thread of the device is started, as threads inherit their niceness. */
static void settle_in(const engine_options *options) {
    log_configure((log_level)options->log_level, "engine");
    prctl(PR_SET_NAME, "imagined-engine");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpriority(PRIO_PROCESS, 0, NICENESS);
    raise_oom_score();
    /* A terminal, or a shell's kill, sends the first three to the whole group: the front decides, and closes the socket at its end. */
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) signal(ignored[i], SIG_IGN);
}

int engine_process_run(int socket, uint64_t engine, const engine_options *options) {
    settle_in(options);
    error fault = {0};
    process *p = calloc(1, sizeof *p);
    if (p == NULL) return 1;
    p->socket = socket;
    p->number = engine;
    p->peak_resets = process_memory_reset_peak();
    const model_manager_options keeping = {.max_models = options->max_models, .copied = !options->memory_efficient_loading};
    bool ok = device_open(options->device, options->threads, &p->device, &fault) &&
              model_manager_new(p->device, &keeping, &p->models, &fault);
    if (ok) {
        device_set_limit(p->device, options->vram_limit_mb > 0 ? (size_t)options->vram_limit_mb << 20 : 0);
        log_line(LOG_INFO, "engine %" PRIu64 " computes on %s (%s), threads: %d", engine, device_kind(p->device), device_name(p->device),
                 device_threads(p->device));
        say_hello(p);
    } else {
        log_line(LOG_ERROR, "%s", fault.text);
        say_failed(p, "", &fault); /* the front tells its users why there is no engine */
    }
    while (ok && !p->over) {
        listen_to_front(p);
        if (!p->over && p->count > 0) run_slice(p);
    }
    while (p->count > 0) drop_task(p, p->count - 1);
    model_manager_free(p->models);
    device_free(p->device);
    free(p);
    return ok ? 0 : 1;
}
