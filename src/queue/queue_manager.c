#include "queue/queue_manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* One list, newest first. Every walk is linear: with the ten thousand tasks a server may hold that is tens of microseconds an event.
 *
 * Invariants: stats.queued, stats.active and `finished` count the tasks of the list in those states; completed, failed and cancelled count
 * forgotten tasks too. */
struct queue_manager {
    queue_limits limits;
    queue_hooks hooks;
    task *newest;
    uint64_t submitted; /* sequence numbers given out */
    size_t prepared;    /* tasks that are neither accepted nor discarded */
    size_t finished;
    queue_stats stats;
};

bool queue_manager_new(const queue_limits *limits, queue_manager **out, error *e) {
    queue_manager *q = calloc(1, sizeof *q);
    if (q == NULL) return error_no_memory(e, "the queue", sizeof *q);
    q->limits = *limits;
    *out = q;
    return true;
}

void queue_manager_set_hooks(queue_manager *q, const queue_hooks *hooks) { q->hooks = *hooks; }

static void changed(queue_manager *q, task *t) {
    if (q->hooks.changed != NULL) q->hooks.changed(q->hooks.context, t);
}

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
    free(q);
}

static bool draw_id(int64_t now_ms, char id[TASK_ID_BYTES], error *e) {
    uint8_t random[10];
    ssize_t n;
    do n = getrandom(random, sizeof random, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof random) return error_set(e, ERROR_INTERNAL, "the system gives no random numbers: %s", strerror(errno));
    task_id_format(now_ms, random, id);
    return true;
}

bool queue_manager_prepare_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out,
                                error *e) {
    if (q->stats.queued + q->prepared >= q->limits.max_queued)
        return error_set(e, ERROR_BUSY, "the queue is full: %zu tasks wait already; try again later", q->limits.max_queued);
    task *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a task", sizeof *t);
    if (!draw_id(now_ms, t->id, e)) {
        task_free(t);
        return false;
    }
    t->request = *request;
    if (!task_keep_texts(t)) {
        task_free(t);
        return error_no_memory(e, "a task's texts", strlen(request->prompt));
    }
    t->priority = priority;
    t->sequence = q->submitted++;
    t->created_ms = now_ms;
    t->steps = request->steps;
    for (int i = 0; i < request->count; i++) t->images[i].seed = request->seed + (uint64_t)i;
    q->prepared++;
    *out = t;
    return true;
}

static void add(queue_manager *q, task *t) {
    t->next = q->newest;
    q->newest = t;
    q->stats.queued++;
}

void queue_manager_accept_task(queue_manager *q, task *t) {
    q->prepared--;
    add(q, t);
    changed(q, t);
}

void queue_manager_discard_task(queue_manager *q, task *t) {
    q->prepared--;
    task_free(t);
}

bool queue_manager_submit_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out,
                               error *e) {
    if (!queue_manager_prepare_task(q, request, priority, now_ms, out, e)) return false;
    queue_manager_accept_task(q, *out);
    return true;
}

task *queue_manager_find(queue_manager *q, const char *id) {
    for (task *t = q->newest; t != NULL; t = t->next)
        if (strcmp(t->id, id) == 0) return t;
    return NULL;
}

static bool waits(const task *t) { return t->status == TASK_QUEUED && !t->closing; }

static bool comes_before(const task *a, const task *b) {
    return a->priority != b->priority ? a->priority < b->priority : a->sequence < b->sequence;
}

task *queue_manager_get_next_task(queue_manager *q) {
    return q->stats.active >= q->limits.max_active ? NULL : queue_manager_peek_task(q);
}

task *queue_manager_peek_task(queue_manager *q) {
    if (q->stats.queued == 0) return NULL;
    task *best = NULL;
    for (task *t = q->newest; t != NULL; t = t->next)
        if (waits(t) && (best == NULL || comes_before(t, best))) best = t;
    return best;
}

size_t queue_manager_position(const queue_manager *q, const task *t) {
    if (!waits(t)) return 0;
    size_t position = 1;
    for (const task *other = q->newest; other != NULL; other = other->next)
        position += waits(other) && comes_before(other, t);
    return position;
}

