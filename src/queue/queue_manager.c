#include "queue/queue_manager_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* --- life --- */

bool queue_manager_new(const queue_limits *limits, queue_manager **out, error *e) {
    if (limits->max_active + limits->max_suspended > QUEUE_MAX_HELD)
        return error_set(e, ERROR_INVALID, "%zu tasks at once and %zu suspended are too many: %d together are allowed", limits->max_active,
                         limits->max_suspended, QUEUE_MAX_HELD);
    queue_manager *q = calloc(1, sizeof *q);
    if (q == NULL) return error_no_memory(e, "the queue", sizeof *q);
    q->limits = *limits;
    q->settings = (policy_settings){.age_ms = limits->age_ms,
                                    .affinity_ms = limits->affinity_ms,
                                    .max_active = (uint32_t)limits->max_active,
                                    .max_suspended = (uint32_t)limits->max_suspended};
    q->outlook = calloc(1, sizeof *q->outlook);
    bool ok = q->outlook != NULL || error_no_memory(e, "the queue", sizeof *q->outlook);
    if (!ok || !lanes_new(limits->max_active + limits->max_suspended, &q->lanes, e) || !profile_table_new(&q->profiles, e)) {
        queue_manager_free(q);
        return false;
    }
    q->outlook->stale = true;
    *out = q;
    return true;
}

void queue_manager_set_hooks(queue_manager *q, const queue_hooks *hooks) { q->hooks = *hooks; }

static void task_free(task *t) {
    arena_free(&t->memory);
    free(t);
}

void queue_manager_free(queue_manager *q) {
    if (q == NULL) return;
    for (task *t = q->newest, *next; t != NULL; t = next) {
        next = t->next;
        task_free(t);
    }
    lanes_free(&q->lanes);
    task_index_free(&q->index);
    deadlines_free(&q->deadlines);
    profile_table_free(q->profiles);
    if (q->outlook != NULL) forecast_free(&q->outlook->forecast);
    free(q->outlook);
    free(q);
}

/* --- bookkeeping --- */

static void changed(queue_manager *q, task *t) {
    queue_manager_disturb(q);
    if (q->hooks.changed != NULL) q->hooks.changed(q->hooks.context, t);
}

static void tick(queue_manager *q, int64_t now_ms) {
    if (now_ms > q->now_ms) q->now_ms = now_ms;
}

static bool held(const task *t) { return task_status_holds_slot(t->status) || t->suspended; }

static void begin_to_wait(queue_manager *q, task *t) {
    lanes_wait(&q->lanes, t);
    q->waiting[t->priority]++;
}

static void end_waiting(queue_manager *q, task *t) {
    lanes_stop_waiting(&q->lanes, t);
    q->waiting[t->priority]--;
}

static void hold_task(queue_manager *q, task *t) { q->held[q->held_count++] = t; }

static void let_go(queue_manager *q, const task *t) {
    size_t i = 0;
    while (q->held[i] != t) i++;
    q->held[i] = q->held[--q->held_count];
}

/* --- tasks come --- */

static bool draw_id(int64_t now_ms, char id[TASK_ID_BYTES], error *e) {
    uint8_t random[10];
    ssize_t n;
    do n = getrandom(random, sizeof random, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof random) return error_set(e, ERROR_INTERNAL, "the system gives no random numbers: %s", strerror(errno));
    task_id_format(now_ms, random, id);
    return true;
}

/* A place in every table, so that nothing can fail later. */
static bool make_places(queue_manager *q, task *t, error *e) {
    t->place = (task_place){.head = SIZE_MAX, .deadline = SIZE_MAX, .batch = task_batch_key(&t->request)};
    return task_index_reserve(&q->index, q->prepared + 1, e) && deadlines_reserve(&q->deadlines, q->prepared + 1, e) &&
           lanes_enter(&q->lanes, t, e);
}

