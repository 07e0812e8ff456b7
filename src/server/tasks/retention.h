/* Lets old tasks go, with their pictures: beyond a number of finished ones, and where wished beyond an age or a number of bytes of stored
 * pictures.
 *
 * Those that ended first go first; what is not over stays, whatever the limits say. The loop only decides: files are removed by the thread
 * that writes the database, before the row (queue/task_store.h). One thread, the loop's. */
#ifndef IMAGINED_SERVER_TASKS_RETENTION_H
#define IMAGINED_SERVER_TASKS_RETENTION_H

#include "queue/queue_manager.h"
#include "server/http/loop.h"
#include "server/tasks/task_keeper.h"

typedef struct retention retention;

typedef struct retention_limits {
    size_t tasks;   /* finished tasks kept */
    int64_t age_ms; /* a task with pictures is kept so long after its end; 0: for ever */
    uint64_t bytes; /* of stored pictures; 0: no limit */
} retention_limits;

/* Begins at once, in small portions. */
bool retention_new(loop *l, queue_manager *q, const task_keeper *k, const retention_limits *limits, retention **out, error *e);
void retention_free(retention *r); /* NULL is fine */

#endif
