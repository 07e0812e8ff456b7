/* What clients ask for before they send anything: lists, most of them short here, and memory. */
#ifndef IMAGINED_SERVER_API_A1111_LISTS_H
#define IMAGINED_SERVER_API_A1111_LISTS_H

#include "server/http/http.h"

struct services;

/* GET samplers, schedulers, sd-vae, loras, … : what never changes, by the request's path. */
void a1111_get_list(struct services *s, http_exchange *x, const char *id);
/* POST refresh-vae, refresh-loras, … : there is nothing to refresh. */
void a1111_refresh_nothing(struct services *s, http_exchange *x, const char *id);
/* GET memory: main memory and the device that computes; {"error"} in place of the latter where that is the CPU. */
void a1111_get_memory(struct services *s, http_exchange *x, const char *id);

#endif
