/* All tasks of the server, and which one is next: by priority, then by time of submission.
 *
 * In memory. The manager owns the tasks; what it returns is borrowed and stays valid until the task is forgotten (finished tasks are kept,
 * the oldest forgotten beyond `keep_finished`). One thread: the front's event loop. `active` counts tasks that hold a slot (loading or
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

bool queue_manager_new(const queue_limits *limits, queue_manager **out, error *e);
void queue_manager_free(queue_manager *q); /* NULL is fine */

/* Copies the request into a new queued task. */
bool queue_manager_submit_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out, error *e);
task *queue_manager_find(queue_manager *q, const char *id); /* NULL when there is none */
/* The task to start now: queued, best priority, oldest; NULL when none waits or max_active tasks hold a slot. Does not change it. */
task *queue_manager_get_next_task(queue_manager *q);
/* queued → loading: it holds a slot now. */
void queue_manager_start(queue_manager *q, task *t, int64_t now_ms);
/* loading → running: its model is there. A running task stays as it is. */
void queue_manager_run(queue_manager *q, task *t);
/* loading or running → queued, in its old place (the engine died). `charged`: it is to blame; the TASK_MAX_CHARGES-th time it is failed
 * with `reason` instead. One whose end was asked for is cancelled. Images that are stored stay. */
void queue_manager_put_back(queue_manager *q, task *t, bool charged, const char *reason, int64_t now_ms);
/* → completed / failed / cancelled. */
void queue_manager_complete(queue_manager *q, task *t, int64_t now_ms);
void queue_manager_fail(queue_manager *q, task *t, const error *why, int64_t now_ms);
/* A queued task is cancelled at once (true in *at_once); for an active one the wish is recorded and the caller tells the engine.
 * ERROR_INVALID when it is final. */
bool queue_manager_cancel_task(queue_manager *q, task *t, int64_t now_ms, bool *at_once, error *e);
void queue_manager_cancelled(queue_manager *q, task *t, int64_t now_ms);
bool queue_manager_set_priority(queue_manager *q, task *t, task_priority p, error *e); /* ERROR_INVALID when it is final */
/* 1 for the next to start, …; 0 when it is not queued. */
size_t queue_manager_position(const queue_manager *q, const task *t);
queue_stats queue_manager_get_queue_stats(const queue_manager *q);
/* Newest first; NULL ends. */
task *queue_manager_first(const queue_manager *q);
task *queue_manager_after(const task *t);

#endif
