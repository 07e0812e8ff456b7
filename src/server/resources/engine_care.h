/* When an engine runs, and which models it holds before a task asks for them: an engine that nothing needs is stopped after a while and
 * started when something does; models named by the operator are preloaded into each new engine; and while one task computes, the model of
 * the next.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_RESOURCES_ENGINE_CARE_H
#define IMAGINED_SERVER_RESOURCES_ENGINE_CARE_H

#include "engine/engine_client.h"
#include "server/resources/catalog.h"
#include "server/resources/engine_view.h"

typedef struct engine_care engine_care;

/* `preload`: names of models, separated by commas, borrowed. idle_seconds 0: the engine is never stopped. */
bool engine_care_new(const char *preload, int idle_seconds, catalog *c, engine_view *v, engine_care **out, error *e);
void engine_care_free(engine_care *k); /* NULL is fine */
/* A new engine is ready: gives it the operator's models, unless several in a row did not survive that. */
void engine_care_engine_ready(engine_care *k);
/* Asks for the model of the task that is next, once, if it is in no cache, fits without anything else leaving, and
 * no engine ended over it since it was last in one. */
void engine_care_next_model(engine_care *k, const char *model, const char *precision);
/* Starts or stops the engine. `needed`: something is there for it to do. Milliseconds until it wants to be called again; −1: never. */
int engine_care_settle(engine_care *k, engine_client *c, bool needed);

/* What a command needs to know of a model. precision "auto", …; "": all of them (to unload). */
bool engine_care_model_name(const model_info *m, const char *precision, engine_model_name *out, error *e);

#endif
