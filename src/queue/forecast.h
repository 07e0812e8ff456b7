/* When each task will be next, and done: the policy carried out in thought, on a clock of estimates, from where the queue stands.
 *
 * The engine is taken as one worker that the tasks with slots share evenly; nothing new comes, nothing fails. What it costs is bounded:
 * beyond FORECAST_MAX_WORK looks at heads the rest follows by rank and age. */
#ifndef IMAGINED_QUEUE_FORECAST_H
#define IMAGINED_QUEUE_FORECAST_H

#include "queue/lanes.h"
#include "queue/profile_table.h"

enum { FORECAST_MAX_WORK = 300000 };

typedef struct forecast_cost {
    bool asked, known;
    task_estimate estimate;
} forecast_cost;

typedef struct forecast {
    uint64_t number;  /* of the last one made; 0: none */
    int64_t made_ms;
    uint64_t work;    /* what it took, in looks at heads of some nanoseconds each */
    /* Scratch, kept from one to the next. */
    policy_head *heads;
    task **tasks;
    forecast_cost *costs; /* by head: a lane's tasks have the same shape */
    policy_key *keys;
    bool *loaded;
    size_t head_room, cost_room, key_room, model_room;
} forecast; /* zeroed: none was made */

void forecast_free(forecast *f);
/* Sets place.forecast, .position and .end_seconds of all tasks that wait or hold a slot. False without memory: nothing is set. */
bool forecast_make(forecast *f, const lanes *l, task *const *held, size_t held_count, const policy_settings *settings,
                   const profile_table *profiles, int64_t now_ms);

#endif
