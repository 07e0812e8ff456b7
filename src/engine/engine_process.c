#include "engine/engine_process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_room.h"
#include "engine/front_link.h"
#include "engine/held_tasks.h"
#include "engine/load_commands.h"
#include "engine/process_memory.h"

enum {
    NICENESS = 5,    /* enough for the front to answer while every core computes */
    OOM_SCORE = 500, /* of 1000: when memory ends, the engine is to go and not the front or somebody else */
    TASK_SLICES_A_PRELOAD = 4, /* while tasks run, a part of a model to preload is loaded after so many of their slices */
};

static const double snapshot_seconds = 0.05;   /* between two snapshots, unless something changed that a user sees */
static const double preview_seconds = 0.1;     /* between two previews of a task */
static const double load_told_seconds = 0.1;   /* between two messages about one part's load */

typedef struct process {
    front_link front;
    engine_room room;
    held_tasks held;
    load_commands loads;
    bool peak_resets; /* the kernel's peak can be started anew for each task */
    held_task *loading; /* whose slice loads a part now */
    double load_told;
    engine_snapshot last; /* as it was told */
    double last_told;
} process;

/* --- what the front sees of it all --- */

static bool rows_differ(const engine_snapshot *a, const engine_snapshot *b) {
    bool differ = a->model_count != b->model_count || a->loads != b->loads || a->prompt_entries != b->prompt_entries ||
                  memcmp(a->evictions, b->evictions, sizeof a->evictions) != 0;
    for (int32_t i = 0; !differ && i < a->model_count; i++)
        differ = a->models[i].state != b->models[i].state || a->models[i].leases != b->models[i].leases ||
                 strcmp(a->models[i].name, b->models[i].name) != 0;
    return differ;
}

/* Before a result and after a cancel always; else when it is time, or when models or the cache of prompts changed. */
static void tell_snapshot(process *p, bool always) {
    double now = clock_seconds();
    engine_snapshot s = {.number = p->last.number + 1, .steps = p->held.steps, .batched_steps = p->held.shared_steps,
                         .batched_images = p->held.shared_images};
    engine_room_rows(&p->room, &s);
    if (!always && now - p->last_told < snapshot_seconds && !rows_differ(&s, &p->last)) return;
    p->room.latents = held_tasks_bytes(&p->held);
    engine_room_figures(&p->room, &s);
    front_link_snapshot(&p->front, &s);
    p->last = s;
    p->last_told = now;
}

/* Called while a part is loaded, which can take long. */
static void on_loaded_bytes(void *context, size_t bytes) {
    process *p = context;
    if (p->loading == NULL || clock_seconds() - p->load_told < load_told_seconds) return;
    generation_state s = generation_get_state(p->loading->work);
    front_link_progress(&p->front, p->loading->id, &s, 0);
    p->load_told = clock_seconds();
}

/* --- memory a task took --- */

static void raise_to(uint64_t *peak, uint64_t bytes) {
    if (bytes > *peak) *peak = bytes;
}

/* Gives the peak so far to all that are held. Where it cannot be reset, what is resident between two slices must do. */
static void note_peak(process *p) {
    uint64_t bytes = p->peak_resets ? process_memory_peak() : process_memory_resident();
    uint64_t ours = engine_room_device_peak(&p->room);
    for (int i = 0; i < p->held.count; i++) {
        raise_to(&p->held.tasks[i].memory_peak, bytes);
        raise_to(&p->held.tasks[i].device_peak, ours);
    }
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
    if (!generation_new(&p->room, &m->request, &p->front.files, &work, &fault) ||
        !held_tasks_add(&p->held, m->id, work, &m->request, &t, &fault)) {
        generation_free(work);
        front_link_failed(&p->front, m->id, &fault);
        return;
    }
    note_peak(p);
    p->peak_resets = process_memory_reset_peak();
    engine_room_reset_device_peak(&p->room);
    t->memory_before = t->memory_peak = process_memory_resident();
}

/* Also of one that failed or was cancelled: so much its model has taken, beyond the weights. */
static uint64_t keep_peak(process *p, held_task *t) {
    uint64_t bytes = engine_room_beside_weights(&p->room, t->device_peak);
    generation_note_peak(t->work, bytes);
    return bytes;
}

static void cancel(process *p, const char *id) {
    held_task *t = held_tasks_find(&p->held, id);
    if (t == NULL) return; /* it was faster */
    keep_peak(p, t);
    held_tasks_drop(&p->held, t); /* before the front hears of it, so that its memory is free then */
    tell_snapshot(p, true);
    error fault = {0};
    error_set(&fault, ERROR_CANCELLED, "the task was cancelled");
    front_link_failed(&p->front, id, &fault);
}

static void set_suspended(process *p, const char *id, bool suspended) {
    held_task *t = held_tasks_find(&p->held, id);
    if (t != NULL) t->claim.suspended = suspended; /* else it was faster */
}

