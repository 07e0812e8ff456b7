/* Whose task a request makes, and whose it may see. */
#ifndef IMAGINED_SERVER_ACCESS_OWNER_H
#define IMAGINED_SERVER_ACCESS_OWNER_H

#include "queue/queue_manager.h"
#include "server/http/http.h"

enum { OWNER_BYTES = HTTP_CALLER_BYTES };

/* The name of the request's API key (server/access/auth.h). Where it came with no key that is known, a short name for its Authorization, so
 * that the queue is shared fairly between those who send different ones: the same for the same, from which it cannot be read, as it is kept
 * with the task; it proves nothing. NULL when there is none. */
const char *owner_of(const http_exchange *x, char text[OWNER_BYTES]);
/* A key sees the tasks that were made with it; who needs none sees all. `t` NULL: a task that is not there is no key's. */
bool owner_sees(const http_exchange *x, const task *t);
/* The same for a picture "<task id>-…". */
bool owner_sees_picture(const http_exchange *x, queue_manager *q, const char *id);

#endif
