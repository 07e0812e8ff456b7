/* Pausing the queue over HTTP; native.c has the table. */
#ifndef IMAGINED_SERVER_API_NATIVE_QUEUE_H
#define IMAGINED_SERVER_API_NATIVE_QUEUE_H

#include "server/http/http.h"

struct services;

void native_pause_queue(struct services *s, http_exchange *x, const char *id);
void native_resume_queue(struct services *s, http_exchange *x, const char *id);

#endif