static void estimate(queue_manager *q, task *t) {
    task_estimate e;
    profile_table_estimate(q->profiles, &t->request, &e);
    t->place.cost = profile_table_work(q->profiles, &t->request);
    t->place.peak_bytes = e.peak_bytes;
}

bool queue_manager_prepare_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out,
                                error *e) {
    tick(q, now_ms);
    if (q->stats.queued + q->prepared >= q->limits.max_queued)
        return error_set(e, ERROR_BUSY, "the queue is full: %zu tasks wait already; try again later", q->limits.max_queued);
    task *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a task", sizeof *t);
    t->request = *request;
    t->priority = priority;
    bool ok = draw_id(now_ms, t->id, e) &&
              (task_keep_texts(t) || error_no_memory(e, "a task's texts", strlen(request->prompt))) && make_places(q, t, e);
    if (!ok) {
        task_free(t);
        return false;
    }
    estimate(q, t);
    t->sequence = q->numbers++;
    t->created_ms = now_ms;
    t->steps = request->steps;
    for (int i = 0; i < request->count; i++) t->images[i].seed = request->seed + (uint64_t)i;
    q->prepared++;
    *out = t;
    return true;
}

static void add(queue_manager *q, task *t) {
    t->next = q->newest;
    if (q->newest != NULL) q->newest->place.newer = t;
    q->newest = t;
    task_index_add(&q->index, t);
}

static void add_waiting(queue_manager *q, task *t) {
    q->stats.queued++;
    deadlines_add(&q->deadlines, t);
    begin_to_wait(q, t);
}

void queue_manager_accept_task(queue_manager *q, task *t) {
    q->prepared--;
    add(q, t);
    add_waiting(q, t);
    changed(q, t);
}

void queue_manager_discard_task(queue_manager *q, task *t) {
    q->prepared--;
    lanes_leave(&q->lanes, t);
    task_free(t);
}

bool queue_manager_submit_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out,
                               error *e) {
    if (!queue_manager_prepare_task(q, request, priority, now_ms, out, e)) return false;
    queue_manager_accept_task(q, *out);
    return true;
}

/* --- tasks go --- */

static policy_view view(queue_manager *q, const queue_situation *s, policy_held table[QUEUE_MAX_HELD]) {
    for (size_t i = 0; i < q->held_count; i++) table[i] = lanes_held(q->held[i]);
    const task *due = deadlines_first(&q->deadlines);
    return (policy_view){.settings = q->settings,
                         .now_ms = q->now_ms,
                         .heads = q->lanes.heads,
                         .head_count = q->lanes.head_count,
                         .held = table,
                         .held_count = q->held_count,
                         .keys = q->lanes.key_figures,
                         .loaded = q->lanes.loaded,
                         .virtual_time = q->lanes.virtual_time,
                         .available_bytes = s->available_bytes,
                         .earliest_deadline_ms = due != NULL ? due->request.deadline_ms : 0,
                         .engine_ready = s->engine_ready,
                         .can_suspend = s->can_suspend,
                         .open = !s->draining && !queue_manager_paused(q)};
}

void queue_manager_decide(queue_manager *q, const queue_situation *now, int64_t now_ms, queue_decision *out) {
    policy_held table[QUEUE_MAX_HELD];
    policy_decision *d = &q->decision;
    tick(q, now_ms);
    policy_view v = view(q, now, table);
    policy_decide(&v, d);
    *out = (queue_decision){.action = d->action, .reason = d->reason};
    switch (d->action) {
    case POLICY_NONE: break;
    case POLICY_ADMIT:
        if (d->passed != POLICY_NO_INDEX) {
            lanes_set_passed(&q->lanes, d->passed, q->now_ms);
            out->passed = q->lanes.tasks[d->passed];
        }
        out->task = q->lanes.tasks[d->index];
        break;
    case POLICY_RESUME: out->task = q->lanes.tasks[d->index]; break;
    case POLICY_SUSPEND:
    case POLICY_CANCEL: out->task = q->held[d->index]; break;
    case POLICY_EXPIRE: out->task = deadlines_first(&q->deadlines); break;
    }
}

