/* The queue manager's own matters, for its two files: queue_manager.c has the tasks and their ways, queue_figures.c the queue as a whole:
 * its pauses, and what it tells of itself. */
#ifndef IMAGINED_QUEUE_QUEUE_MANAGER_INTERNAL_H
#define IMAGINED_QUEUE_QUEUE_MANAGER_INTERNAL_H

#include "queue/deadlines.h"
#include "queue/forecast.h"
#include "queue/lanes.h"
#include "queue/queue_manager.h"
#include "queue/task_index.h"

enum { QUEUE_MAX_HELD = 64 };

/* How fast places in the queue become free. */
typedef struct departures {
    double mean_ms; /* between two of them; 0: not known */
    int64_t last_ms;
    uint64_t refused; /* clients told to come again, less those who found room since */
} departures;

/* What positions and estimates are answered from. It changes while the queue does not. */
typedef struct outlook {
    forecast forecast;
    bool stale;
} outlook;

/* One list of all tasks, newest first; those not final are in `index` as well (as are all), in their lanes, and by their deadlines.
 *
 * Invariants: stats.queued, stats.active and `finished` count the tasks of the list in those states; completed, failed and cancelled count
 * forgotten tasks too. held are the tasks in the engine's hands: active or suspended. A task is among the lanes' heads or behind one iff
 * queue_manager_waits. */
struct queue_manager {
    queue_limits limits;
    policy_settings settings;
    queue_hooks hooks;
    task *newest;
    task_index index;
    lanes lanes;
    deadlines deadlines;
    profile_table *profiles;
    task *held[QUEUE_MAX_HELD];
    size_t held_count;
    task *finished_first, *finished_last; /* in the order of their ends */
    uint64_t numbers;                     /* given out to submissions and starts */
    size_t prepared;                      /* tasks that are neither accepted nor discarded */
    size_t finished;
    size_t waiting[PRIORITY_LOW + 1];
    int64_t now_ms; /* the latest time it was told */
    bool paused, holding;
    char pause_reason[POLICY_REASON_BYTES], hold_reason[POLICY_REASON_BYTES];
    departures departures;
    queue_stats stats;
    policy_decision decision;
    outlook *outlook;
};

/* What the order depends on is another than before. */
void queue_manager_disturb(queue_manager *q);
/* A place has become free. */
void queue_manager_count_departure(queue_manager *q, int64_t now_ms);
/* Whether the task is among those that may start, or go on. */
bool queue_manager_waits(const task *t);

#endif
