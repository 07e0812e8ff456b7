/* Server-Sent Events about tasks: GET /api/tasks/{id}/events and GET /api/events.
 *
 * Events: queued (also: put back, re-prioritised), started, progress, plan, completed, failed, cancelled; the data of `progress` is a small
 * object, where the newest preview is among it, that of all others the task's document. Ids rise, over restarts too. A stream begins with
 * the present state (of one task: the event of its status; of all: `state`, with the documents of those that are not over), or, where a
 * Last-Event-ID is still within reach, with what came after it. Who reads slowly misses progress, but nothing else; who falls behind
 * farther than the kept events reach is ended, and begins anew when it comes back.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_TASKS_EVENTS_H
#define IMAGINED_SERVER_TASKS_EVENTS_H

#include "queue/queue_manager.h"
#include "server/http/http.h"
#include "server/http/loop.h"
#include "server/tasks/dispatch.h"

struct previews;
typedef struct events events;

/* `p` may be NULL: nothing is said of previews. */
bool events_new(loop *l, queue_manager *q, const struct previews *p, events **out, error *e);
/* The exchanges were left before. NULL is fine. */
void events_free(events *v);
/* Tells all streams that want to hear of it. Costs next to nothing while nobody listens. */
void events_changed(events *v, const task *t, task_change what);
/* Answers with a stream of one task's events, which ends after its last, or, with NULL, of all tasks'. 204 to a client that comes back
 * after it had the last one (browsers come back until they are told so). */
void events_answer(events *v, http_exchange *x, const task *t);
/* Ends all streams. */
void events_end(events *v);

#endif
