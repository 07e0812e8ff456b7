#include "server/dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "image/parameters.h"
#include "server/encoder.h"
#include "server/engine_care.h"

enum { RETRY_MS = 20 };

static const char pause_setting[] = "queue_paused"; /* the reason; absent: not paused */

/* A task in the engine's hands, or whose last pictures are being stored. */
typedef struct slot {
    task *task;       /* NULL: free */
    uint64_t run;     /* number of this admission */
    int first;        /* the engine's image 0 is the task's image `first`: those before were stored by an earlier run */
    bool done;        /* the engine is through with it */
    task_priority told; /* the class that the engine knows it in */
    bool received[TASK_MAX_IMAGES];
} slot;

struct dispatch {
    dispatch_options options;
    engine_client *engine;
    engine_view *view;
    engine_care *care;
    encoder *encoder;
    loop_watch *engine_watch, *encoder_watch;
    int watched_fd;
    pid_t watched_pid;
    loop_timer *timer;
    slot *slots; /* options.max_held of them: a suspended task keeps its own */
    char (*orphans)[TASK_ID_BYTES]; /* options.max_held: tasks that have ended here, of which the engine must still be told */
    int orphan_count;
    uint64_t runs;
    bool draining, retry;
    char device[160];
    char trouble[ERROR_TEXT_BYTES]; /* what the last engine died of, until the next is ready */
    engine_request request; /* scratch: large */
};

static void settle(dispatch *d);
static void pause_again(dispatch *d);

static slot *slot_of(dispatch *d, const char *id) {
    for (int i = 0; i < d->options.max_held; i++)
        if (d->slots[i].task != NULL && strcmp(d->slots[i].task->id, id) == 0) return &d->slots[i];
    return NULL;
}

static slot *free_slot(dispatch *d) {
    for (int i = 0; i < d->options.max_held; i++)
        if (d->slots[i].task == NULL) return &d->slots[i];
    return NULL;
}

static bool all_stored(const task *t) {
    for (int i = 0; i < t->request.count; i++)
        if (!t->images[i].stored) return false;
    return true;
}

static void tell(dispatch *d, const task *t, task_change what) { d->options.changed(d->options.context, t, what); }

/* --- ends --- */

/* The end that the queue was told of is on disk. */
static void ended(void *context, task *t) {
    dispatch *d = context;
    if (t->status == TASK_FAILED) log_line(LOG_ERROR, "task %s failed: %s", t->id, t->failure.text);
    else log_line(LOG_INFO, "task %s %s", t->id, task_status_name(t->status));
    tell(d, t, CHANGE_ENDED);
    d->options.finished(d->options.context, t);
    settle(d);
}

/* The engine is told of an end that it did not bring about; when it takes nothing now, later: it might keep a suspended task for ever. */
static void withdraw(dispatch *d, const task *t) {
    if (engine_client_cancel(d->engine, t->id, NULL) || d->orphan_count == d->options.max_held) return;
    memcpy(d->orphans[d->orphan_count++], t->id, sizeof t->id);
    d->retry = true;
}

static void withdraw_orphans(dispatch *d) {
    while (d->orphan_count > 0 && engine_client_cancel(d->engine, d->orphans[d->orphan_count - 1], NULL)) d->orphan_count--;
    d->retry |= d->orphan_count > 0 && engine_client_ready(d->engine);
}

/* A class that changed is the engine's business too: it says whose slice is next. What it does not take now, it is told later. */
static void tell_priorities(dispatch *d) {
    for (int i = 0; i < d->options.max_held; i++) {
        slot *s = &d->slots[i];
        if (s->task == NULL || s->done || s->told == s->task->priority) continue;
        if (engine_client_set_priority(d->engine, s->task->id, (int)s->task->priority, NULL)) s->told = s->task->priority;
        else d->retry |= engine_client_ready(d->engine);
    }
}

static void fail(dispatch *d, slot *s, const error *why) {
    task *t = s->task;
    /* The engine may still work on it: what it sends from now on finds no slot. */
    if (!s->done) withdraw(d, t);
    *s = (slot){0};
    /* A file that is gone here is no fault of the request: as NOT_FOUND its client would be told that the address is wrong. */
    error told = *why;
    if (told.code == ERROR_NOT_FOUND) told.code = ERROR_IO;
    queue_manager_close(d->options.queue, t, TASK_FAILED, &told, clock_unix_ms());
}

