/* Errors in the shape of OpenAI's API: {"error": {"message", "type", "param", "code"}}. */
#ifndef IMAGINED_SERVER_API_OPENAI_ERROR_H
#define IMAGINED_SERVER_API_OPENAI_ERROR_H

#include <yyjson.h>

#include "queue/task.h"
#include "server/http/http.h"

struct services;

/* Answers; status 0: by the code. A 429 says to come again in a few seconds. */
void openai_answer_error(http_exchange *x, int status, const error *why);
/* A task that was not taken. */
void openai_answer_refusal(struct services *s, http_exchange *x, const error *why);
/* Why a task is over, or will never be, without its pictures. Returns the status, 0 by the code. */
int openai_failure(const task *t, error *why);
/* The whole object; NULL without memory. */
yyjson_mut_val *openai_error_document(yyjson_mut_doc *doc, int status, const error *why);

#endif
