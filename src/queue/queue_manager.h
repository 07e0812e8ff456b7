/* All tasks of the server, and which one is next: by priority, then by time of submission.
 *
 * In memory. The manager owns the tasks; what it returns is borrowed and stays valid until the task is forgotten (finished tasks are kept,
 * the oldest forgotten beyond `keep_finished`). What it holds can be kept on disk through its hooks. One thread: the front's event loop. `active` counts tasks that hold a slot (loading or
 * running). */
#ifndef IMAGINED_QUEUE_QUEUE_MANAGER_H
#define IMAGINED_QUEUE_QUEUE_MANAGER_H

#include "queue/task.h"

typedef struct queue_manager queue_manager;

typedef struct queue_limits {
    size_t max_queued;    /* ERROR_BUSY beyond */
    size_t max_active;    /* MAX_CONCURRENT_TASKS */
    size_t keep_finished; /* the one that finished last is kept in any case */
} queue_limits;

typedef struct queue_stats {
    uint64_t queued, active, completed, failed, cancelled;
} queue_stats;

/* Who keeps tasks elsewhere as well. Either may be NULL; both are called on the manager's thread, at the end of what changed the task, which
 * is borrowed for the call. */
typedef struct queue_hooks {
    void *context;
    void (*changed)(void *context, task *t);   /* another state, place or wish than before: also when it begins to close, and its end */
    void (*forgotten)(void *context, task *t); /* it is final, beyond what is kept, and about to be freed */
} queue_hooks;

bool queue_manager_new(const queue_limits *limits, queue_manager **out, error *e);
void queue_manager_free(queue_manager *q); /* NULL is fine */
void queue_manager_set_hooks(queue_manager *q, const queue_hooks *hooks); /* copied */

/* Copies the request into a new queued task: prepare and accept in one. */
bool queue_manager_submit_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out, error *e);
/* A task with its id and its place in the order, but not in the queue: nobody finds or starts it. It counts as queued against max_queued and
 * is the caller's until accepted or discarded. */
bool queue_manager_prepare_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out,
                                error *e);
void queue_manager_accept_task(queue_manager *q, task *t);
void queue_manager_discard_task(queue_manager *q, task *t);
/* Takes in a task of an earlier run, oldest first, before any other is submitted: what is not final waits again, in its old place,
 * uncharged. The manager takes *t, which was made by calloc, with its arena. No hook is called. */
void queue_manager_restore_task(queue_manager *q, task *t);
task *queue_manager_find(queue_manager *q, const char *id); /* NULL when there is none */
/* The task to start now: queued, best priority, oldest; NULL when none waits or max_active tasks hold a slot. Does not change it. */
task *queue_manager_get_next_task(queue_manager *q);
/* The same, however many hold a slot. */
task *queue_manager_peek_task(queue_manager *q);
/* queued → loading: it holds a slot now. */
void queue_manager_start(queue_manager *q, task *t, int64_t now_ms);
/* loading → running: its model is there. A running task stays as it is. */
void queue_manager_run(queue_manager *q, task *t);
/* loading or running → queued, in its old place (the engine died). `charged`: it is to blame; the TASK_MAX_CHARGES-th time it begins to
 * close as failed with `reason` instead. One whose end was asked for begins to close as cancelled. Images that are stored stay. */
void queue_manager_put_back(queue_manager *q, task *t, bool charged, const char *reason, int64_t now_ms);
/* An end in two steps, so that nobody sees one that is not on disk: close decides it (completed, failed with *why, or cancelled), finish
 * makes it so. A task that is closing already keeps its first end. */
void queue_manager_close(queue_manager *q, task *t, task_status end, const error *why, int64_t now_ms);
void queue_manager_finish(queue_manager *q, task *t);
/* Both steps at once: → completed / failed / cancelled. */
void queue_manager_complete(queue_manager *q, task *t, int64_t now_ms);
void queue_manager_fail(queue_manager *q, task *t, const error *why, int64_t now_ms);
/* A queued task begins to close as cancelled (true in *at_once): finish it. For an active one the wish is recorded and the caller tells the
 * engine. One that is closing ends as it was about to. ERROR_INVALID when it is final. */
bool queue_manager_cancel_task(queue_manager *q, task *t, int64_t now_ms, bool *at_once, error *e);
void queue_manager_cancelled(queue_manager *q, task *t, int64_t now_ms);
bool queue_manager_set_priority(queue_manager *q, task *t, task_priority p, error *e); /* ERROR_INVALID when it is final */
/* 1 for the next to start, …; 0 when it does not wait. */
size_t queue_manager_position(const queue_manager *q, const task *t);
queue_stats queue_manager_get_queue_stats(const queue_manager *q);
/* Newest first; NULL ends. */
task *queue_manager_first(const queue_manager *q);
task *queue_manager_after(const task *t);

#endif
