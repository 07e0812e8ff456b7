/* The job at hand: how far it is, and its end by request.
 *
 * Jobs are the tasks that came by this API and that the caller may see. The one at hand is the one that started first, else the one that
 * waits longest. */
#ifndef IMAGINED_SERVER_API_A1111_PROGRESS_H
#define IMAGINED_SERVER_API_A1111_PROGRESS_H

#include "server/http/http.h"

struct services;

/* GET progress: while there is no job, exactly progress 0 and job_count 0. ?skip_current_image=true leaves the preview out. */
void a1111_get_progress(struct services *s, http_exchange *x, const char *id);
/* POST interrupt and skip: cancel all jobs that have started; where none has, the one at hand. */
void a1111_interrupt(struct services *s, http_exchange *x, const char *id);
void a1111_skip(struct services *s, http_exchange *x, const char *id);

#endif
