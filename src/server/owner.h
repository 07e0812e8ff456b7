/* Whose task a request makes: what the queue shares fairly between. */
#ifndef IMAGINED_SERVER_OWNER_H
#define IMAGINED_SERVER_OWNER_H

#include "server/http.h"

enum { OWNER_BYTES = 32 };

/* A short name for the request's Authorization, the same for the same key, from which the key cannot be read: it is kept with the task. NULL when there is
 * none. It keeps keys apart, but proves nothing: two may share a name by ill will. */
const char *owner_of(const http_exchange *x, char text[OWNER_BYTES]);

#endif
