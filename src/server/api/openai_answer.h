/* The answers to OpenAI's Images API that come whole, once the task is over, and the way to any answer. */
#ifndef IMAGINED_SERVER_API_OPENAI_ANSWER_H
#define IMAGINED_SERVER_API_OPENAI_ANSWER_H

#include "queue/task.h"
#include "server/http/http.h"

struct services;

/* Submits what openai_read_request made, and answers as it says: when the pictures are there, or event by event. The task is cancelled when
 * the client leaves before. */
void openai_submit(struct services *s, http_exchange *x, const task_request *request);

#endif