static void set_priority(process *p, const char *id, int priority) {
    held_task *t = held_tasks_find(&p->held, id);
    if (t != NULL) t->claim.priority = priority; /* else it was faster */
}

static void answer(process *p, const char *id, const engine_answer *a) {
    tell_snapshot(p, true);
    front_link_answer(&p->front, id, a);
}

static void load_model(process *p, const engine_message *m) {
    engine_answer a = {0};
    if (!load_commands_add(&p->loads, m, &a.fault)) answer(p, m->id, &a);
}

static void unload_model(process *p, const engine_message *m) {
    engine_answer a = {0};
    engine_room_unload(&p->room, &m->model, &a);
    answer(p, m->id, &a);
}

static void clean_up(process *p, const engine_message *m) {
    engine_answer a = {0};
    engine_room_cleanup(&p->room, &a);
    answer(p, m->id, &a);
}

static void know_profile(process *p, const engine_profile *f) {
    batch_key key = {.width = f->width, .height = f->height, .text_tokens = f->text_tokens, .guidance_pair = f->guidance_pair};
    memcpy(key.model, f->model, sizeof key.model);
    memcpy(key.precision, f->precision, sizeof key.precision);
    batcher_prime(&p->held.batcher, &key, f->batch, f->step_seconds);
}

static void obey(process *p, const engine_message *m) {
    switch (m->kind) {
    case MESSAGE_ADMIT: admit(p, m); break;
    case MESSAGE_CANCEL: cancel(p, m->id); break;
    case MESSAGE_SUSPEND: set_suspended(p, m->id, true); break;
    case MESSAGE_RESUME: set_suspended(p, m->id, false); break;
    case MESSAGE_PRIORITY: set_priority(p, m->id, m->priority); break;
    case MESSAGE_LOAD:
    case MESSAGE_PRELOAD: load_model(p, m); break;
    case MESSAGE_UNLOAD: unload_model(p, m); break;
    case MESSAGE_CLEANUP: clean_up(p, m); break;
    case MESSAGE_KNOWN_PROFILE: know_profile(p, &m->profile); break;
    case MESSAGE_STOP: p->front.over = true; break;
    default: break; /* the engine's own kinds: from a front of this binary they cannot come */
    }
}

/* Reads all that has come; with nothing to do it waits for something to come. */
static void listen_to_front(process *p) {
    while (front_link_receive(&p->front, held_tasks_runnable(&p->held) || load_commands_waiting(&p->loads, false) ? 0 : -1))
        obey(p, &p->front.in);
}

/* --- slices --- */

/* What the task took, for the next of its kind: by itself, and with as many others as there were beside it at most. What encoding a picture
 * takes of memory says nothing of those that begin from noise. */
static void tell_profile(process *p, const held_task *t, uint64_t peak_bytes) {
    batch_key key = generation_batch_key(t->work);
    engine_profile f = {
        .width = key.width, .height = key.height, .text_tokens = key.text_tokens, .guidance_pair = key.guidance_pair, .batch = 1};
    memcpy(f.model, key.model, sizeof f.model);
    memcpy(f.precision, key.precision, sizeof f.precision);
    generation_fill_profile(t->work, &f);
    bool begins_from_picture = generation_begins_from_picture(t->work);
    int largest = generation_metrics(t->work)->largest_batch;
    if (largest == 1 && !begins_from_picture) f.peak_bytes = peak_bytes;
    f.step_seconds = batcher_seconds(&p->held.batcher, &key, 1);
    front_link_profile(&p->front, &f);
    if (largest <= 1) return;
    f.batch = largest;
    f.peak_bytes = begins_from_picture ? 0 : peak_bytes;
    f.step_seconds = batcher_seconds(&p->held.batcher, &key, largest);
    front_link_profile(&p->front, &f);
}

/* Its memory is free when the front hears of the end. */
static void end_task(process *p, held_task *t, bool ok, const error *fault) {
    const held_task ended = *t;
    engine_metrics m = *generation_metrics(t->work);
    uint64_t beside_weights = keep_peak(p, t);
    if (ok) tell_profile(p, t, beside_weights);
    held_tasks_drop(&p->held, t);
    p->room.latents = held_tasks_bytes(&p->held);
    vram_manager_cleanup_if_needed(p->room.vram);
    tell_snapshot(p, true);
    m.memory_before = ended.memory_before;
    m.memory_after = process_memory_resident();
    m.memory_peak = ended.memory_peak;
    m.device_peak = ended.device_peak;
    raise_to(&m.memory_peak, m.memory_after);
    if (ok) front_link_done(&p->front, ended.id, &m);
    else front_link_failed(&p->front, ended.id, fault);
}

static void tell_plans(process *p) {
    for (int i = 0; i < p->held.count; i++) {
        const engine_plan *plan = generation_new_plan(p->held.tasks[i].work);
        if (plan != NULL) front_link_plan(&p->front, p->held.tasks[i].id, plan);
    }
}

