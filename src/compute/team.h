/* The threads that compute on the CPU: one leader, the thread that calls, and workers that sleep in between.
 *
 * On a machine that has other work too a worker may come late or never: the leader does not wait for those that have not begun, and what is
 * shared out in small pieces is done by whoever is there. Between jobs a worker looks out for a few microseconds before it sleeps, as the
 * operations of a graph follow each other closely. */
#ifndef IMAGINED_COMPUTE_TEAM_H
#define IMAGINED_COMPUTE_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct team team;

/* A job: called at most once by each thread of the team, from 0 (the leader, always) to team_size − 1, and possibly at the same time. */
typedef void (*team_job)(void *context, int thread);

/* `threads` with the leader; at least 1. ERROR_DEVICE when they cannot be started. */
bool team_new(int threads, team **out, error *e);
void team_free(team *t); /* NULL is fine */
int team_size(const team *t);

/* Runs the job and returns when all calls of it have returned. `pieces` is what there is to share out: one piece the leader does alone. One
 * leader at a time. */
void team_run(team *t, team_job job, void *context, int64_t pieces);

#endif
