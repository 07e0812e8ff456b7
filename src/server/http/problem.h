/* Errors as HTTP says them: one table from error codes to statuses, and problem documents (RFC 9457) for the native API. */
#ifndef IMAGINED_SERVER_HTTP_PROBLEM_H
#define IMAGINED_SERVER_HTTP_PROBLEM_H

#include <yyjson.h>

#include "base/error.h"
#include "server/http/http.h"

int problem_status(error_code code);
/* A copy of `text` that is valid UTF-8: what a client or a file name brought in and is not is shown as '?'. Returns out. */
const char *problem_text(const char *text, char *out, size_t capacity);
/* {"type", "title", "status", "detail", "code"} and, where the error names one, "field"; NULL without memory. */
yyjson_mut_val *problem_document(yyjson_mut_doc *doc, int status, const error *why);
/* Answers with a problem document. status 0: by the code. A 429 says to come again in a few seconds. */
void problem_answer(http_exchange *x, int status, const error *why);
/* 429, to come again in so many seconds. */
void problem_answer_busy(http_exchange *x, const error *why, int seconds);
/* The header of a 429. */
void problem_retry_after(http_exchange *x, int seconds);

#endif
