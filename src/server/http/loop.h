/* The front's event loop: timers, descriptors to watch, and (server/http) connections. One thread; nothing here may be called from another.
 *
 * libwebsockets underneath, seen only by loop.c and http*.c. */
#ifndef IMAGINED_SERVER_HTTP_LOOP_H
#define IMAGINED_SERVER_HTTP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct loop loop;
typedef struct loop_timer loop_timer;
typedef struct loop_watch loop_watch;
typedef void (*loop_callback)(void *context);

bool loop_new(loop **out, error *e);
void loop_free(loop *l); /* its timers and watches were freed before; connections are closed. NULL is fine */
/* Serves until loop_stop. */
void loop_run(loop *l);
void loop_stop(loop *l);

bool loop_timer_new(loop *l, loop_callback fire, void *context, loop_timer **out, error *e);
/* Fires once, `ms` from now, instead of what was planned; −1: never. */
void loop_timer_set(loop_timer *t, int64_t ms);
void loop_timer_free(loop_timer *t); /* NULL is fine */

/* Calls `readable` while the descriptor is readable, and a last time when its other end is gone. The descriptor stays the caller's: what is
 * watched is a duplicate, closed soon after loop_watch_free, which may be called from within `readable`. */
bool loop_watch_new(loop *l, int fd, loop_callback readable, void *context, loop_watch **out, error *e);
bool loop_watch_alive(const loop_watch *w); /* false after that last call */
void loop_watch_free(loop_watch *w);        /* NULL is fine */

#endif
