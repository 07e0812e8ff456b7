/* The pictures that one answer brings, each in the format and size that was asked for: converted one after the other
 * (server/pictures/transcoder.h), then the answer goes on. The counterpart of intake.h.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_REQUESTS_RENDITIONS_H
#define IMAGINED_SERVER_REQUESTS_RENDITIONS_H

#include "server/http/http.h"
#include "server/pictures/transcoder.h"

enum { RENDITIONS_MAX = 18 };

struct services;
/* All files, in the order of the jobs (why NULL); the callee may take their memory. Or one could not be made (files NULL). x is NULL where
 * the client has left: nothing is to be answered, but `context` is the callee's to free. */
typedef void (*renditions_done)(struct services *s, http_exchange *x, buffer *files, int count, const error *why, void *context);

/* Takes the jobs' pixels, whatever happens; count may be 0. `x` has not been answered yet. `done` is called once, perhaps before this
 * returns; but not where it returns false. */
bool renditions_add(struct services *s, http_exchange *x, const transcode *jobs, int count, renditions_done done, void *context, error *e);

#endif