static void complete_if_stored(dispatch *d, slot *s) {
    task *t = s->task;
    if (!s->done || !all_stored(t)) return;
    *s = (slot){0};
    queue_manager_close(d->options.queue, t, TASK_COMPLETED, NULL, clock_unix_ms());
}

/* --- starts --- */

static bool copy_text(char *to, size_t capacity, const char *from, const char *field, error *e) {
    size_t n = strlen(from);
    if (n >= capacity) return error_field(e, ERROR_INVALID, field, "'%s' is too long: %zu bytes", field, n);
    memcpy(to, from, n + 1);
    return true;
}

static bool fill_request(dispatch *d, const task *t, int first, error *e) {
    const task_request *from = &t->request;
    engine_request *to = &d->request;
    const model_info *model;
    *to = (engine_request){
        .has_negative_prompt = from->negative_prompt != NULL,
        .width = from->width,
        .height = from->height,
        .steps = from->steps,
        .count = from->count - first,
        .max_sequence_length = from->max_sequence_length,
        .guidance_scale = from->guidance_scale,
        .true_cfg_scale = from->true_cfg_scale,
        .seed = from->seed + (uint64_t)first,
        .priority = (int32_t)t->priority,
        .alone = t->charges > 0, /* whoever was to blame for an engine's death takes no one with it the next time */
    };
    return catalog_find(d->options.catalog, from->model, &model, e) &&
           copy_text(to->model, sizeof to->model, model->name, "model", e) &&
           copy_text(to->model_folder, sizeof to->model_folder, model->folder, "model", e) &&
           copy_text(to->precision, sizeof to->precision, from->precision, "precision", e) &&
           copy_text(to->prompt, sizeof to->prompt, from->prompt, "prompt", e) &&
           copy_text(to->negative_prompt, sizeof to->negative_prompt, from->negative_prompt != NULL ? from->negative_prompt : "",
                     "negative_prompt", e);
}

/* False when the engine takes nothing now. */
static bool admit(dispatch *d, task *t, const char *reason) {
    slot *s = free_slot(d);
    int first = 0;
    while (first < t->request.count && t->images[first].stored) first++;
    error fault = {0};
    *s = (slot){.task = t, .run = ++d->runs, .first = first, .done = first == t->request.count, .told = t->priority};
    bool ok = s->done || (fill_request(d, t, first, &fault) && engine_client_admit(d->engine, t->id, &d->request, &fault));
    if (!ok && fault.code == ERROR_BUSY) {
        *s = (slot){0};
        return false;
    }
    queue_manager_start(d->options.queue, t, clock_unix_ms());
    if (s->done) queue_manager_through(d->options.queue, t);
    log_line(LOG_INFO, "task %s starts: %d × %d, steps: %d, images: %d, model: %s; %s", t->id, t->request.width, t->request.height,
             t->request.steps, t->request.count - first, t->request.model, reason);
    tell(d, t, CHANGE_STARTED);
    if (!ok) {
        s->done = true;
        fail(d, s, &fault);
    } else {
        complete_if_stored(d, s); /* an earlier run had stored everything before its engine died */
    }
    return true;
}

static bool suspend(dispatch *d, task *t, const char *reason) {
    if (!engine_client_suspend(d->engine, t->id, NULL)) return false;
    queue_manager_suspend_task(d->options.queue, t, clock_unix_ms());
    log_line(LOG_INFO, "task %s is suspended: %s", t->id, reason);
    tell(d, t, CHANGE_QUEUED);
    return true;
}

static bool resume(dispatch *d, task *t, const char *reason) {
    if (!engine_client_resume(d->engine, t->id, NULL)) return false;
    queue_manager_resume_task(d->options.queue, t, clock_unix_ms());
    log_line(LOG_INFO, "task %s goes on: %s", t->id, reason);
    tell(d, t, CHANGE_STARTED);
    return true;
}

static bool cancel(dispatch *d, task *t) {
    if (!engine_client_cancel(d->engine, t->id, NULL)) return false;
    queue_manager_cancel_told(d->options.queue, t);
    return true;
}

static void expire(dispatch *d, task *t) {
    slot *s = slot_of(d, t->id);
    error why;
    queue_manager_expired(t, &why);
    if (s != NULL) fail(d, s, &why);
    else queue_manager_close(d->options.queue, t, TASK_FAILED, &why, clock_unix_ms());
}

