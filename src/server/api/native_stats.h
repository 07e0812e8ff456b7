/* GET /api/system/stats: memory, models, queue and choices in one document. */
#ifndef IMAGINED_SERVER_API_NATIVE_STATS_H
#define IMAGINED_SERVER_API_NATIVE_STATS_H

#include "server/http/http.h"

struct services;

void native_get_stats(struct services *s, http_exchange *x, const char *id);

#endif
