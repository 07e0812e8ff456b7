/* All tasks of the server, and which one is next (queue/policy.h says by what rules).
 *
 * In memory. The manager owns the tasks; what it returns is borrowed and stays valid until the task is forgotten (finished tasks are kept,
 * the oldest forgotten beyond `keep_finished`). What it holds can be kept on disk through its hooks. One thread: the front's event loop.
 * `active` counts tasks that hold a slot (loading or running); a suspended task is queued.
 *
 * Finding a task, submitting, starting and ending one take a time that does not depend on how many there are. A decision looks at the heads
 * of the lanes, of which there are as many as there are different priorities, keys, models and shapes among the waiting. */
#ifndef IMAGINED_QUEUE_QUEUE_MANAGER_H
#define IMAGINED_QUEUE_QUEUE_MANAGER_H

#include "queue/histogram.h"
#include "queue/policy.h"
#include "queue/profile_table.h"
#include "queue/task.h"

typedef struct queue_manager queue_manager;

typedef struct queue_limits {
    size_t max_queued;    /* ERROR_BUSY beyond */
    size_t max_active;    /* MAX_CONCURRENT_TASKS */
    size_t keep_finished; /* the one that finished last is kept in any case */
    size_t max_suspended; /* tasks at once that give their slots to urgent ones; with max_active at most 64 */
    int64_t age_ms;       /* waiting so long raises a task by a class; 0: never */
    int64_t affinity_ms;  /* so long a task gives way to others for which the engine is better prepared; 0: never */
} queue_limits;

typedef struct queue_stats {
    uint64_t queued, active, completed, failed, cancelled;
    uint64_t suspended;   /* of the queued */
    uint64_t waiting[PRIORITY_LOW + 1]; /* the queued by priority, without those whose end is on its way to disk */
    struct {
        uint64_t completed, failed, cancelled;
    } restored; /* of these, the tasks that ended in an earlier run */
    histogram waits[PRIORITY_LOW + 1]; /* by priority: from submission to the first start */
    histogram runs;       /* from the last start to completion */
} queue_stats;

/* Who keeps tasks elsewhere as well. Either may be NULL; both are called on the manager's thread, at the end of what changed the task,
 * which is borrowed for the call. */
typedef struct queue_hooks {
    void *context;
    void (*changed)(void *context, task *t);   /* another state, place or wish than before: also when it begins to close, and its end */
    void (*forgotten)(void *context, task *t); /* it is final, beyond what is kept, and about to be freed */
} queue_hooks;

bool queue_manager_new(const queue_limits *limits, queue_manager **out, error *e);
void queue_manager_free(queue_manager *q); /* NULL is fine */
void queue_manager_set_hooks(queue_manager *q, const queue_hooks *hooks); /* copied */

/* --- tasks come --- */

/* Copies the request into a new queued task: prepare and accept in one. */
bool queue_manager_submit_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out, error *e);
/* A task with its id and its place in the order, but not in the queue: nobody finds or starts it. It counts as queued against max_queued
 * and is the caller's until accepted or discarded. */
bool queue_manager_prepare_task(queue_manager *q, const task_request *request, task_priority priority, int64_t now_ms, task **out,
                                error *e);
void queue_manager_accept_task(queue_manager *q, task *t);
void queue_manager_discard_task(queue_manager *q, task *t);
/* Takes in a task of an earlier run, oldest first, before any other is submitted: what is not final waits again, in its old place,
 * uncharged. The manager takes *t, which was made by calloc, with its arena; without memory it stays the caller's. No hook is called. */
bool queue_manager_restore_task(queue_manager *q, task *t, error *e);
/* After how many seconds, 1 to 120, a client that was refused (ERROR_BUSY) should try again: from the time that places took to become free
 * lately. Clients that are refused one after the other are told different times. */
int queue_manager_retry_after(queue_manager *q, int64_t now_ms);

/* --- tasks go --- */

/* What the queue cannot know by itself. */
typedef struct queue_situation {
    bool engine_ready;        /* messages can be sent to it */
    bool can_suspend;         /* it knows how to */
    bool draining;            /* nothing new starts */
    uint64_t available_bytes; /* memory for another task; 0: not known */
} queue_situation;

typedef struct queue_decision {
    policy_action action;
    task *task;         /* NULL with POLICY_NONE */
    task *passed;       /* ADMIT: the older task that gives way for affinity, or NULL */
    const char *reason; /* in an operator's words; borrowed until the next decision */
} queue_decision;

/* What to do now; to be asked again after it was carried out. Carried out by: ADMIT queue_manager_start, SUSPEND
 * queue_manager_suspend_task, RESUME queue_manager_resume_task, CANCEL queue_manager_cancel_told, EXPIRE queue_manager_close (failed, with
 * queue_manager_expired). */
