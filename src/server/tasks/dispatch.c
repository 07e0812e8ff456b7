#include "server/tasks/dispatch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum { RETRY_MS = 20 };

static const char pause_setting[] = "queue_paused"; /* the reason; absent: not paused */

static void settle(dispatch *d);
static void pause_again(dispatch *d);

slot *dispatch_slot_of(dispatch *d, const char *id) {
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

void dispatch_tell(dispatch *d, const task *t, task_change what) { d->options.changed(d->options.context, t, what); }

/* --- ends --- */

/* The end that the queue was told of is on disk. */
static void ended(void *context, task *t) {
    dispatch *d = context;
    if (t->status == TASK_FAILED) log_line(LOG_ERROR, "task %s failed: %s", t->id, t->failure.text);
    else log_line(LOG_INFO, "task %s %s", t->id, task_status_name(t->status));
    dispatch_tell(d, t, CHANGE_ENDED);
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

void dispatch_fail(dispatch *d, slot *s, const error *why) {
    task *t = s->task;
    /* The engine may still work on it: what it sends from now on finds no slot. */
    if (!s->done) withdraw(d, t);
    *s = (slot){0};
    /* A file that is gone here is no fault of the request: as NOT_FOUND its client would be told that the address is wrong. */
    error told = *why;
    if (told.code == ERROR_NOT_FOUND) told.code = ERROR_IO;
    queue_manager_close(d->options.queue, t, TASK_FAILED, &told, clock_unix_ms());
}

void dispatch_complete_if_stored(dispatch *d, slot *s) {
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
        .has_image = from->image != NULL,
        .has_mask = from->mask != NULL,
        .mask_is_alpha = from->mask_is_alpha,
        .strength = from->strength,
    };
    return catalog_find(d->options.catalog, from->model, &model, e) &&
           copy_text(to->model, sizeof to->model, model->name, "model", e) &&
           copy_text(to->model_folder, sizeof to->model_folder, model->folder, "model", e) &&
           copy_text(to->precision, sizeof to->precision, from->precision, "precision", e) &&
           copy_text(to->prompt, sizeof to->prompt, from->prompt, "prompt", e) &&
           copy_text(to->negative_prompt, sizeof to->negative_prompt, from->negative_prompt != NULL ? from->negative_prompt : "",
                     "negative_prompt", e);
}

/* ERROR_BUSY where there are too many open files now. */
static bool open_input(const dispatch *d, const char *id, const char *what, engine_files *files, error *e) {
    char path[PATH_MAX];
    const input *i = input_store_find(d->options.inputs, NULL, id);
    if (i == NULL) return error_set(e, ERROR_NOT_FOUND, "%s (input %s) is not there any more: bring it again", what, id);
    if (!input_store_path(d->options.inputs, i, path, e)) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) return error_set(e, ERROR_BUSY, "too many files are open");
    if (fd < 0) return error_set(e, ERROR_NOT_FOUND, "%s (input %s) cannot be opened: %s", what, id, strerror(errno));
    files->fds[files->count++] = fd;
    return true;
}

static bool open_inputs(const dispatch *d, const task_request *r, engine_files *files, error *e) {
    return (r->image == NULL || open_input(d, r->image, "the picture to begin from", files, e)) &&
           (r->mask == NULL || open_input(d, r->mask, "the mask", files, e));
}

static bool hand_over(dispatch *d, const task *t, int first, error *e) {
    engine_files files = {0};
    bool ok = fill_request(d, t, first, e) && open_inputs(d, &t->request, &files, e) &&
              engine_client_admit(d->engine, t->id, &d->request, &files, e);
    engine_files_close(&files);
    return ok;
}

/* False when the engine takes nothing now. */
static bool admit(dispatch *d, task *t, const char *reason) {
    slot *s = free_slot(d);
    int first = 0;
    while (first < t->request.count && t->images[first].stored) first++;
    error fault = {0};
    *s = (slot){.task = t, .run = ++d->runs, .first = first, .done = first == t->request.count, .told = t->priority};
    bool ok = s->done || hand_over(d, t, first, &fault);
    if (!ok && fault.code == ERROR_BUSY) {
        *s = (slot){0};
        return false;
    }
    queue_manager_start(d->options.queue, t, clock_unix_ms());
    if (s->done) queue_manager_through(d->options.queue, t);
    log_line(LOG_INFO, "task %s starts: %d × %d, steps: %d, images: %d, model: %s; %s", t->id, t->request.width, t->request.height,
             t->request.steps, t->request.count - first, t->request.model, reason);
    dispatch_tell(d, t, CHANGE_STARTED);
    if (!ok) {
        s->done = true;
        dispatch_fail(d, s, &fault);
    } else {
        dispatch_complete_if_stored(d, s); /* an earlier run had stored everything before its engine died */
    }
    return true;
}

