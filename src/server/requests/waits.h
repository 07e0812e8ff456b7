/* Requests that wait for a task's end. */
#ifndef IMAGINED_SERVER_REQUESTS_WAITS_H
#define IMAGINED_SERVER_REQUESTS_WAITS_H

#include "queue/queue_manager.h"
#include "server/http/http.h"
#include "server/tasks/dispatch.h"

typedef struct waits waits;
struct services;

/* Answers the exchange; the task is final, or the time is over. */
typedef void (*wait_answer)(struct services *s, http_exchange *x, task *t);

bool waits_new(loop *l, struct services *s, waits **out, error *e);
void waits_free(waits *w); /* NULL is fine */
/* Waits at most `ms` (−1: as long as it takes) for the task; answers at once when it is final already. `owns`: the task is this request's
 * own and is cancelled when the client leaves. False: nothing was kept or answered. */
bool waits_add(waits *w, http_exchange *x, task *t, int64_t ms, bool owns, wait_answer answer, error *e);
void waits_task_finished(waits *w, task *t);
/* Ends the waits for tasks that will not start any more. */
void waits_give_up_queued(waits *w);

#endif