/* Memory of the engine's device that another task could have: what is free within the limit, what models take that no task uses, and buffers that
 * tasks share. 0: not known. */
static uint64_t available_bytes(const dispatch *d) {
    const engine_snapshot *told = engine_view_snapshot(d->view);
    if (told->number == 0 || told->total_bytes == 0) return 0;
    uint64_t ours = told->weight_bytes + told->compute_bytes + told->staging_bytes + told->cache_bytes, available = told->free_bytes;
    uint64_t within = told->limit_bytes > ours ? told->limit_bytes - ours : 0;
    if (told->limit_bytes > 0 && within < available) available = within;
    for (int i = 0; i < told->model_count; i++)
        if (told->models[i].leases == 0) available += told->models[i].vram_bytes;
    return available + told->compute_bytes + told->cache_bytes;
}

/* Carries out what the policy decides until it has nothing more, or the engine takes nothing now. */
static void follow_policy(dispatch *d) {
    const queue_situation now = {.engine_ready = engine_client_ready(d->engine),
                                 .can_suspend = true,
                                 .draining = d->draining,
                                 .available_bytes = available_bytes(d)};
    bool taken = true;
    while (taken) {
        queue_decision next;
        queue_manager_decide(d->options.queue, &now, clock_unix_ms(), &next);
        switch (next.action) {
        case POLICY_NONE: return;
        case POLICY_ADMIT: taken = admit(d, next.task, next.reason); break;
        case POLICY_SUSPEND: taken = suspend(d, next.task, next.reason); break;
        case POLICY_RESUME: taken = resume(d, next.task, next.reason); break;
        case POLICY_CANCEL: taken = cancel(d, next.task); break;
        case POLICY_EXPIRE: expire(d, next.task); break;
        }
    }
    d->retry = true;
}

/* --- what the engine says --- */

static void on_ready(void *context, const engine_message *m) {
    dispatch *d = context;
    snprintf(d->device, sizeof d->device, "%s: %s", m->hello.device_kind, m->hello.device_name);
    d->trouble[0] = '\0';
    d->orphan_count = 0;
    engine_view_ready(d->view, m);
    engine_care_engine_ready(d->care);
    engine_profiles_begin_telling(d->options.profiles);
    log_line(LOG_INFO, "the engine (process %ld) is ready on %s, threads: %d", (long)engine_client_pid(d->engine), d->device,
             m->hello.threads);
}

static void on_progress(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = slot_of(d, m->id);
    if (s == NULL) return;
    task *t = s->task;
    if (m->progress.phase != PHASE_LOAD) queue_manager_run(d->options.queue, t);
    snprintf(t->phase, sizeof t->phase, "%s", engine_phase_name(m->progress.phase));
    t->step = m->progress.step;
    t->steps = m->progress.steps;
    t->image = s->first + m->progress.image;
    t->bytes_done = m->progress.bytes_done;
    t->bytes_total = m->progress.bytes_total;
    tell(d, t, CHANGE_PROGRESS);
}

static void on_plan(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = slot_of(d, m->id);
    if (s == NULL) return;
    if (s->task->plan == NULL) s->task->plan = arena_alloc(&s->task->memory, sizeof *s->task->plan);
    task_plan *plan = s->task->plan;
    if (plan == NULL) return;
    plan->count = m->plan.step_count < TASK_PLAN_STEPS ? m->plan.step_count : TASK_PLAN_STEPS;
    for (int i = 0; i < plan->count; i++) snprintf(plan->steps[i], sizeof plan->steps[i], "%s", m->plan.steps[i]);
    tell(d, s->task, CHANGE_PLAN);
}

static void tell_loaded_models(dispatch *d) {
    const engine_snapshot *told = engine_view_snapshot(d->view);
    const char *names[ENGINE_MODEL_ROWS];
    size_t count = 0;
    for (int i = 0; i < told->model_count; i++)
        if (told->models[i].state != MODEL_LOADING) names[count++] = told->models[i].name;
    queue_manager_set_loaded(d->options.queue, names, count);
}

static void on_snapshot(void *context, const engine_snapshot *s) {
    dispatch *d = context;
    engine_view_snapshot_came(d->view, s);
    tell_loaded_models(d);
}