void queue_manager_expired(const task *t, error *e) {
    double allowed = (double)(t->request.deadline_ms - t->created_ms) / 1000.0;
    const char *where = t->suspended               ? "it was suspended for urgent ones"
                        : t->status == TASK_QUEUED ? "it still waited for its turn"
                                                   : "it was still running";
    error_field(e, ERROR_TIMEOUT, "deadline_seconds",
                "the task was not finished %.3f seconds after its submission, which is its deadline: %s", allowed, where);
}

int64_t queue_manager_next_deadline(const queue_manager *q) {
    const task *due = deadlines_first(&q->deadlines);
    return due != NULL ? due->request.deadline_ms : 0;
}

static task *next_task(queue_manager *q, uint32_t max_active) {
    const queue_situation ready = {.engine_ready = true};
    policy_held table[QUEUE_MAX_HELD];
    policy_decision d;
    policy_view v = view(q, &ready, table);
    v.settings.max_active = max_active;
    v.earliest_deadline_ms = 0;
    for (size_t i = 0; i < v.held_count; i++) table[i].cancel_owed = false;
    policy_decide(&v, &d);
    return d.action == POLICY_ADMIT || d.action == POLICY_RESUME ? q->lanes.tasks[d.index] : NULL;
}

task *queue_manager_get_next_task(queue_manager *q) { return next_task(q, q->settings.max_active); }
task *queue_manager_peek_task(queue_manager *q) { return next_task(q, UINT32_MAX); }

void queue_manager_start(queue_manager *q, task *t, int64_t now_ms) {
    tick(q, now_ms);
    end_waiting(q, t);
    estimate(q, t); /* as is known by now */
    t->started = q->numbers++;
    lanes_start(&q->lanes, t, t->started, false);
    hold_task(q, t);
    q->stats.queued--;
    q->stats.active++;
    t->status = TASK_LOADING;
    t->started_ms = now_ms;
    t->metrics.wait_seconds = (double)(now_ms - t->created_ms) / 1000.0;
    t->place.cancel_owed = t->place.through = false;
    if (!t->place.waited) histogram_add(&q->stats.waits[t->priority], t->metrics.wait_seconds);
    t->place.waited = true;
    queue_manager_count_departure(q, now_ms);
    changed(q, t);
}

void queue_manager_run(queue_manager *q, task *t) {
    if (t->status != TASK_LOADING) return;
    t->status = TASK_RUNNING;
    changed(q, t);
}

void queue_manager_suspend_task(queue_manager *q, task *t, int64_t now_ms) {
    tick(q, now_ms);
    t->place.held_status = t->status;
    t->place.suspended_ms = now_ms;
    t->status = TASK_QUEUED;
    t->suspended = true;
    lanes_stop(&q->lanes, t);
    begin_to_wait(q, t);
    q->stats.active--;
    q->stats.queued++;
    q->stats.suspended++;
    changed(q, t);
}

void queue_manager_resume_task(queue_manager *q, task *t, int64_t now_ms) {
    tick(q, now_ms);
    end_waiting(q, t);
    t->suspended = false;
    t->status = t->place.held_status;
    t->metrics.wait_seconds += (double)(now_ms - t->place.suspended_ms) / 1000.0;
    lanes_start(&q->lanes, t, 0, true);
    q->stats.suspended--;
    q->stats.queued--;
    q->stats.active++;
    changed(q, t);
}

void queue_manager_through(queue_manager *q, task *t) {
    t->place.through = true;
    queue_manager_disturb(q);
}

/* From the engine's hands, or from where it waits, to nowhere. */
static void leave(queue_manager *q, task *t) {
    if (task_status_holds_slot(t->status)) {
        lanes_stop(&q->lanes, t);
        q->stats.active--;
    } else {
        if (queue_manager_waits(t)) end_waiting(q, t);
        q->stats.queued--;
    }
    if (held(t)) let_go(q, t);
    q->stats.suspended -= t->suspended;
    t->suspended = false;
}

