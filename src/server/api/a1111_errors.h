/* Errors as A1111's API says them. */
#ifndef IMAGINED_SERVER_API_A1111_ERRORS_H
#define IMAGINED_SERVER_API_A1111_ERRORS_H

#include "base/error.h"
#include "server/http/http.h"

/* What is wrong with the body: 422 and FastAPI's {"detail": [{"loc": ["body", field], "msg", "type"}]}; all else as A1111's own handler
 * does it:
 * {"error", "detail", "body", "errors"}. status 0: by the code. */
void a1111_answer_error(http_exchange *x, int status, const error *why);
/* 429, to come again in so many seconds. */
void a1111_answer_busy(http_exchange *x, const error *why, int seconds);

#endif
