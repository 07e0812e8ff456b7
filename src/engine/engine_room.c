#include "engine/engine_room.h"

#include <malloc.h>
#include <stdio.h>

#include "base/clock.h"
#include "engine/process_memory.h"

/* Embeddings lie in main memory: on the CPU, which computes in it, they are the device's. */
static size_t cache_on_device(const engine_room *room) {
    return device_is_cpu(room->device) ? (size_t)prompt_cache_get_figures(room->prompts).bytes : 0;
}

/* ── how the VRAM manager gives memory back ── */

static void read_figures(void *context, vram_figures *f) {
    engine_room *room = context;
    *f = vram_figures_of(room->device, cache_on_device(room));
    f->latents = device_is_cpu(room->device) ? room->latents : 0;
}

static size_t free_compute(void *context) { return model_manager_release_idle_compute(((engine_room *)context)->models); }

static size_t free_cache(void *context) {
    engine_room *room = context;
    size_t bytes = cache_on_device(room);
    prompt_cache_clear(room->prompts);
    return bytes;
}

static bool evict_idle(void *context, size_t *bytes) {
    engine_room *room = context;
    size_t before = ledger_total(device_ledger(room->device));
    if (!model_manager_evict_one(room->models, EVICTED_VRAM)) return false;
    size_t after = ledger_total(device_ledger(room->device));
    *bytes = before > after ? before - after : 0;
    return true;
}

/* ── life ── */

bool engine_room_open(engine_room *room, const engine_room_options *o, error *e) {
    const vram_callbacks memory = {room, read_figures, free_compute, free_cache, evict_idle};
    *room = (engine_room){0};
    if (!device_open(o->device, o->threads, &room->device, e)) return false;
    device_set_limit(room->device, o->vram_limit);
    model_manager_options models = o->models;
    if (!optimization_new(room->device, &room->optimization, e)) return false;
    models.optimization = room->optimization;
    return model_manager_new(room->device, &models, &room->models, e) && prompt_cache_new(o->prompt_cache_bytes, &room->prompts, e) &&
           vram_manager_new(&memory, &room->vram, e);
}

void engine_room_close(engine_room *room) {
    vram_manager_free(room->vram);
    prompt_cache_free(room->prompts);
    model_manager_free(room->models);
    optimization_free(room->optimization);
    device_free(room->device);
    *room = (engine_room){0};
}

/* ── what is told ── */

void engine_room_rows(const engine_room *room, engine_snapshot *out) {
    prompt_cache_figures prompts = prompt_cache_get_figures(room->prompts);
    out->prompt_hits = prompts.hits;
    out->prompt_misses = prompts.misses;
    out->prompt_entries = prompts.entries;
    out->prompt_bytes = prompts.bytes;
    out->prompt_max_bytes = prompts.max_bytes;
    model_manager_get_cache_stats(room->models, out);
    optimization_tell(room->optimization, out);
}

void engine_room_figures(engine_room *room, engine_snapshot *out) {
    vram_stats v = vram_manager_get_vram_stats(room->vram);
    out->taken_ms = clock_unix_ms();
    out->total_bytes = v.figures.total;
    out->free_bytes = v.figures.free;
    out->limit_bytes = v.figures.limit;
    out->weight_bytes = v.figures.weights;
    out->compute_bytes = v.figures.compute;
    out->staging_bytes = v.figures.staging;
    out->cache_bytes = v.figures.cache;
    out->latent_bytes = room->latents;
    out->peak_bytes = v.figures.peak;
    out->pinned_bytes = device_ledger(room->device)->claimed[DEVICE_PINNED];
    out->process_bytes = process_memory_resident();
    snprintf(out->state, sizeof out->state, "%s", vram_state_name(v.state));
}

uint64_t engine_room_device_peak(const engine_room *room) { return device_ledger(room->device)->peak; }
void engine_room_reset_device_peak(engine_room *room) { device_reset_peak(room->device); }

uint64_t engine_room_beside_weights(const engine_room *room, uint64_t bytes) {
    const ledger *l = device_ledger(room->device);
    uint64_t weights = l->claimed[DEVICE_WEIGHTS] + l->claimed[DEVICE_STAGING];
    return bytes > weights ? bytes - weights : 0;
}

/* ── what is given back ── */

typedef struct held_bytes {
    uint64_t ram, vram;
} held_bytes;

/* Private bytes and mapped pages alike count as resident until they go. The CPU's device memory is main memory, and counted there. */
static held_bytes held_now(const engine_room *room) {
    return (held_bytes){process_memory_resident(), device_is_cpu(room->device) ? 0 : ledger_total(device_ledger(room->device))};
}

static void tell_freed(const engine_room *room, held_bytes before, engine_answer *out) {
    malloc_trim(0);
    held_bytes after = held_now(room);
    out->ram_bytes = before.ram > after.ram ? before.ram - after.ram : 0;
    out->vram_bytes = before.vram > after.vram ? before.vram - after.vram : 0;
}

void engine_room_unload(engine_room *room, const engine_model_name *model, engine_answer *out) {
    held_bytes before = held_now(room);
    model_key key = {.name = model->model, .folder = model->folder};
    bool every = model->precision[0] == '\0';
    out->ok = (every || precision_parse(model->precision, &key.precision) ||
               error_field(&out->fault, ERROR_INVALID, "precision", "'%s' is no precision: auto, f32, bf16 or f16", model->precision)) &&
              model_manager_unload(room->models, &key, every, &out->fault);
    tell_freed(room, before, out);
    if (out->ok) snprintf(out->unloaded[out->unloaded_count++], sizeof out->unloaded[0], "%s", model->model);
}

void engine_room_cleanup(engine_room *room, engine_answer *out) {
    held_bytes before = held_now(room);
    prompt_cache_clear(room->prompts);
    model_manager_clear_cache(room->models, out);
    tell_freed(room, before, out);
    out->ok = true;
}