/* --- ends --- */

static void forget(queue_manager *q, task *t) {
    *(t->place.newer != NULL ? &t->place.newer->next : &q->newest) = t->next;
    if (t->next != NULL) t->next->place.newer = t->place.newer;
    *(t->place.before != NULL ? &t->place.before->place.behind : &q->finished_first) = t->place.behind;
    *(t->place.behind != NULL ? &t->place.behind->place.before : &q->finished_last) = t->place.before;
    task_index_remove(&q->index, t);
    q->finished--;
    if (q->hooks.forgotten != NULL) q->hooks.forgotten(q->hooks.context, t);
    task_free(t);
}

/* Takes its place among the finished by the time of its end: the last, but for restored tasks and a clock that was set back. */
static void add_finished(queue_manager *q, task *t) {
    if (t->status == TASK_COMPLETED) q->stats.completed++;
    else if (t->status == TASK_FAILED) q->stats.failed++;
    else q->stats.cancelled++;
    q->finished++;
    task *before = q->finished_last;
    while (before != NULL && before->finished_ms > t->finished_ms) before = before->place.before;
    task *behind = before != NULL ? before->place.behind : q->finished_first;
    t->place.before = before;
    t->place.behind = behind;
    *(before != NULL ? &before->place.behind : &q->finished_first) = t;
    *(behind != NULL ? &behind->place.before : &q->finished_last) = t;
}

task *queue_manager_oldest_finished(const queue_manager *q) { return q->finished_first; }
task *queue_manager_next_finished(const task *t) { return t->place.behind; }
size_t queue_manager_finished_count(const queue_manager *q) { return q->finished; }
void queue_manager_forget_task(queue_manager *q, task *t) { forget(q, t); }

static void forget_oldest(queue_manager *q, const task *kept) {
    while (q->finished > 1 && q->finished > q->limits.keep_finished) {
        task *oldest = q->finished_first;
        forget(q, oldest != kept ? oldest : oldest->place.behind);
    }
}

bool queue_manager_restore_task(queue_manager *q, task *t, error *e) {
    bool final = task_status_is_final(t->status);
    if (final) {
        t->place = (task_place){.head = SIZE_MAX, .deadline = SIZE_MAX};
        if (!task_index_reserve(&q->index, q->prepared + 1, e)) return false;
    } else if (!make_places(q, t, e)) {
        return false;
    }
    if (t->sequence >= q->numbers) q->numbers = t->sequence + 1;
    add(q, t);
    if (final) {
        add_finished(q, t);
        q->stats.restored.completed += t->status == TASK_COMPLETED;
        q->stats.restored.failed += t->status == TASK_FAILED;
        q->stats.restored.cancelled += t->status == TASK_CANCELLED;
        return true;
    }
    estimate(q, t);
    t->status = TASK_QUEUED;
    t->started_ms = 0;
    t->suspended = false;
    add_waiting(q, t);
    queue_manager_disturb(q);
    return true;
}

void queue_manager_close(queue_manager *q, task *t, task_status end, const error *why, int64_t now_ms) {
    if (t->closing) return;
    tick(q, now_ms);
    if (queue_manager_waits(t)) {
        end_waiting(q, t);
        queue_manager_count_departure(q, now_ms);
    }
    deadlines_remove(&q->deadlines, t);
    t->closing = true;
    t->end = end;
    t->finished_ms = now_ms;
    if (why != NULL) t->failure = *why;
    changed(q, t);
}

void queue_manager_finish(queue_manager *q, task *t) {
    bool had_run = held(t);
    leave(q, t);
    t->closing = false;
    t->status = t->end;
    t->phase[0] = '\0';
    if (t->status == TASK_COMPLETED) histogram_add(&q->stats.runs, (double)(t->finished_ms - t->started_ms) / 1000.0);
    else if (had_run) lanes_refund(&q->lanes, t, 1 - task_done_fraction(t));
    lanes_leave(&q->lanes, t);
    add_finished(q, t);
    changed(q, t);
    forget_oldest(q, t);
}

