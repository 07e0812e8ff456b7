/* What tasks took, as engines measured it: by model, precision, shape and batch; told to each new engine, shown, and kept on disk by
 * whoever listens.
 *
 * Bounded: the profile that was measured longest ago leaves first. One thread. */
#ifndef IMAGINED_SERVER_RESOURCES_ENGINE_PROFILES_H
#define IMAGINED_SERVER_RESOURCES_ENGINE_PROFILES_H

#include "engine/engine_client.h"
#include "queue/task_database.h"

enum { ENGINE_PROFILES_MAX = 512 };

typedef struct engine_profiles engine_profiles;

bool engine_profiles_new(engine_profiles **out, error *e);
void engine_profiles_free(engine_profiles *p); /* NULL is fine */
/* Takes in a measurement in place of the one of the same key; of figures that it does not know (0) those known before stay. Copied. */
void engine_profiles_add(engine_profiles *p, const engine_profile *measured);
/* Calls `keep` with each measurement that is added from now on. NULL: nobody wants them. */
void engine_profiles_listen(engine_profiles *p, void (*keep)(void *context, const stored_profile *measured), void *context);
/* Takes in what was kept. False when it is none that this program wrote. Fills *out (may be NULL) with what it took in. */
bool engine_profiles_restore(engine_profiles *p, const stored_profile *kept, engine_profile *out);
/* Tells an engine that has become ready of them: as many as its socket takes each time. True when some are left to tell. */
void engine_profiles_begin_telling(engine_profiles *p);
bool engine_profiles_tell(engine_profiles *p, engine_client *c);
size_t engine_profiles_count(const engine_profiles *p);
const engine_profile *engine_profiles_at(const engine_profiles *p, size_t index); /* the oldest first */

#endif
