/* A request's body and query as the native API takes them. */
#ifndef IMAGINED_SERVER_API_NATIVE_BODY_H
#define IMAGINED_SERVER_API_NATIVE_BODY_H

#include "base/json.h"
#include "server/http/http.h"

/* Parses the body, which must be an object; answers and returns false otherwise. The document is yours: json_document_free. */
bool native_read_body(http_exchange *x, json_document *doc);

/* The query's `name` as a number from 1 to `most`; where there is none *out stays as it is. */
bool native_read_number(const http_exchange *x, const char *name, int most, int *out, error *e);

#endif