void queue_manager_put_back(queue_manager *q, task *t, bool charged, const char *reason, int64_t now_ms) {
    if (t->closing) return;
    if (t->cancel_requested) {
        queue_manager_close(q, t, TASK_CANCELLED, NULL, now_ms);
        return;
    }
    if (charged && ++t->charges >= TASK_MAX_CHARGES) {
        error why;
        error_set(&why, ERROR_INTERNAL, "the engine died %d times while it worked on this task; the last time it was %s", t->charges,
                  reason);
        queue_manager_close(q, t, TASK_FAILED, &why, now_ms);
        return;
    }
    leave(q, t);
    lanes_refund(&q->lanes, t, 1);
    t->status = TASK_QUEUED;
    t->started_ms = 0;
    t->phase[0] = '\0';
    t->step = t->image = 0;
    t->metrics.wait_seconds = 0;
    t->place.through = t->place.cancel_owed = false;
    q->stats.queued++;
    begin_to_wait(q, t);
    changed(q, t);
}

static void end(queue_manager *q, task *t, task_status status, const error *why, int64_t now_ms) {
    queue_manager_close(q, t, status, why, now_ms);
    queue_manager_finish(q, t);
}

void queue_manager_complete(queue_manager *q, task *t, int64_t now_ms) { end(q, t, TASK_COMPLETED, NULL, now_ms); }
void queue_manager_fail(queue_manager *q, task *t, const error *why, int64_t now_ms) { end(q, t, TASK_FAILED, why, now_ms); }
void queue_manager_cancelled(queue_manager *q, task *t, int64_t now_ms) { end(q, t, TASK_CANCELLED, NULL, now_ms); }

bool queue_manager_cancel_task(queue_manager *q, task *t, int64_t now_ms, bool *at_once, error *e) {
    if (task_status_is_final(t->status))
        return error_set(e, ERROR_INVALID, "task %s is %s already: it cannot be cancelled", t->id, task_status_name(t->status));
    *at_once = t->closing ? t->end == TASK_CANCELLED : !held(t);
    if (t->closing) return true;
    if (*at_once) {
        t->cancel_requested = true;
        queue_manager_close(q, t, TASK_CANCELLED, NULL, now_ms);
        return true;
    }
    if (!t->cancel_requested) {
        if (queue_manager_waits(t)) end_waiting(q, t); /* suspended: it is not to go on */
        t->place.cancel_owed = true;
    }
    t->cancel_requested = true;
    changed(q, t);
    return true;
}

void queue_manager_cancel_told(queue_manager *q, task *t) {
    (void)q;
    t->place.cancel_owed = false;
}

bool queue_manager_set_priority(queue_manager *q, task *t, task_priority p, error *e) {
    if (task_status_is_final(t->status))
        return error_set(e, ERROR_INVALID, "task %s is %s already: its priority means nothing any more", t->id,
                         task_status_name(t->status));
    bool waiting = queue_manager_waits(t);
    if (waiting) q->waiting[t->priority]--;
    bool ok = t->priority == p || lanes_set_priority(&q->lanes, t, p, waiting, e);
    if (waiting) q->waiting[t->priority]++;
    if (ok) changed(q, t);
    return ok;
}

/* --- the queue as a whole --- */

void queue_manager_set_loaded(queue_manager *q, const char *const *models, size_t count) {
    if (lanes_set_loaded(&q->lanes, models, count)) queue_manager_disturb(q);
}

profile_table *queue_manager_profiles(queue_manager *q) { return q->profiles; }
task *queue_manager_find(queue_manager *q, const char *id) { return task_index_find(&q->index, id); }
task *queue_manager_first(const queue_manager *q) { return q->newest; }
task *queue_manager_after(const task *t) { return t->next; }
