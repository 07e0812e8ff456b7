/* Requests that wait until the task they asked for is on disk: only then are they answered. */
#ifndef IMAGINED_SERVER_REQUESTS_SUBMISSIONS_H
#define IMAGINED_SERVER_REQUESTS_SUBMISSIONS_H

#include "queue/task.h"
#include "server/http/http.h"

typedef struct submissions submissions;
struct services;

/* Answers the exchange: the task was taken (why NULL), or not (t NULL). */
typedef void (*submission_answer)(struct services *s, http_exchange *x, task *t, const error *why);

bool submissions_new(struct services *s, submissions **out, error *e);
/* The exchanges were left before, and nothing is written any more. NULL is fine. */
void submissions_free(submissions *m);
/* Submits the task and answers when that is decided: now, if it is refused at once. `owns`: when the client leaves before, the task is
 * cancelled. */
void submissions_add(submissions *m, http_exchange *x, const task_request *request, task_priority priority, bool owns,
                     submission_answer answer);
/* Answers with another's task when that is decided. False when no such task is on its way. */
bool submissions_join(submissions *m, http_exchange *x, const char *task_id, submission_answer answer);
/* What a task that was not taken is answered with: 429 where the queue is full, to come again after *seconds; 503 where the server is about
 * to stop; 0: by the error's code. To be asked once for each answer, as clients are told different times. */
int submission_refusal(struct services *s, const error *why, int *seconds);

#endif