void queue_manager_decide(queue_manager *q, const queue_situation *now, int64_t now_ms, queue_decision *out);
void queue_manager_expired(const task *t, error *e);
/* Unix milliseconds of the earliest deadline, when there is something to decide although nothing has happened; 0: never. */
int64_t queue_manager_next_deadline(const queue_manager *q);
/* The task that an engine that is ready would be given now; NULL when none waits, the queue is paused or max_active tasks hold a slot.
 * Changes nothing. */
task *queue_manager_get_next_task(queue_manager *q);
/* The same, however many hold a slot. */
task *queue_manager_peek_task(queue_manager *q);
/* queued → loading: it holds a slot now. */
void queue_manager_start(queue_manager *q, task *t, int64_t now_ms);
/* loading → running: its model is there. A running task stays as it is. */
void queue_manager_run(queue_manager *q, task *t);
/* loading or running → queued: it gives its slot up, and keeps its progress. And back. */
void queue_manager_suspend_task(queue_manager *q, task *t, int64_t now_ms);
void queue_manager_resume_task(queue_manager *q, task *t, int64_t now_ms);
/* The engine is through with it: it only waits for the disk, and cannot be suspended any more. */
void queue_manager_through(queue_manager *q, task *t);
/* loading, running or suspended → queued, in its old place (the engine died). `charged`: it is to blame; the TASK_MAX_CHARGES-th time it
 * begins to close as failed with `reason` instead. One whose end was asked for begins to close as cancelled. Images that are stored
 * stay. */
void queue_manager_put_back(queue_manager *q, task *t, bool charged, const char *reason, int64_t now_ms);
/* An end in two steps, so that nobody sees one that is not on disk: close decides it (completed, failed with *why, or cancelled), finish
 * makes it so. A task that is closing already keeps its first end. */
void queue_manager_close(queue_manager *q, task *t, task_status end, const error *why, int64_t now_ms);
void queue_manager_finish(queue_manager *q, task *t);
/* Both steps at once: → completed / failed / cancelled. */
void queue_manager_complete(queue_manager *q, task *t, int64_t now_ms);
void queue_manager_fail(queue_manager *q, task *t, const error *why, int64_t now_ms);
/* A queued task begins to close as cancelled (true in *at_once): finish it. For one in the engine's hands the wish is recorded, and the
 * next decision is to tell the engine. One that is closing ends as it was about to. ERROR_INVALID when it is final. */
bool queue_manager_cancel_task(queue_manager *q, task *t, int64_t now_ms, bool *at_once, error *e);
void queue_manager_cancel_told(queue_manager *q, task *t);
void queue_manager_cancelled(queue_manager *q, task *t, int64_t now_ms);
/* Of a task that waits, runs or is suspended. ERROR_INVALID when it is final. */
bool queue_manager_set_priority(queue_manager *q, task *t, task_priority p, error *e);

/* --- the queue as a whole --- */

/* Paused, nothing new starts; what has started goes on. An operator pauses and resumes; the server itself holds and releases (a full disk):
 * the one does not undo the other. The reasons are copied, cut at 159 bytes; NULL: none. */
void queue_manager_pause(queue_manager *q, const char *reason);
void queue_manager_resume(queue_manager *q);
void queue_manager_hold(queue_manager *q, const char *reason);
void queue_manager_release(queue_manager *q);
bool queue_manager_paused(const queue_manager *q);             /* for either reason */
bool queue_manager_paused_by_operator(const queue_manager *q);
const char *queue_manager_pause_reason(const queue_manager *q); /* "" unless paused; the server's own before the operator's */

/* The models in the engine's memory, which affinity prefers; at most LANES_LOADED names are copied. */
void queue_manager_set_loaded(queue_manager *q, const char *const *models, size_t count);
/* What was learnt of pictures' cost; the manager owns it, anyone may teach it. */
profile_table *queue_manager_profiles(queue_manager *q);

task *queue_manager_find(queue_manager *q, const char *id); /* NULL when there is none */
/* 1 for the next to start, …; 0 when it does not wait. In a long queue it may be some tens of milliseconds old. */
size_t queue_manager_position(const queue_manager *q, const task *t);
/* Seconds until the task is done, by what such tasks took lately. False when that is not known: nothing was learnt yet, the queue is paused
 * and the task waits, or it is final. */
bool queue_manager_eta(const queue_manager *q, const task *t, int64_t now_ms, double *seconds);
policy_rank queue_manager_rank(const queue_manager *q, const task *t, int64_t now_ms); /* its class, with what waiting has added */
queue_stats queue_manager_get_queue_stats(const queue_manager *q);
/* Those that are final, in the order of their ends; NULL ends. */
task *queue_manager_oldest_finished(const queue_manager *q);
task *queue_manager_next_finished(const task *t);
size_t queue_manager_finished_count(const queue_manager *q);
/* Forgets a task that is final, as if it were beyond keep_finished. */
void queue_manager_forget_task(queue_manager *q, task *t);
/* Newest first; NULL ends. */
task *queue_manager_first(const queue_manager *q);
task *queue_manager_after(const task *t);

#endif
