/* The waiting tasks as the policy sees them: a lane, first in first out, for each priority, API key, model and kind of batch; of each lane
 * its head; and of each key what it holds and has received. Every operation takes a time that does not depend on how many tasks wait, save
 * for a task that comes back into the middle of a lane. */
#ifndef IMAGINED_QUEUE_LANES_H
#define IMAGINED_QUEUE_LANES_H

#include "queue/names.h"
#include "queue/policy.h"

typedef struct lane {
    task *first, *last;   /* by sequence */
    uint32_t tasks;       /* that name it in place.lane: also those that run */
    uint32_t waiting;
    uint32_t key, model;
    uint64_t batch;
    uint8_t priority;
    size_t head;          /* index of its head; SIZE_MAX: nobody waits */
    struct lane *next;    /* of the same key */
} lane;

enum { LANES_LOADED = 32, LANES_MODEL_BYTES = 128, LANES_LINGERING = 1024 };

/* A key as the lanes keep it, beside what the policy sees of it. */
typedef struct lane_key {
    lane *first;
    bool lingers;  /* held for the service it has received although no task of it is there */
    uint32_t next; /* that lingers */
} lane_key;

typedef struct lanes {
    names *keys, *models;
    policy_key *key_figures; /* by key */
    lane_key *key_lanes;     /* by key */
    bool *loaded;            /* by model */
    uint32_t key_room, model_room;
    uint32_t lingering_first, lingering_last, lingering; /* keys whose service is not forgotten yet, in the order they left */
    char loaded_names[LANES_LOADED][LANES_MODEL_BYTES];
    size_t loaded_count;
    policy_head *heads;
    task **tasks;            /* whose head each is */
    size_t head_count, head_room, lane_count, spare_heads;
    double virtual_time;
} lanes;

/* `spare_heads`: how many tasks may be suspended at once. */
bool lanes_new(size_t spare_heads, lanes *out, error *e);
void lanes_free(lanes *l); /* zeroed is fine */

/* Gives the task its lane; it does not wait there yet. Without memory nothing has changed. */
bool lanes_enter(lanes *l, task *t, error *e);
void lanes_leave(lanes *l, task *t); /* it does not wait (any more), and never will again */
void lanes_wait(lanes *l, task *t);  /* takes its place by its sequence; alone among the heads if it is suspended */
void lanes_stop_waiting(lanes *l, task *t);
bool lanes_set_priority(lanes *l, task *t, task_priority p, bool waits, error *e);
void lanes_set_passed(lanes *l, size_t head, int64_t now_ms);

/* It takes a slot: its key's service is charged, unless it only goes on after being suspended. */
void lanes_start(lanes *l, task *t, uint64_t turn, bool goes_on);
void lanes_stop(lanes *l, const task *t);                  /* it has none any more */
void lanes_refund(lanes *l, const task *t, double unused); /* of what its key was charged for it; 0 to 1 */

/* Tasks as the policy sees them in the engine's hands, and what a head says of its steps: the same wherever it is asked. */
policy_held lanes_held(const task *t);
uint64_t lanes_batch(const task *t);

/* The models that are in the engine's memory: at most LANES_LOADED names, copied. False when they are the same as before. */
bool lanes_set_loaded(lanes *l, const char *const *names, size_t count);

#endif