/* The state a task is in has a counter; finished ones are counted for good. */
static void leave_state(queue_manager *q, const task *t) {
    if (t->status == TASK_QUEUED) q->stats.queued--;
    else if (task_status_holds_slot(t->status)) q->stats.active--;
}

void queue_manager_start(queue_manager *q, task *t, int64_t now_ms) {
    leave_state(q, t);
    t->status = TASK_LOADING;
    t->started_ms = now_ms;
    t->metrics.wait_seconds = (double)(now_ms - t->created_ms) / 1000.0;
    q->stats.active++;
    changed(q, t);
}

void queue_manager_run(queue_manager *q, task *t) {
    if (t->status != TASK_LOADING) return;
    t->status = TASK_RUNNING;
    changed(q, t);
}

/* The finished task that finished first, but not `kept`. */
static task *oldest_finished(queue_manager *q, const task *kept) {
    task *oldest = NULL;
    for (task *t = q->newest; t != NULL; t = t->next) {
        if (!task_status_is_final(t->status) || t == kept) continue;
        if (oldest == NULL || t->finished_ms < oldest->finished_ms ||
            (t->finished_ms == oldest->finished_ms && t->sequence < oldest->sequence))
            oldest = t;
    }
    return oldest;
}

static void forget(queue_manager *q, task *forgotten) {
    task **link = &q->newest;
    while (*link != forgotten) link = &(*link)->next;
    *link = forgotten->next;
    q->finished--;
    if (q->hooks.forgotten != NULL) q->hooks.forgotten(q->hooks.context, forgotten);
    task_free(forgotten);
}

static void count_end(queue_manager *q, const task *t) {
    if (t->status == TASK_COMPLETED) q->stats.completed++;
    else if (t->status == TASK_FAILED) q->stats.failed++;
    else q->stats.cancelled++;
    q->finished++;
}

void queue_manager_restore_task(queue_manager *q, task *t) {
    if (t->sequence >= q->submitted) q->submitted = t->sequence + 1;
    add(q, t);
    if (task_status_is_final(t->status)) {
        q->stats.queued--;
        count_end(q, t);
        return;
    }
    t->status = TASK_QUEUED;
    t->started_ms = 0;
}

void queue_manager_close(queue_manager *q, task *t, task_status end, const error *why, int64_t now_ms) {
    if (t->closing) return;
    t->closing = true;
    t->end = end;
    t->finished_ms = now_ms;
    if (why != NULL) t->failure = *why;
    changed(q, t);
}

void queue_manager_finish(queue_manager *q, task *t) {
    leave_state(q, t);
    t->closing = false;
    t->status = t->end;
    t->phase[0] = '\0';
    count_end(q, t);
    changed(q, t);
    while (q->finished > 1 && q->finished > q->limits.keep_finished) forget(q, oldest_finished(q, t));
}

void queue_manager_put_back(queue_manager *q, task *t, bool charged, const char *reason, int64_t now_ms) {
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
    leave_state(q, t);
    t->status = TASK_QUEUED;
    t->started_ms = 0;
    t->phase[0] = '\0';
    t->step = t->image = 0;
    t->metrics.wait_seconds = 0;
    q->stats.queued++;
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
    *at_once = t->closing ? t->end == TASK_CANCELLED : t->status == TASK_QUEUED;
    if (t->closing) return true;
    t->cancel_requested = true;
    if (*at_once) queue_manager_close(q, t, TASK_CANCELLED, NULL, now_ms);
    else changed(q, t);
    return true;
}

bool queue_manager_set_priority(queue_manager *q, task *t, task_priority p, error *e) {
    if (task_status_is_final(t->status))
        return error_set(e, ERROR_INVALID, "task %s is %s already: its priority means nothing any more", t->id,
                         task_status_name(t->status));
    t->priority = p;
    changed(q, t);
    return true;
}

queue_stats queue_manager_get_queue_stats(const queue_manager *q) { return q->stats; }
task *queue_manager_first(const queue_manager *q) { return q->newest; }
task *queue_manager_after(const task *t) { return t->next; }
