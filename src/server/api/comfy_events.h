/* What ComfyUI tells its clients over /ws: whose prompts run, how far they are, and when they are done, in its order; history stands before
 * the last word.
 *
 *     on connecting    status (with sid), and executing where a prompt of this client runs
 *     on a prompt      status · execution_start · execution_cached · executing (each node) · progress · executed (each output) ·
 *                      execution_success · status · executing (null)
 *     instead          execution_error, execution_interrupted
 *
 * A client that sends a prompt hears of it, and of anything else, a tenth of a second later: many listen for a prompt only once they know
 * its id.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_API_COMFY_EVENTS_H
#define IMAGINED_SERVER_API_COMFY_EVENTS_H

#include "server/api/comfy_prompts.h"
#include "server/http/http_socket.h"
#include "server/tasks/dispatch.h"

enum { COMFY_UPLOAD_BYTES = 32 << 20 };

typedef struct comfy_events comfy_events;
struct services;

bool comfy_events_new(struct services *s, loop *l, comfy_prompts *prompts, comfy_events **out, error *e);
void comfy_events_free(comfy_events *v); /* sockets were closed before. NULL is fine */

/* Makes the exchange a client's socket, or answers it. */
void comfy_events_accept(comfy_events *v, http_exchange *x);
/* Something happened to a task, be it a prompt's or not. */
void comfy_events_changed(comfy_events *v, const task *t, task_change what);
/* Tells the course of a prompt that runs nothing. */
void comfy_events_repeat(comfy_events *v, comfy_prompt *one);
/* Prompts that wait or run, of those that the caller (NULL: everybody's) may see. */
size_t comfy_events_remaining(const comfy_events *v, const char *caller);

/* {"images": [{"filename", "subfolder", "type"}, …]} of one output. */
yyjson_mut_val *comfy_output_document(yyjson_mut_doc *doc, const comfy_output *o, int count);
/* What is told of one that failed or was stopped: where, what of it had run before, and why. */
yyjson_mut_val *comfy_failure_document(yyjson_mut_doc *doc, const comfy_prompt *one, const task *t);
/* What this server can do beyond the first ComfyUI, as /features tells it. */
yyjson_mut_val *comfy_features_document(yyjson_mut_doc *doc);

#endif