static bool suspend(dispatch *d, task *t, const char *reason) {
    if (!engine_client_suspend(d->engine, t->id, NULL)) return false;
    queue_manager_suspend_task(d->options.queue, t, clock_unix_ms());
    log_line(LOG_INFO, "task %s is suspended: %s", t->id, reason);
    dispatch_tell(d, t, CHANGE_QUEUED);
    return true;
}

static bool resume(dispatch *d, task *t, const char *reason) {
    if (!engine_client_resume(d->engine, t->id, NULL)) return false;
    queue_manager_resume_task(d->options.queue, t, clock_unix_ms());
    log_line(LOG_INFO, "task %s goes on: %s", t->id, reason);
    dispatch_tell(d, t, CHANGE_STARTED);
    return true;
}

static bool cancel(dispatch *d, task *t) {
    if (!engine_client_cancel(d->engine, t->id, NULL)) return false;
    queue_manager_cancel_told(d->options.queue, t);
    return true;
}

static void expire(dispatch *d, task *t) {
    slot *s = dispatch_slot_of(d, t->id);
    error why;
    queue_manager_expired(t, &why);
    if (s != NULL) dispatch_fail(d, s, &why);
    else queue_manager_close(d->options.queue, t, TASK_FAILED, &why, clock_unix_ms());
}

/* Memory of the engine's device that another task could have: what is free within the limit, what models take that no task uses, and
 * buffers that tasks share. 0: not known. */
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
        if (r.waiting || task_keeper_trouble(d->options.keeper) != NULL)
            task_keeper_picture_trouble(d->options.keeper, r.waiting ? &r.fault : NULL);
        task *t = queue_manager_find(d->options.queue, r.task);
        if (t == NULL && r.fault.code == ERROR_NONE) picture_store_remove_one(d->options.pictures, r.task, r.index);
        if (t == NULL || r.waiting) continue;
        slot *s = dispatch_slot_of(d, r.task);
        bool current = s != NULL && s->run == r.run;
        if (r.fault.code == ERROR_NONE) task_keeper_picture_stored(d->options.keeper, t, r.index, r.bytes);
        /* What an earlier run could not store, this one makes again. */
        if (r.fault.code != ERROR_NONE && current) dispatch_fail(d, s, &r.fault);
        else if (s != NULL) dispatch_complete_if_stored(d, s);
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
    const engine_events events = dispatch_engine_events(d);
    bool ok = (d->slots != NULL && d->orphans != NULL) ||
              error_no_memory(e, "the dispatcher", (size_t)options->max_held * sizeof *d->slots);
    ok = ok && engine_view_new(&d->view, e) &&
         engine_care_new(options->preload, options->engine_idle_seconds, options->catalog, d->view, &d->care, e) &&
         encoder_new(options->pictures, &d->encoder, e) && loop_timer_new(options->loop, service_engine, d, &d->timer, e) &&
         loop_watch_new(options->loop, encoder_fd(d->encoder), collect_results, d, &d->encoder_watch, e) &&
         engine_client_new(&options->engine, &events, &d->engine, e);
    if (!ok) {
        dispatch_free(d);
        return false;
    }
    const task_keeper_listener listener = {d, ended, settle_eased};
    task_keeper_listen(options->keeper, &listener);
    dispatch_teach_known_profiles(d);
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
        dispatch_tell(s.dispatch, t, CHANGE_QUEUED);
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
    dispatch_tell(d, t, CHANGE_QUEUED);
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
bool dispatch_ready(const dispatch *d) {
    return engine_client_ready(d->engine) || (engine_client_stopped(d->engine) && !engine_client_stuck(d->engine));
}

uint64_t dispatch_engine_deaths(const dispatch *d) { return d->deaths; }
pid_t dispatch_engine_pid(const dispatch *d) { return engine_client_stuck(d->engine) ? 0 : engine_client_pid(d->engine); }
bool dispatch_engine_still(const dispatch *d) { return engine_client_still(d->engine); }
const engine_view *dispatch_engine(const dispatch *d) { return d->view; }
const engine_options *dispatch_engine_options(const dispatch *d) { return &d->options.engine; }

const char *dispatch_engine_state(const dispatch *d) {
    if (engine_client_stuck(d->engine)) return "stuck";
    return engine_client_stopped(d->engine) ? "stopped" : engine_client_ready(d->engine) ? "ready" : "starting";
}

bool dispatch_command(dispatch *d, engine_message_kind kind, const engine_model_name *model, engine_command_done done, void *context,
                      uint64_t *handle, error *e) {
    if (d->draining) return error_set(e, ERROR_BUSY, "the server is about to stop and takes no further commands");
    if (engine_client_stuck(d->engine)) return error_set(e, ERROR_BUSY, "the engine can do nothing now: %s", d->trouble);
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