static void shape_of_profile(const engine_profile *p, char shape[TASK_SHAPE_BYTES]) {
    const task_request r = {.model = p->model,
                            .precision = p->precision,
                            .width = p->width,
                            .height = p->height,
                            .negative_prompt = p->guidance_pair ? "" : NULL,
                            .true_cfg_scale = p->guidance_pair ? 2 : 1};
    task_shape(&r, p->batch, shape);
}

/* What it says of memory is for the next admission; seconds are learnt from the tasks themselves. */
static void on_profile(void *context, const engine_profile *p) {
    dispatch *d = context;
    char shape[TASK_SHAPE_BYTES];
    shape_of_profile(p, shape);
    profile_table_learn(queue_manager_profiles(d->options.queue), shape, &(profile){.peak_bytes = p->peak_bytes});
    engine_profiles_add(d->options.profiles, p);
}

/* Estimates begin with what was measured before the server started. */
static void teach_known_profiles(dispatch *d) {
    for (size_t i = 0; i < engine_profiles_count(d->options.profiles); i++) {
        const engine_profile *p = engine_profiles_at(d->options.profiles, i);
        const profile known = {p->step_seconds, p->load_seconds, p->encode_seconds, p->decode_seconds, p->peak_bytes};
        char shape[TASK_SHAPE_BYTES];
        shape_of_profile(p, shape);
        profile_table_restore(queue_manager_profiles(d->options.queue), shape, &known);
    }
}

static void on_answer(void *context, const char *command, const engine_answer *a) {
    engine_view_answer_came(((dispatch *)context)->view, command, a);
}

static char *parameters_text(const task *t, int index) {
    const task_request *r = &t->request;
    const image_parameters p = {
        .prompt = r->prompt,
        .negative_prompt = r->negative_prompt,
        .sampler = "Euler",
        .model = r->model,
        .steps = r->steps,
        .width = r->width,
        .height = r->height,
        .guidance_scale = r->guidance_scale,
        .true_cfg_scale = r->true_cfg_scale,
        .seed = t->images[index].seed,
    };
    buffer text = {0};
    image_parameters_write(&p, &text);
    if (buffer_ok(&text) && text.data != NULL) return text.data;
    buffer_free(&text);
    return NULL;
}

static void on_image(void *context, const engine_message *m, int memfd) {
    dispatch *d = context;
    slot *s = slot_of(d, m->id);
    int index = s != NULL ? s->first + m->image.index : -1;
    bool known = s != NULL && m->image.index >= 0 && index < s->task->request.count;
    if (!known || s->task->images[index].stored) {
        if (known) s->received[index] = true;
        close(memfd);
        return;
    }
    error fault = {0};
    if (m->image.width != s->task->request.width || m->image.height != s->task->request.height ||
        m->image.seed != s->task->images[index].seed) {
        close(memfd);
        error_set(&fault, ERROR_INTERNAL, "the engine sent another image than was asked for");
        fail(d, s, &fault);
        return;
    }
    encoder_job job = {.index = index,
                       .run = s->run,
                       .memfd = memfd,
                       .width = m->image.width,
                       .height = m->image.height,
                       .parameters = parameters_text(s->task, index)};
    memcpy(job.task, s->task->id, sizeof job.task);
    s->received[index] = true;
    if (!encoder_submit(d->encoder, &job, &fault)) fail(d, s, &fault);
}

/* What the task took, as if it had had the engine to itself: a step that images of others shared counts by its images. */
static void learn(dispatch *d, const task *t, const engine_metrics *m) {
    char shape[TASK_SHAPE_BYTES];
    if (m->steps_run <= 0) return;
    int images = m->steps_run / t->request.steps > 0 ? m->steps_run / t->request.steps : 1;
    double batch = m->mean_batch > 1 ? m->mean_batch : 1, own = batch < images ? batch : images;
    const profile measured = {.load_seconds = m->load_seconds,
                              .encode_seconds = m->encode_seconds,
                              .step_seconds = m->denoise_seconds * own / (m->steps_run * batch),
                              .decode_seconds = m->decode_seconds / images};
    task_shape(&t->request, 1, shape);
    profile_table_learn(queue_manager_profiles(d->options.queue), shape, &measured);
}

