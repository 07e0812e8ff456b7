/* What the front knows of its engine between messages: its device, its last snapshot, and the commands that wait or are on their way.
 *
 * When an engine ends, what it told of its models and memory is zero; counters go on over all engines. One thread: the loop's. */
#ifndef IMAGINED_SERVER_RESOURCES_ENGINE_VIEW_H
#define IMAGINED_SERVER_RESOURCES_ENGINE_VIEW_H

#include "engine/engine_client.h"
#include "models/model_folder.h"

typedef struct engine_view engine_view;

/* Gets the answer to a command, once; !ok: .fault tells why. Borrowed for the call, in which commands may be given and forgotten. */
typedef void (*engine_command_done)(void *context, const engine_answer *a);

bool engine_view_new(engine_view **out, error *e);
void engine_view_free(engine_view *v); /* commands are dropped, unanswered. NULL is fine */

/* --- what dispatch hears --- */

void engine_view_ready(engine_view *v, const engine_message *hello);
void engine_view_snapshot_came(engine_view *v, const engine_snapshot *s);
void engine_view_answer_came(engine_view *v, const char *command, const engine_answer *a);
/* The engine died, or was told to stop. Commands that it had, and all where it never was ready, are answered with `reason`. */
void engine_view_gone(engine_view *v, const char *reason);
/* No engine can be started for now: all commands are answered with ERROR_BUSY and `reason`. */
void engine_view_refuse(engine_view *v, const char *reason);

/* --- what it knows --- */

bool engine_view_is_ready(const engine_view *v);
/* The last one of this engine; one of zeros while there is none, but for the choices of the optimization manager, which are the device's.
 * Its counters (loads, evictions, prompt_hits, prompt_misses, steps, batched_steps, batched_images) are of all engines together. */
const engine_snapshot *engine_view_snapshot(const engine_view *v);
/* The rows of a model; after NULL the first, else the next. NULL at the end. */
const engine_model_row *engine_view_model(const engine_view *v, const char *name, const engine_model_row *after);
/* Of the newest engine that was ready; "", "" and 0 before. */
const char *engine_view_device_kind(const engine_view *v);
const char *engine_view_device_name(const engine_view *v);
int engine_view_threads(const engine_view *v);

/* --- commands --- */

/* Takes a command, to be sent when an engine can take it: MESSAGE_LOAD, _PRELOAD, _UNLOAD (with the model, copied) or _CLEANUP. `done`
 * NULL: nobody waits for it. *handle (may be NULL) is never 0. ERROR_BUSY when too many wait. */
bool engine_view_command(engine_view *v, engine_message_kind kind, const engine_model_name *model, engine_command_done done, void *context,
                         uint64_t *handle, error *e);
/* `done` is not called any more; the command itself goes on. */
void engine_view_forget(engine_view *v, uint64_t handle);
/* Sends what waits. True when something could not be sent yet. */
bool engine_view_send(engine_view *v, engine_client *c);
/* Whether a command waits to be sent or to be answered. */
bool engine_view_busy(const engine_view *v);

#endif
