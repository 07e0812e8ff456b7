/* Pictures on their way into the input store: a worker hashes, checks and writes them, so that neither decoding nor fsync holds the event loop.
 *
 * One thread of its own, one picture after another, in order. All functions are called from the loop's thread. */
#ifndef IMAGINED_SERVER_UPLOADS_H
#define IMAGINED_SERVER_UPLOADS_H

#include "base/buffer.h"
#include "server/http.h"
#include "server/input_store.h"
#include "server/loop.h"

enum { UPLOADS_MAX_BYTES = 128 << 20 }; /* that wait for the worker; beyond: ERROR_BUSY */

struct services;
typedef struct uploads uploads;
/* The input is stored (why NULL), or not taken (i NULL); both are borrowed for the call. Called once for each. Answers the exchange; x is NULL where the client has left. */
typedef void (*upload_answer)(struct services *s, http_exchange *x, const input *i, const error *why, void *context);

/* Also keeps the store within the limits from then on, but for what tasks hold (input_holds.h). */
bool uploads_new(loop *l, struct services *s, const input_limits *limits, uploads **out, error *e);
/* Waits for the picture at hand and drops those behind it, which are told so; exchanges were left before. NULL is fine. */
void uploads_free(uploads *u);
/* Stores `size` bytes from `offset` of the body on, and then answers. Takes the body, whatever happens. False: nothing will be answered. */
bool uploads_add(uploads *u, http_exchange *x, buffer *body, size_t offset, size_t size, upload_answer answer, void *context, error *e);
/* As uploads_add, of a picture that lies in this file, which is copied: the worker reads it. */
bool uploads_add_file(uploads *u, http_exchange *x, const char *path, upload_answer answer, void *context, error *e);

#endif
