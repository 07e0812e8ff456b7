/* A thread for what would hold the event loop: it does one job after another, in the order in which they came, and each comes back to the
 * loop.
 *
 *     typedef struct conversion { worker_job job; … } conversion;      the job stands first, so that either can be had from the other
 *     …
 *     worker_add(w, &mine->job);          from now on it is the worker's
 *     static void work(void *context, worker_job *job)      on the worker's thread
 *     static void done(void *context, worker_job *job)      on the loop's thread: it is yours again
 *
 * All functions are called from the loop's thread. */
#ifndef IMAGINED_SERVER_HTTP_WORKER_H
#define IMAGINED_SERVER_HTTP_WORKER_H

#include "base/error.h"
#include "server/http/loop.h"

typedef struct worker_job {
    struct worker_job *next; /* the worker's */
} worker_job;

typedef struct worker_duties {
    void *context;
    void (*work)(void *context, worker_job *job);
    void (*done)(void *context, worker_job *job);
    void (*dropped)(void *context, worker_job *job); /* by worker_free: its `done` was not called, whether or not it was worked on */
} worker_duties;

typedef struct worker worker;

/* `name`: whose thread could not be started, for the error. */
bool worker_new(loop *l, const char *name, const worker_duties *duties, worker **out, error *e);
/* Waits for the job at hand. NULL is fine. */
void worker_free(worker *w);
void worker_add(worker *w, worker_job *job);

#endif
