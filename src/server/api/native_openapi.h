/* GET /openapi.json: the native API as an OpenAPI 3.1 document, api/openapi.json of the source with the version filled in.
 * tests/http/test_openapi.py holds it to what the server does. */
#ifndef IMAGINED_SERVER_API_NATIVE_OPENAPI_H
#define IMAGINED_SERVER_API_NATIVE_OPENAPI_H

#include "server/http/http.h"

struct services;

void native_get_openapi(struct services *s, http_exchange *x, const char *id);

#endif
