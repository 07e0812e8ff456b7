/* GET /api/tasks/{id}/preview: what a running task's picture looks like by now. */
#ifndef IMAGINED_SERVER_API_NATIVE_PREVIEW_H
#define IMAGINED_SERVER_API_NATIVE_PREVIEW_H

#include "queue/task.h"
#include "server/http/router.h"

/* Answers with the newest preview of a task that the client may see; 204 while there is none. */
void native_answer_preview(struct services *s, http_exchange *x, const task *t);

#endif
