/* Loaded models: which are in memory, in what order they were last used, and who is using them.
 *
 * A model is a pipeline; its key is folder + precision. A leased model is never evicted. Today at most `max_models` stay, least recently used first
 * to go. One thread (the engine's). */
#ifndef IMAGINED_ENGINE_MODEL_MANAGER_H
#define IMAGINED_ENGINE_MODEL_MANAGER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "compute/device.h"
#include "models/flux_pipeline.h"

typedef struct model_manager model_manager;

typedef struct model_manager_options {
    int max_models; /* MAX_MODELS_IN_MEMORY */
    bool copied;    /* MEMORY_EFFICIENT_LOADING=false: weights are read into memory and no file is held */
} model_manager_options;

bool model_manager_new(device *d, const model_manager_options *options, model_manager **out, error *e);
void model_manager_free(model_manager *m); /* no lease may be out; NULL is fine */
device *model_manager_device(const model_manager *m);

/* Loads the model if it is not in memory and leases it: every success is paired with one model_manager_release. */
bool model_manager_load_model(model_manager *m, const char *folder, precision p, flux_pipeline **out, error *e);
void model_manager_release(model_manager *m, flux_pipeline *p);
/* Drops every model that is not leased. Returns how many went. */
size_t model_manager_clear_cache(model_manager *m);
size_t model_manager_count(const model_manager *m);

#endif
