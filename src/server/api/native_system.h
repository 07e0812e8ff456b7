/* The native API's handlers that are about the server, not about tasks; native.c has the table. */
#ifndef IMAGINED_SERVER_API_NATIVE_SYSTEM_H
#define IMAGINED_SERVER_API_NATIVE_SYSTEM_H

#include "server/http/http.h"

struct services;

void native_get_health(struct services *s, http_exchange *x, const char *id); /* 200 while the front serves */
void native_get_ready(struct services *s, http_exchange *x, const char *id);  /* 503 while no engine is up */

#endif
