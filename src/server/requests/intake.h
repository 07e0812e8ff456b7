/* The pictures that one request brings along (files of a form, base64 in JSON): stored as inputs one after the other, then the request goes
 * on.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_REQUESTS_INTAKE_H
#define IMAGINED_SERVER_REQUESTS_INTAKE_H

#include "base/buffer.h"
#include "server/http/http.h"
#include "server/pictures/input_store.h"
#include "server/requests/uploads.h"

enum { INTAKE_MAX = 18, INTAKE_PICTURE_BYTES = 32 << 20 };

struct services;
/* All are stored (why NULL), in the order in which they came, or one was not taken or had to go for another (pictures NULL; why->field is
 * "" unless it says more). Borrowed for the call. x is NULL where the client has left: nothing is to be answered, but `context` is the
 * callee's to free. */
typedef void (*intake_done)(struct services *s, http_exchange *x, const input *pictures, int count, const error *why, void *context);

/* Takes the buffers' memory, whatever happens: they are empty afterwards. count may be 0. `done` is called once, perhaps before this
 * returns; but not where it returns false. */
bool intake_add(struct services *s, http_exchange *x, buffer *pictures, int count, intake_done done, void *context, error *e);
/* The same where each has `prepare[i]` (NULL: nothing) done to it by the worker first. */
bool intake_add_prepared(struct services *s, http_exchange *x, buffer *pictures, const upload_prepare *prepare, int count, intake_done done,
                         void *context, error *e);
/* Base 64, with or without "data:…;base64," before it, to the bytes it stands for, of which at most INTAKE_PICTURE_BYTES are taken. */
bool intake_from_base64(buffer *bytes, error *e);

#endif
