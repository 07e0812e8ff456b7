/* The tasks an engine holds, and who takes part in the next slice: the task whose turn it is (slice_order.h) and, for a denoising step,
 * images of others that can share it, as many as the batcher says. One thread. */
#ifndef IMAGINED_ENGINE_HELD_TASKS_H
#define IMAGINED_ENGINE_HELD_TASKS_H

#include "engine/batcher.h"
#include "engine/generation.h"
#include "engine/slice_order.h"

enum { HELD_TASKS_MAX = 24 }; /* the most slots the front has, and the tasks it may have suspended */

typedef struct held_task {
    slice_claim claim;
    char id[ENGINE_ID_BYTES];
    generation *work;
    bool alone; /* shares no slice */
    double preview_told; /* clock_seconds; 0: never */
    uint64_t memory_before, memory_peak;
    uint64_t device_peak; /* of the device's memory that is ours */
} held_task;

typedef struct held_tasks {
    held_task tasks[HELD_TASKS_MAX]; /* in the order of their coming */
    int count;
    uint64_t slice; /* number of the latest */
    uint64_t steps, shared_steps, shared_images; /* device runs of a step; those of more than one image, and the images in these */
    batcher batcher;
} held_tasks;

/* Adds a task whose slices begin with the next; the generation is the table's. ERROR_BUSY when it is full. */
bool held_tasks_add(held_tasks *h, const char *id, generation *work, const engine_request *request, held_task **out, error *e);
held_task *held_tasks_find(held_tasks *h, const char *id); /* NULL: it is not here */
void held_tasks_drop(held_tasks *h, held_task *t);         /* moves the others up: pointers to them change */
size_t held_tasks_bytes(const held_tasks *h);              /* main memory that all of them keep, suspended ones too: generation_bytes */
bool held_tasks_runnable(const held_tasks *h);             /* not all are suspended */

/* Those who take part in a slice. */
typedef struct slice_party {
    held_task *members[ENGINE_MAX_SLICE_TASKS];
    generation_share shares[ENGINE_MAX_SLICE_TASKS]; /* for a denoising step: whose images, how many */
    int count;  /* 0: nobody has anything to do */
    int images; /* of all; 0 for other slices than a denoising step, which has one member */
    uint64_t slice;
} slice_party;

/* Begins the next slice: the members' turns are counted. */
slice_party held_tasks_next(held_tasks *h);
/* The party's denoising step took `seconds`. */
void held_tasks_stepped(held_tasks *h, const slice_party *p, double seconds);
/* It failed. True: a shared step, whose images will be tried again, fewer at once or each task apart,
 * or one image's, whose task goes on in less memory. False: its task has failed. */
bool held_tasks_try_otherwise(held_tasks *h, const slice_party *p, const error *fault);

#endif