static void on_done(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = slot_of(d, m->id);
    if (s == NULL) return;
    task *t = s->task;
    t->metrics.load_seconds = m->metrics.load_seconds;
    t->metrics.encode_seconds = m->metrics.encode_seconds;
    t->metrics.denoise_seconds = m->metrics.denoise_seconds;
    t->metrics.decode_seconds = m->metrics.decode_seconds;
    t->metrics.memory_before = m->metrics.memory_before;
    t->metrics.memory_after = m->metrics.memory_after;
    t->metrics.memory_peak = m->metrics.memory_peak;
    t->metrics.device_peak = m->metrics.device_peak;
    t->metrics.largest_batch = (uint64_t)m->metrics.largest_batch;
    t->metrics.mean_batch = m->metrics.mean_batch;
    t->metrics.encode_cached = m->metrics.encode_cached;
    s->done = true;
    queue_manager_through(d->options.queue, t);
    learn(d, t, &m->metrics);
    for (int i = s->first; i < t->request.count; i++) {
        if (s->received[i]) continue;
        error fault = {0};
        error_set(&fault, ERROR_INTERNAL, "the engine ended the task without its image %d", i);
        fail(d, s, &fault);
        return;
    }
    complete_if_stored(d, s);
}

static void on_failed(void *context, const engine_message *m) {
    dispatch *d = context;
    slot *s = slot_of(d, m->id);
    if (s == NULL) return;
    task *t = s->task;
    s->done = true;
    if (m->fault.code == ERROR_CANCELLED && t->cancel_requested) {
        *s = (slot){0};
        queue_manager_close(d->options.queue, t, TASK_CANCELLED, NULL, clock_unix_ms());
    } else {
        fail(d, s, &m->fault);
    }
}

static void on_died(void *context, const engine_death *death) {
    dispatch *d = context;
    d->device[0] = '\0';
    snprintf(d->trouble, sizeof d->trouble, "%s", death->reason);
    engine_view_gone(d->view, death->reason);
    tell_loaded_models(d);
    log_line(LOG_WARNING, "the engine died: %s%s%s", death->reason, death->running[0] != '\0' ? "; it was running task " : "",
             death->running);
    for (int i = 0; i < d->options.max_held; i++) {
        slot *s = &d->slots[i];
        if (s->task == NULL || s->done) continue; /* one that is done only waits for the disk */
        task *t = s->task;
        bool charged = death->charged && engine_death_was_running(death, t->id);
        *s = (slot){0};
        queue_manager_put_back(d->options.queue, t, charged, death->reason, clock_unix_ms());
        if (t->closing) continue;
        log_line(LOG_INFO, "task %s waits again in its old place%s", t->id, charged ? ", charged with the engine's death" : "");
        tell(d, t, CHANGE_QUEUED);
    }
}

/* --- events of the loop --- */

/* Also runs when the timer is due. */
static void service_engine(void *context) {
    dispatch *d = context;
    engine_client_service(d->engine);
    settle(d);
}

static void collect_results(void *context) {
    dispatch *d = context;
    encoder_result r;
    while (encoder_next(d->encoder, &r)) {
        if (r.waiting || task_keeper_trouble(d->options.keeper) != NULL) task_keeper_picture_trouble(d->options.keeper, r.waiting ? &r.fault : NULL);
        task *t = queue_manager_find(d->options.queue, r.task);
        if (t == NULL && r.fault.code == ERROR_NONE) picture_store_remove_one(d->options.pictures, r.task, r.index);
        if (t == NULL || r.waiting) continue;
        slot *s = slot_of(d, r.task);
        bool current = s != NULL && s->run == r.run;
        if (r.fault.code == ERROR_NONE) task_keeper_picture_stored(d->options.keeper, t, r.index, r.bytes);
        /* What an earlier run could not store, this one makes again. */
        if (r.fault.code != ERROR_NONE && current) fail(d, s, &r.fault);
        else if (s != NULL) complete_if_stored(d, s);
    }
    settle(d);
}

static bool computes(const dispatch *d, const task_request *r) {
    for (int i = 0; i < d->options.max_held; i++) {
        const task *t = d->slots[i].task;
        if (t != NULL && strcmp(t->request.model, r->model) == 0 && strcmp(t->request.precision, r->precision) == 0) return true;
    }
    return false;
}

