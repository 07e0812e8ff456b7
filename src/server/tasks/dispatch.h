/* Between queue, engine and disk: carries out what the queue's policy decides, follows what the engine says of it, has its
 * pictures stored and only then calls it completed. What becomes of a task is shown once the keeper has it on disk. When an engine dies its
 * tasks go back to their places.
 *
 * Every change of a task after its submission goes through here, so that `finished` hears of every end. One thread. */
#ifndef IMAGINED_SERVER_TASKS_DISPATCH_H
#define IMAGINED_SERVER_TASKS_DISPATCH_H

#include "engine/engine_client.h"
#include "queue/queue_manager.h"
#include "server/http/loop.h"
#include "server/pictures/encoder.h"
#include "server/pictures/input_store.h"
#include "server/pictures/picture_store.h"
#include "server/resources/catalog.h"
#include "server/resources/engine_profiles.h"
#include "server/resources/engine_view.h"
#include "server/tasks/task_keeper.h"

struct previews;
typedef struct dispatch dispatch;

/* What happened to a task: it waits (again, or elsewhere in the queue), has a slot, got on, was planned, has a newer preview
 * (server/pictures/previews.h), is over. */
typedef enum task_change { CHANGE_QUEUED, CHANGE_STARTED, CHANGE_PROGRESS, CHANGE_PLAN, CHANGE_PREVIEW, CHANGE_ENDED } task_change;

typedef struct dispatch_options {
    loop *loop;
    queue_manager *queue;
    catalog *catalog;
    const picture_store *pictures;
    struct previews *previews; /* what the engine shows of running tasks is put there */
    const input_store *inputs; /* that tasks name: they are opened at each admission */
    task_keeper *keeper; /* the dispatcher listens to it */
    engine_profiles *profiles; /* what engines measure, and are told */
    engine_options engine;
    const char *preload;     /* models for each new engine, separated by commas; borrowed */
    int engine_idle_seconds; /* after which an engine that nothing needs is stopped; 0: never */
    int max_held; /* tasks in the engine's hands: those with slots and those suspended; at least as many as the queue allows */
    /* A task became final. It is borrowed for the call. */
    void (*finished)(void *context, task *t);
    /* Anything happened to a task, its end included (told before `finished`). Borrowed for the call. */
    void (*changed)(void *context, const task *t, task_change what);
    void *context;
    /* Adds what else a task's pictures are to say of themselves. May be NULL. */
    void (*picture_texts)(const task *t, encoder_job *job);
} dispatch_options;

/* Starts the engine and the encoder. */
bool dispatch_new(const dispatch_options *options, dispatch **out, error *e);
void dispatch_free(dispatch *d); /* stops the engine. NULL is fine */

/* The task is on disk and in the queue, or has a slot already (why NULL), or was not taken (t NULL). */
typedef void (*dispatch_submitted)(void *context, const char *id, task *t, const error *why);
/* The task has its id at once; `done` is called later, unless this returns false. */
bool dispatch_submit(dispatch *d, const task_request *request, task_priority priority, dispatch_submitted done, void *context,
                     char id[TASK_ID_BYTES], error *e);
/* As queue_manager_cancel_task; an active task's engine is told. One that is cancelled at once is so as soon as that is on disk. */
bool dispatch_cancel(dispatch *d, task *t, bool *at_once, error *e);
bool dispatch_set_priority(dispatch *d, task *t, task_priority p, error *e);

/* The operator's: nothing new starts until it is resumed. */
void dispatch_pause(dispatch *d, const char *reason);
void dispatch_resume(dispatch *d);

/* Starts no further task and takes none: ERROR_BUSY from now on. */
void dispatch_drain(dispatch *d);
bool dispatch_draining(const dispatch *d);
bool dispatch_idle(const dispatch *d);          /* no task holds a slot, and everything is on disk */
bool dispatch_ready(const dispatch *d);         /* an engine is up, or starts as soon as something needs it */
const char *dispatch_engine_state(const dispatch *d); /* "ready", "starting", "stopped" (idle) or "stuck": killed, and does not end */
const char *dispatch_device(const dispatch *d); /* its device in words; "" while none is up */
uint64_t dispatch_engine_deaths(const dispatch *d); /* engines that ended unasked; each was replaced, or is about to be */
pid_t dispatch_engine_pid(
    const dispatch *d);   /* 0 while there is none, and where it is stuck: who asks about it in /proc might be stuck as well */
bool dispatch_engine_still(const dispatch *d); /* as engine_client_still */
const engine_view *dispatch_engine(const dispatch *d);
const engine_options *dispatch_engine_options(const dispatch *d);
/* As engine_view_command; starts an engine that is stopped. ERROR_BUSY while draining, and while an engine is stuck; commands that wait as
 * it becomes so are answered with that. */
bool dispatch_command(dispatch *d, engine_message_kind kind, const engine_model_name *model, engine_command_done done, void *context,
                      uint64_t *handle, error *e);
void dispatch_forget_command(dispatch *d, uint64_t handle); /* as engine_view_forget */
const char *dispatch_trouble(const dispatch *d); /* what the last engine died of, while none is up; else "" */

#endif
