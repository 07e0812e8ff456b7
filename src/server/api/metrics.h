/* GET /metrics: the server's figures for Prometheus. Counters begin at 0 with the server and go on over all its engines. */
#ifndef IMAGINED_SERVER_API_METRICS_H
#define IMAGINED_SERVER_API_METRICS_H

#include "server/http/http.h"

struct services;

void metrics_get(struct services *s, http_exchange *x, const char *id);

#endif
