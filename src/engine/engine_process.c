#include "engine/engine_process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/log.h"
#include "engine/front_link.h"
#include "engine/held_tasks.h"
#include "engine/model_manager.h"
#include "engine/process_memory.h"

enum {
    NICENESS = 5,    /* enough for the front to answer while every core computes */
    OOM_SCORE = 500, /* of 1000: when memory ends, the engine is to go and not the front or somebody else */
};

typedef struct process {
    front_link front;
    device *device;
    model_manager *models;
    held_tasks held;
    bool peak_resets; /* the kernel's peak can be started anew for each task */
} process;

/* --- memory a task took --- */

static void raise_to(uint64_t *peak, uint64_t bytes) {
    if (bytes > *peak) *peak = bytes;
}

/* Gives the peak so far to all that are held. Where it cannot be reset, what is resident between two slices must do. */
static void note_peak(process *p) {
    uint64_t bytes = p->peak_resets ? process_memory_peak() : process_memory_resident();
    for (int i = 0; i < p->held.count; i++) raise_to(&p->held.tasks[i].memory_peak, bytes);
}

/* --- what the front asks for --- */

static void admit(process *p, const engine_message *m) {
    error fault = {0};
    generation *work = NULL;
    held_task *t;
    if (held_tasks_find(&p->held, m->id) != NULL) {
        log_line(LOG_WARNING, "task %s was admitted twice", m->id);
        return;
    }
    if (!generation_new(p->models, &m->request, &work, &fault) || !held_tasks_add(&p->held, m->id, work, &m->request, &t, &fault)) {
        generation_free(work);
        front_link_failed(&p->front, m->id, &fault);
        return;
    }
    note_peak(p);
    p->peak_resets = process_memory_reset_peak();
    t->memory_before = t->memory_peak = process_memory_resident();
}

static void cancel(process *p, const char *id) {
    held_task *t = held_tasks_find(&p->held, id);
    if (t == NULL) return; /* it was faster */
    held_tasks_drop(&p->held, t); /* before the front hears of it, so that its memory is free then */
    error fault = {0};
    error_set(&fault, ERROR_CANCELLED, "the task was cancelled");
    front_link_failed(&p->front, id, &fault);
}

static void set_suspended(process *p, const char *id, bool suspended) {
    held_task *t = held_tasks_find(&p->held, id);
    if (t != NULL) t->claim.suspended = suspended; /* else it was faster */
}

static void obey(process *p, const engine_message *m) {
    switch (m->kind) {
    case MESSAGE_ADMIT: admit(p, m); break;
    case MESSAGE_CANCEL: cancel(p, m->id); break;
    case MESSAGE_SUSPEND: set_suspended(p, m->id, true); break;
    case MESSAGE_RESUME: set_suspended(p, m->id, false); break;
    case MESSAGE_STOP: p->front.over = true; break;
    default: break; /* the engine's own kinds: from a front of this binary they cannot come */
    }
}

/* Reads all that has come; with nothing to do it waits for something to come. */
static void listen_to_front(process *p) {
    while (front_link_receive(&p->front, held_tasks_runnable(&p->held) ? 0 : -1)) obey(p, &p->front.in);
}

/* --- slices --- */

/* Its memory is free when the front hears of the end. */
static void end_task(process *p, held_task *t, bool ok, const error *fault) {
    const held_task ended = *t;
    engine_metrics m = *generation_metrics(t->work);
    held_tasks_drop(&p->held, t);
    m.memory_before = ended.memory_before;
    m.memory_after = process_memory_resident();
    m.memory_peak = ended.memory_peak;
    raise_to(&m.memory_peak, m.memory_after);
    if (ok) front_link_done(&p->front, ended.id, &m);
    else front_link_failed(&p->front, ended.id, fault);
}

/* A slice that is the task's own: anything but a denoising step. */
static void run_own(process *p, held_task *t) {
    generated_image image = {0};
    error fault = {0};
    bool ok = generation_advance(t->work, &image, &fault);
    note_peak(p);
    if (ok && image.rgb != NULL) ok = front_link_image(&p->front, t->id, &image, &fault);
    if (!ok || generation_get_state(t->work).finished) end_task(p, t, ok, &fault);
}

static void run_step(process *p, const slice_party *party) {
    error fault = {0};
    double seconds = 0;
    bool ok = generation_step_together(party->shares, party->count, &seconds, &fault);
    note_peak(p);
    if (ok) held_tasks_stepped(&p->held, party, seconds);
    else if (!held_tasks_try_otherwise(&p->held, party, &fault)) end_task(p, party->members[0], false, &fault);
}

static void run_slice(process *p) {
    slice_party party = held_tasks_next(&p->held);
    for (int i = 0; i < party.count; i++) {
        generation_state s = generation_get_state(party.members[i]->work);
        front_link_progress(&p->front, party.members[i]->id, &s, party.count > 1 ? party.slice : 0);
    }
    if (p->front.over || party.count == 0) return;
    if (party.images > 0) run_step(p, &party);
    else run_own(p, party.members[0]);
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
    p->front.socket = socket;
    p->front.engine = engine;
    p->peak_resets = process_memory_reset_peak();
    const model_manager_options keeping = {
        .max_models = options->max_models,
        .max_cache_bytes = (uint64_t)(options->max_cache_gb * 0x1p30),
        .copied = !options->memory_efficient_loading,
    };
    bool ok = device_open(options->device, options->threads, &p->device, &fault) &&
              model_manager_new(p->device, &keeping, &p->models, &fault);
    if (ok) {
        device_set_limit(p->device, options->vram_limit_mb > 0 ? (size_t)options->vram_limit_mb << 20 : 0);
        log_line(LOG_INFO, "engine %" PRIu64 " computes on %s (%s), threads: %d", engine, device_kind(p->device), device_name(p->device),
                 device_threads(p->device));
        front_link_hello(&p->front, p->device);
    } else {
        log_line(LOG_ERROR, "%s", fault.text);
        front_link_failed(&p->front, "", &fault); /* the front tells its users why there is no engine */
    }
    while (ok && !p->front.over) {
        listen_to_front(p);
        if (!p->front.over) run_slice(p);
    }
    while (p->held.count > 0) held_tasks_drop(&p->held, &p->held.tasks[p->held.count - 1]);
    model_manager_free(p->models);
    device_free(p->device);
    free(p);
    return ok ? 0 : 1;
}
