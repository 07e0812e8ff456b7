/* Requests that wait for the engine's answer to a command (server/tasks/dispatch.h).
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_REQUESTS_COMMAND_WAITS_H
#define IMAGINED_SERVER_REQUESTS_COMMAND_WAITS_H

#include "server/http/http.h"
#include "server/tasks/dispatch.h"

struct services;

/* An engine that is stopped holds nothing: none need be started to unload what it holds. One that is stuck holds nothing that a command
 * could free. */
bool command_holds_nothing(const struct services *s);

/* Answers the exchange; `model` is the command's, "" without one. Both are borrowed for the call. */
typedef void (*command_answer)(struct services *s, http_exchange *x, engine_message_kind kind, const char *model, const engine_answer *a);

/* Gives the command; its answer answers the request. What was to free memory has freed nothing, and did not fail, where the engine turns
 * out to hold nothing meanwhile. A client that leaves is forgotten, the command goes on. False: nothing was given or
 * answered. */
bool command_give(struct services *s, http_exchange *x, engine_message_kind kind, const engine_model_name *model, command_answer answer,
                  error *e);

#endif
