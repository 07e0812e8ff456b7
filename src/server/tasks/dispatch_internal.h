/* The dispatcher's own matters, for its two files: dispatch.c decides and acts, dispatch_engine.c takes in what the engine says. */
#ifndef IMAGINED_SERVER_TASKS_DISPATCH_INTERNAL_H
#define IMAGINED_SERVER_TASKS_DISPATCH_INTERNAL_H

#include "server/pictures/encoder.h"
#include "server/resources/engine_care.h"
#include "server/tasks/dispatch.h"

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
    uint64_t deaths; /* of engines */
    bool draining, retry;
    char device[160];
    char trouble[ERROR_TEXT_BYTES]; /* what the last engine died of, until the next is ready */
    engine_request request; /* scratch: large */
};

/* What the engine's client is to call. */
engine_events dispatch_engine_events(dispatch *d);
/* Estimates begin with what was measured before the server started. */
void dispatch_teach_known_profiles(dispatch *d);

/* The slot that holds the task of this id; NULL when there is none. */
slot *dispatch_slot_of(dispatch *d, const char *id);
void dispatch_tell(dispatch *d, const task *t, task_change what);
/* The task of a slot ends so, and the slot is free. */
void dispatch_fail(dispatch *d, slot *s, const error *why);
/* Nothing happens unless the engine is through with the task and all its pictures are on disk. */
void dispatch_complete_if_stored(dispatch *d, slot *s);

#endif
