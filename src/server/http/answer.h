/* Answers that are one piece of memory. */
#ifndef IMAGINED_SERVER_HTTP_ANSWER_H
#define IMAGINED_SERVER_HTTP_ANSWER_H

#include <yyjson.h>

#include "server/http/http.h"

/* Takes the document (NULL, or one without a root: no memory was left, and 503 says so). type NULL: application/json. */
void answer_json(http_exchange *x, int status, const char *type, yyjson_mut_doc *doc);
void answer_text(http_exchange *x, int status, const char *type, const char *text);
void answer_empty(http_exchange *x, int status);

#endif