/* A slice that is the task's own: anything but a denoising step. */
static void run_own(process *p, held_task *t) {
    generated_image image = {0};
    error fault = {0};
    p->loading = generation_get_state(t->work).phase == PHASE_LOAD ? t : NULL;
    p->load_told = clock_seconds();
    bool ok = generation_advance(t->work, &image, &fault);
    p->loading = NULL;
    note_peak(p);
    tell_plans(p);
    if (ok && image.rgb != NULL) tell_snapshot(p, true);
    if (ok && image.rgb != NULL) ok = front_link_image(&p->front, t->id, &image, &fault);
    if (!ok || generation_get_state(t->work).finished) end_task(p, t, ok, &fault);
}

static void want_previews(slice_party *party) {
    double now = clock_seconds();
    for (int i = 0; i < party->count; i++)
        party->shares[i].preview = party->members[i]->preview_told == 0 || now - party->members[i]->preview_told >= preview_seconds;
}

/* One that the front has no room for now is made anew after the next step. */
static void tell_previews(process *p, const slice_party *party) {
    generated_preview preview;
    for (int i = 0; i < party->count; i++)
        if (generation_get_preview(party->shares[i].task, &preview) && front_link_preview(&p->front, party->members[i]->id, &preview))
            party->members[i]->preview_told = clock_seconds();
}

static void run_step(process *p, slice_party *party) {
    error fault = {0};
    double seconds = 0;
    want_previews(party);
    bool ok = generation_step_together(party->shares, party->count, &seconds, &fault);
    note_peak(p);
    tell_plans(p);
    if (ok) tell_previews(p, party);
    if (ok) held_tasks_stepped(&p->held, party, seconds);
    else if (!held_tasks_try_otherwise(&p->held, party, &fault)) end_task(p, party->members[0], false, &fault);
}

/* One slice of the tasks. */
static void run_tasks(process *p) {
    slice_party party = held_tasks_next(&p->held);
    for (int i = 0; i < party.count; i++) {
        generation_state s = generation_get_state(party.members[i]->work);
        front_link_progress(&p->front, party.members[i]->id, &s, party.count > 1 ? party.slice : 0);
    }
    if (p->front.over || party.count == 0) return;
    if (party.images > 0) run_step(p, &party);
    else run_own(p, party.members[0]);
}

/* One part of a model that the front wants: told as a slice of the command, so that no task is to blame if it ends the process. */
static void run_load(process *p) {
    char id[ENGINE_ID_BYTES];
    engine_answer a = {0};
    const generation_state part = {.phase = PHASE_LOAD, .images = 1};
    const char *next = load_commands_next(&p->loads);
    if (next == NULL) return;
    front_link_progress(&p->front, next, &part, 0);
    if (p->front.over) return;
    if (load_commands_advance(&p->loads, id, &a)) answer(p, id, &a);
}

/* Tasks first; in turn with a model that is waited for, and with one to be there in time, now and then. */
static void run_slice(process *p) {
    uint64_t slices = p->held.slice;
    bool tasks = held_tasks_runnable(&p->held), pressing = load_commands_waiting(&p->loads, true);
    if (tasks) run_tasks(p);
    if (!p->front.over && (!tasks || pressing || slices % TASK_SLICES_A_PRELOAD == 0)) run_load(p);
    tell_snapshot(p, false);
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
    const engine_room_options room = {
        .device = options->device,
        .threads = options->threads,
        .vram_limit = options->vram_limit_mb > 0 ? (size_t)options->vram_limit_mb << 20 : 0,
        .prompt_cache_bytes = options->prompt_cache_mb > 0 ? (size_t)options->prompt_cache_mb << 20 : 0,
        .models = {.max_models = options->max_models,
                   .max_cache_bytes = (uint64_t)(options->max_cache_gb * 0x1p30),
                   .copied = !options->memory_efficient_loading,
                   .progress = on_loaded_bytes,
                   .context = p},
    };
    bool ok = engine_room_open(&p->room, &room, &fault);
    p->loads.models = p->room.models;
    p->held.batcher.fixed = options->batch_images;
    if (ok) {
        const device *d = p->room.device;
        log_line(LOG_INFO, "engine %" PRIu64 " computes on %s (%s), threads: %d", engine, device_kind(d), device_name(d),
                 device_threads(d));
        front_link_hello(&p->front, d);
        tell_snapshot(p, true);
    } else {
        log_line(LOG_ERROR, "%s", fault.text);
        front_link_failed(&p->front, "", &fault); /* the front tells its users why there is no engine */
    }
    while (ok && !p->front.over) {
        listen_to_front(p);
        if (!p->front.over) run_slice(p);
    }
    while (p->held.count > 0) held_tasks_drop(&p->held, &p->held.tasks[p->held.count - 1]);
    load_commands_drop(&p->loads);
    engine_room_close(&p->room);
    free(p);
    return ok ? 0 : 1;
}
