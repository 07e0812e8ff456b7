/* Loaded models: which are in memory, in what order they were last used, who is using them, and why they leave.
 *
 * A model is a pipeline; its key is folder + precision. Its parts come from a pool, so that models share what are the same files. Whoever
 * uses a model holds a lease, and a leased model is never evicted. Models that are not leased stay in memory, and leave, least recently
 * used first, only under pressure: more models than max_models (count), more weight bytes than max_cache_bytes (bytes), no memory on the
 * device (vram), or a request (manual). Each eviction is logged with its cause and counted. Models in use may exceed the limits, as tasks
 * that were admitted must run; the cache shrinks as soon as they are given back. One model alone is always loaded, whatever its size.
 *
 * A model whose files are not what they were when it was loaded is not given out any more: new leases get a new load.
 * An idle model keeps little beyond its weights: larger compute buffers go with its last lease. One thread (the engine's). */
#ifndef IMAGINED_ENGINE_MODEL_MANAGER_H
#define IMAGINED_ENGINE_MODEL_MANAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "compute/device.h"
#include "engine/optimization.h"
#include "engine/task_message.h"
#include "models/flux_pipeline.h"

typedef struct model_manager model_manager;
typedef struct model_lease model_lease; /* a model in the cache that somebody uses; several may hold the same */

#define MODEL_CACHE_BYTES ((uint64_t)20 << 30) /* the default of MAX_CACHE_SIZE_GB */

typedef struct model_manager_options {
    int max_models;           /* MAX_MODELS_IN_MEMORY */
    uint64_t max_cache_bytes; /* MAX_CACHE_SIZE_GB × 2^30: weights, shared parts once */
    bool copied;              /* MEMORY_EFFICIENT_LOADING=false: weights are read into memory and no file is held */
    void (*progress)(void *context,
                     size_t bytes); /* so many more bytes of weights are in place; called within model_lease_advance. May be NULL */
    void *context;
    /* Borrowed; may be NULL: asked before each load what an automatic precision is to mean, told after it what the model is. */
    optimization *optimization;
} model_manager_options;

bool model_manager_new(device *d, const model_manager_options *options, model_manager **out, error *e);
void model_manager_free(model_manager *m); /* no lease may be out; NULL is fine */
device *model_manager_device(const model_manager *m);

/* Which model. The name is only told, in rows and logs; folder and precision are the key. */
typedef struct model_key {
    const char *name, *folder;
    precision precision;
} model_key;

typedef enum load_purpose {
    LOAD_FOR_TASK,      /* evicts what it must; finds room even beside models in use */
    LOAD_AHEAD, /* may evict idle models; ERROR_BUSY when those in use leave no room within the limits. Reads the mapped files ahead */
    LOAD_AHEAD_IF_FREE, /* the same, but ERROR_BUSY rather than evict anything */
} load_purpose;

/* Leases the model, from the cache or with a load that has just begun. Every success is paired with one model_manager_release. */
bool model_manager_lease(model_manager *m, const model_key *key, load_purpose purpose, model_lease **out, error *e);
/* Loads one part more of a leased model, for all who hold it; false in *more when it is all there, and, where it is loaded ahead, its files
 * are on their way into the page cache. Out of memory, it evicts idle models and tries again. After a failure it may be called again, by
 * any holder, or the lease released. */
bool model_lease_advance(model_lease *l, bool *more, error *e);
bool model_lease_loaded(const model_lease *l);
int model_lease_holders(const model_lease *l); /* leases of this model */
/* The pipeline; while it is loading, to be used only as flux_pipeline_load_next allows. */
flux_pipeline *model_lease_pipeline(const model_lease *l);
/* Bytes of weights that were loaded, and of all. */
void model_lease_progress(const model_lease *l, uint64_t *done, uint64_t *total);
void model_lease_note_peak(model_lease *l, uint64_t bytes); /* a task of the model took so much, beyond the weights */
/* The model stays in the cache if it is loaded and has room there; a load that nobody waits for any more is given up. NULL is fine. */
void model_manager_release(model_manager *m, model_lease *l);

/* model_manager_lease and all of model_lease_advance. */
bool model_manager_load_model(model_manager *m, const model_key *key, model_lease **out, error *e);
/* The same ahead of its use: the model is in the cache then, not leased. ERROR_BUSY as above. */
bool model_manager_preload_model(model_manager *m, const model_key *key, load_purpose purpose, error *e);

/* Unloads a model in every precision, or in that of the key alone. ERROR_BUSY while one of them is in use, ERROR_NOT_FOUND when none is
 * cached. */
bool model_manager_unload(model_manager *m, const model_key *key, bool every_precision, error *e);
/* Drops every model that is not leased and the compute buffers of the others. The names of what went and what stayed are added to *answer
 * (may be NULL). Returns how many went. */
size_t model_manager_clear_cache(model_manager *m, engine_answer *answer);
/* Gives back the compute buffers of models that are not leased. Returns their bytes. */
size_t model_manager_release_idle_compute(model_manager *m);
/* Makes `bytes` of the device's memory available, by compute buffers of idle models first, then by idle models that hold some, least
 * recently used first. True when they are available. */
bool model_manager_make_room_for(model_manager *m, size_t bytes, eviction_cause cause);
/* Evicts the idle model that was used least recently, of those that hold enough of the device's memory to be worth it. False when there is
 * none. */
bool model_manager_evict_one(model_manager *m, eviction_cause cause);
/* Device bytes (on the CPU: private ones) that model_manager_make_room_for could give back. */
size_t model_manager_idle_bytes(const model_manager *m);

/* Models in memory, loading ones included. */
size_t model_manager_count(const model_manager *m);
/* Fills in the snapshot's cache of models: limits, bytes, loads, evictions by cause, a row a model, last used first. */
void model_manager_get_cache_stats(const model_manager *m, engine_snapshot *s);

#endif
