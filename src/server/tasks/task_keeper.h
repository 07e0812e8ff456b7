/* Keeps the queue's tasks on disk, so that they outlive the process: a task is in the queue only once it is written, and its end is shown
 * only once that is.
 *
 * It listens to the queue (queue_hooks) and hands every change to queue/task_store, which writes without making the loop wait. While the
 * disk takes nothing the keeper is in trouble: it takes no task (the disk's error, ERROR_DISK_FULL mostly) and holds the queue, so that
 * what was accepted waits. It ends by itself. One thread, the loop's. */
#ifndef IMAGINED_SERVER_TASKS_TASK_KEEPER_H
#define IMAGINED_SERVER_TASKS_TASK_KEEPER_H

#include "queue/queue_manager.h"
#include "queue/task_store.h"
#include "server/http/loop.h"
#include "server/pictures/picture_store.h"
#include "server/resources/engine_profiles.h"
#include "server/tasks/idempotency.h"

typedef struct task_keeper task_keeper;
struct webhooks;

typedef struct task_keeper_options {
    loop *loop;
    queue_manager *queue;
    idempotency *idempotency;
    const picture_store *pictures;
    engine_profiles *profiles; /* kept as well; outlives the keeper */
    struct webhooks *webhooks; /* whose messages are kept with the tasks; outlives the keeper. NULL: none are */
    const char *state_folder; /* of imagined.db */
} task_keeper_options;

/* Who wants to hear what the keeper finds; set once, before the loop runs. */
typedef struct task_keeper_listener {
    void *context;
    void (*ended)(void *context, task *t); /* its end is on disk, and it is final now */
    void (*eased)(void *context);          /* trouble is over: the queue is released */
} task_keeper_listener;

/* The task is on disk and queued (why NULL), or was not taken (t NULL). */
typedef void (*task_keeper_submitted)(void *context, const char *id, task *t, const error *why);

/* Opens STATE/imagined.db and puts what it holds back into the queue, in its old places. A damaged database is moved aside, with a
 * warning. */
bool task_keeper_new(const task_keeper_options *options, task_keeper **out, error *e);
void task_keeper_free(task_keeper *k); /* writes what waits. NULL is fine */
void task_keeper_listen(task_keeper *k, const task_keeper_listener *l);

/* Gives the task its place and its id at once; `done` is called later, unless this returns false (queue full, trouble, no memory). */
bool task_keeper_submit(task_keeper *k, const task_request *request, task_priority priority, task_keeper_submitted done, void *context,
                        char id[TASK_ID_BYTES], error *e);
/* A picture of the task is on disk. */
void task_keeper_picture_stored(task_keeper *k, task *t, int index, uint64_t bytes);
/* Deletes a stored picture of a task that is over: its file now, and soon its mark in the row. */
void task_keeper_picture_removed(task_keeper *k, task *t, int index);
/* The disk takes no pictures (NULL: takes them again). */
void task_keeper_picture_trouble(task_keeper *k, const error *why);
void task_keeper_hurry(task_keeper *k); /* what changed just now is written at once, not with the next end */

/* NULL unless in trouble. */
const error *task_keeper_trouble(const task_keeper *k);
uint64_t task_keeper_picture_bytes(const task_keeper *k); /* of all stored pictures of the queue's tasks */
/* Submissions and ends that are not yet on disk. */
bool task_keeper_busy(const task_keeper *k);
/* Every task that is not over, in no order: those of the queue, and those that are about to be in it. */
void task_keeper_each_unfinished(const task_keeper *k, void (*visit)(void *context, const task *t), void *context);
/* Settings outlive the process; NULL: none. The answer is borrowed until the next change of that key. */
const char *task_keeper_setting(const task_keeper *k, const char *key);
void task_keeper_set(task_keeper *k, const char *key, const char *value);
/* What is told of the task elsewhere has changed: it is written soon. */
void task_keeper_note(task_keeper *k, const task *t);
/* Messages of webhooks; without memory for them the log says so, and an older state stays on disk. */
void task_keeper_put_webhook(task_keeper *k, const stored_webhook *w);
void task_keeper_delete_webhook(task_keeper *k, const char *id);
void task_keeper_put_gone_webhook(task_keeper *k, const char *url);

#endif
