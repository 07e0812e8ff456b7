/* A request's JSON body, and numbers as A1111's clients write them. */
#ifndef IMAGINED_SERVER_API_A1111_BODY_H
#define IMAGINED_SERVER_API_A1111_BODY_H

#include "base/json.h"
#include "server/http/http.h"

/* A JSON object, or answers 422 and returns false. The document is yours. */
bool a1111_read_body(http_exchange *x, json_document *out);

/* As json_number, json_int and json_bool; besides they take what pydantic takes, which A1111 reads requests with: "20" for 20, 0 and 1 for
 * a bool. */
bool a1111_number(json object, const char *key, double low, double high, double *io, error *e);
bool a1111_int(json object, const char *key, int64_t low, int64_t high, int64_t *io, error *e);
bool a1111_bool(json object, const char *key, bool *io, error *e);

#endif
