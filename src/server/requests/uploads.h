/* Pictures on their way into the input store: a worker hashes, checks and writes them, so that neither decoding nor fsync holds the event
 * loop.
 *
 * One thread of its own, one picture after another, in order. All functions are called from the loop's thread. */
#ifndef IMAGINED_SERVER_REQUESTS_UPLOADS_H
#define IMAGINED_SERVER_REQUESTS_UPLOADS_H

#include "base/buffer.h"
#include "server/http/http.h"
#include "server/http/loop.h"
#include "server/pictures/input_store.h"

enum { UPLOADS_MAX_BYTES = 128 << 20 }; /* that wait for the worker; beyond: ERROR_BUSY */

struct services;
typedef struct uploads uploads;
/* What the worker does to the bytes before they are stored: base 64 to bytes, a mask turned around. Replaces *bytes, or refuses them. No
 * state. */
typedef bool (*upload_prepare)(buffer *bytes, error *e);
/* The input is stored (why NULL), or not taken (i NULL); both are borrowed for the call. Called once for each. Answers the exchange; x is
 * NULL where the client has left. */
typedef void (*upload_answer)(struct services *s, http_exchange *x, const input *i, const error *why, void *context);

/* Also keeps the store within the limits from then on, but for what tasks hold (input_holds.h). */
bool uploads_new(loop *l, struct services *s, const input_limits *limits, uploads **out, error *e);
/* Waits for the picture at hand and drops those behind it, which are told so; exchanges were left before. NULL is fine. */
void uploads_free(uploads *u);
/* Stores `size` bytes from `offset` of the body on, and then answers. Takes the body, whatever happens. False: nothing will be answered. */
bool uploads_add(uploads *u, http_exchange *x, buffer *body, size_t offset, size_t size, upload_answer answer, void *context, error *e);
/* The same with all of the body, which `prepare` (NULL: nothing) makes into a picture first. */
bool uploads_add_prepared(uploads *u, http_exchange *x, buffer *body, upload_prepare prepare, upload_answer answer, void *context,
                          error *e);
/* Only has `look` done to the body by the worker, and answers with what it made of it (why NULL); nothing is stored. As above: called once,
 * x NULL where the client has left. */
typedef void (*upload_looked)(struct services *s, http_exchange *x, const buffer *found, const error *why);
bool uploads_look(uploads *u, http_exchange *x, buffer *body, upload_prepare look, upload_looked answer, error *e);
/* As uploads_add, of a picture that lies in this file, which is copied: the worker reads it. */
bool uploads_add_file(uploads *u, http_exchange *x, const char *path, upload_answer answer, void *context, error *e);
bool uploads_idle(const uploads *u); /* nothing is on its way */

#endif
