/* A request's body as the native API takes it. */
#ifndef IMAGINED_SERVER_API_NATIVE_BODY_H
#define IMAGINED_SERVER_API_NATIVE_BODY_H

#include "base/json.h"
#include "server/http.h"

/* Parses the body, which must be an object; answers and returns false otherwise. The document is yours: json_document_free. */
bool native_read_body(http_exchange *x, json_document *doc);

#endif