/* Which engine there is to be, and what it is to hold. Milliseconds until this must be asked again; −1: never. */
static int care_for_engine(dispatch *d) {
    const task *next = d->draining || dispatch_idle(d) ? NULL : queue_manager_peek_task(d->options.queue);
    if (next != NULL && !computes(d, &next->request)) engine_care_next_model(d->care, next->request.model, next->request.precision);
    if (engine_client_ready(d->engine)) {
        d->retry |= engine_profiles_tell(d->options.profiles, d->engine);
        d->retry |= engine_view_send(d->view, d->engine);
    }
    bool waits = !d->draining && queue_manager_peek_task(d->options.queue) != NULL;
    return engine_care_settle(d->care, d->engine, waits || !dispatch_idle(d) || engine_view_busy(d->view));
}

/* The smaller of `wait` (−1: for ever) and the milliseconds until the earliest deadline. */
static int64_t until_deadline(const dispatch *d, int64_t wait) {
    int64_t due = queue_manager_next_deadline(d->options.queue), left = due - clock_unix_ms();
    if (due == 0) return wait;
    if (left < 1) left = 1;
    return wait < 0 || left < wait ? left : wait;
}

/* The engine's descriptor changes with each engine. */
static void follow_engine(dispatch *d) {
    int care = care_for_engine(d);
    int fd = engine_client_fd(d->engine);
    pid_t pid = engine_client_pid(d->engine);
    bool same = d->engine_watch != NULL && loop_watch_alive(d->engine_watch) && fd == d->watched_fd && pid == d->watched_pid;
    if (!same) {
        loop_watch_free(d->engine_watch);
        d->engine_watch = NULL;
        error fault = {0};
        if (fd >= 0 && !loop_watch_new(d->options.loop, fd, service_engine, d, &d->engine_watch, &fault)) {
            log_line(LOG_ERROR, "the engine cannot be watched: %s", fault.text);
            d->retry = true;
        }
        d->watched_fd = fd;
        d->watched_pid = pid;
    }
    int wait = engine_client_wait_ms(d->engine);
    if (d->retry && (wait < 0 || wait > RETRY_MS)) wait = RETRY_MS;
    if (care >= 0 && (wait < 0 || wait > care)) wait = care;
    loop_timer_set(d->timer, until_deadline(d, wait));
}

/* After anything happened: whatever can go on goes on, and the loop is told what to wait for. */
static void settle(dispatch *d) {
    d->retry = false;
    withdraw_orphans(d);
    tell_priorities(d);
    follow_policy(d);
    follow_engine(d);
}

static void settle_eased(void *context) { settle(context); }

/* --- life --- */

bool dispatch_new(const dispatch_options *options, dispatch **out, error *e) {
    dispatch *d = calloc(1, sizeof *d);
    if (d == NULL) return error_no_memory(e, "the dispatcher", sizeof *d);
    d->options = *options;
    d->watched_fd = -1;
    d->slots = calloc((size_t)options->max_held, sizeof *d->slots);
    d->orphans = calloc((size_t)options->max_held, sizeof *d->orphans);
    const engine_events events = {d, on_ready, on_progress, on_image, on_done, on_failed, on_died, on_snapshot, on_plan, on_profile, on_answer};
    bool ok = (d->slots != NULL && d->orphans != NULL) || error_no_memory(e, "the dispatcher", (size_t)options->max_held * sizeof *d->slots);
    ok = ok && engine_view_new(&d->view, e) &&
         engine_care_new(options->preload, options->engine_idle_seconds, options->catalog, d->view, &d->care, e) && encoder_new(options->pictures, &d->encoder, e) && loop_timer_new(options->loop, service_engine, d, &d->timer, e) &&
         loop_watch_new(options->loop, encoder_fd(d->encoder), collect_results, d, &d->encoder_watch, e) &&
         engine_client_new(&options->engine, &events, &d->engine, e);
    if (!ok) {
        dispatch_free(d);
        return false;
    }
    const task_keeper_listener listener = {d, ended, settle_eased};
    task_keeper_listen(options->keeper, &listener);
    teach_known_profiles(d);
    pause_again(d);
    follow_engine(d);
    *out = d;
    return true;
}

void dispatch_free(dispatch *d) {
    if (d == NULL) return;
    loop_watch_free(d->engine_watch);
    loop_watch_free(d->encoder_watch);
    loop_timer_free(d->timer);
    engine_client_free(d->engine);
    engine_care_free(d->care);
    engine_view_free(d->view);
    encoder_free(d->encoder);
    free(d->slots);
    free(d->orphans);
    free(d);
}

