/* What the tasks and commands of an engine work with, made once and shared by all: the device, the loaded models, the prompts encoded
 * lately, the device's memory and who gives it back. One thread. */
#ifndef IMAGINED_ENGINE_ENGINE_ROOM_H
#define IMAGINED_ENGINE_ENGINE_ROOM_H

#include "compute/device.h"
#include "engine/model_manager.h"
#include "engine/prompt_cache.h"
#include "engine/vram_manager.h"

typedef struct engine_room {
    device *device;
    optimization *optimization;
    model_manager *models;
    prompt_cache *prompts;
    vram_manager *vram;
    size_t latents; /* bytes of main memory that tasks keep, as their owner counted them last */
} engine_room;

typedef struct engine_room_options {
    const char *device; /* as device_open's */
    int threads;
    size_t vram_limit; /* bytes; 0: none */
    size_t prompt_cache_bytes;
    model_manager_options models; /* `optimization` is the room's own */
} engine_room_options;

/* Opens the device and makes the rest. The room keeps its place in memory: it must not be moved. engine_room_close, also on failure. */
bool engine_room_open(engine_room *room, const engine_room_options *o, error *e);
void engine_room_close(engine_room *room); /* takes a zeroed or half-opened one; no task may be left */

/* Fills in what is kept in memory, models and prompts, and what is chosen. Asks nobody, takes microseconds. */
void engine_room_rows(const engine_room *room, engine_snapshot *out);
/* Fills in the device's memory and the process's, as they are now. */
void engine_room_figures(engine_room *room, engine_snapshot *out);
/* Most of the device's memory that was ours at once, since the start or the last reset. */
uint64_t engine_room_device_peak(const engine_room *room);
void engine_room_reset_device_peak(engine_room *room);
/* Of so many bytes of ours, those that are no weights of models in memory now. */
uint64_t engine_room_beside_weights(const engine_room *room, uint64_t bytes);

/* Unloads a model, in every precision where none is named, and tells what came back or why not. */
void engine_room_unload(engine_room *room, const engine_model_name *model, engine_answer *out);
/* Frees compute buffers, embeddings and every model that is not in use, and tells what came back. */
void engine_room_cleanup(engine_room *room, engine_answer *out);

#endif