/* What a submission comes back to. */
typedef struct submission {
    dispatch *dispatch;
    dispatch_submitted done;
    void *context;
} submission;

static void submitted(void *context, const char *id, task *t, const error *why) {
    submission s = *(submission *)context;
    free(context);
    if (t != NULL) {
        tell(s.dispatch, t, CHANGE_QUEUED);
        settle(s.dispatch);
    }
    s.done(s.context, id, t, why);
}

bool dispatch_submit(dispatch *d, const task_request *request, task_priority priority, dispatch_submitted done, void *context,
                     char id[TASK_ID_BYTES], error *e) {
    if (d->draining) return error_set(e, ERROR_BUSY, "the server is about to stop and takes no further tasks");
    submission *s = malloc(sizeof *s);
    if (s == NULL) return error_no_memory(e, "a submission", sizeof *s);
    *s = (submission){d, done, context};
    if (task_keeper_submit(d->options.keeper, request, priority, submitted, s, id, e)) return true;
    free(s);
    return false;
}

bool dispatch_cancel(dispatch *d, task *t, bool *at_once, error *e) {
    if (!queue_manager_cancel_task(d->options.queue, t, clock_unix_ms(), at_once, e)) return false;
    task_keeper_hurry(d->options.keeper);
    settle(d);
    return true;
}

bool dispatch_set_priority(dispatch *d, task *t, task_priority p, error *e) {
    if (!queue_manager_set_priority(d->options.queue, t, p, e)) return false;
    task_keeper_hurry(d->options.keeper);
    tell(d, t, CHANGE_QUEUED);
    settle(d);
    return true;
}

/* A pause outlives the process. */
static void keep_pause(dispatch *d, const char *reason) {
    task_keeper_set(d->options.keeper, pause_setting, reason);
    task_keeper_hurry(d->options.keeper);
}

static void pause_again(dispatch *d) {
    const char *reason = task_keeper_setting(d->options.keeper, pause_setting);
    if (reason == NULL) return;
    log_line(LOG_INFO, "the queue is still paused: %s", reason);
    queue_manager_pause(d->options.queue, reason);
}

void dispatch_pause(dispatch *d, const char *reason) {
    log_line(LOG_INFO, "the queue is paused: %s", reason);
    queue_manager_pause(d->options.queue, reason);
    keep_pause(d, reason);
    settle(d);
}

void dispatch_resume(dispatch *d) {
    log_line(LOG_INFO, "the queue is resumed");
    queue_manager_resume(d->options.queue);
    keep_pause(d, NULL);
    settle(d);
}

void dispatch_drain(dispatch *d) { d->draining = true; }
bool dispatch_draining(const dispatch *d) { return d->draining; }
bool dispatch_ready(const dispatch *d) { return engine_client_ready(d->engine) || engine_client_stopped(d->engine); }
pid_t dispatch_engine_pid(const dispatch *d) { return engine_client_pid(d->engine); }
const engine_view *dispatch_engine(const dispatch *d) { return d->view; }
const engine_options *dispatch_engine_options(const dispatch *d) { return &d->options.engine; }

const char *dispatch_engine_state(const dispatch *d) {
    return engine_client_stopped(d->engine) ? "stopped" : engine_client_ready(d->engine) ? "ready" : "starting";
}

bool dispatch_command(dispatch *d, engine_message_kind kind, const engine_model_name *model, engine_command_done done, void *context,
                      uint64_t *handle, error *e) {
    if (d->draining) return error_set(e, ERROR_BUSY, "the server is about to stop and takes no further commands");
    if (!engine_view_command(d->view, kind, model, done, context, handle, e)) return false;
    settle(d);
    return true;
}

void dispatch_forget_command(dispatch *d, uint64_t handle) { engine_view_forget(d->view, handle); }

const char *dispatch_device(const dispatch *d) { return d->device; }
const char *dispatch_trouble(const dispatch *d) { return d->trouble; }

bool dispatch_idle(const dispatch *d) {
    for (int i = 0; i < d->options.max_held; i++)
        if (d->slots[i].task != NULL) return false;
    return !task_keeper_busy(d->options.keeper);
}
