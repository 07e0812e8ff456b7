#include "engine/task_plan.h"

#include <stdio.h>

static size_t less(size_t a, size_t b) { return a > b ? a - b : 0; }
static size_t plus(size_t a, size_t b) { return a < SIZE_MAX - b ? a + b : SIZE_MAX; }

static memory_needs needs_of(const flux_picture_needs *n, size_t beside, size_t idle, size_t available) {
    memory_needs m = {
        .clip_weights = n->clip_weights,
        .t5_weights = n->t5_weights,
        .vae_weights = n->vae_weights,
        .image_encoder_weights = n->image_encoder_weights,
        .transformer_weights = n->transformer_weights,
        .transformer_minimum = n->transformer_minimum,
        .idle_models = idle,
        .encode_compute = n->compute.encode,
        .step_compute = n->compute.step,
        .step_compute_sliced = n->compute.step_sliced,
        .decode_compute = n->compute.decode,
        .picture_compute = n->compute.picture,
        .latents = beside,
        .available_total = available,
    };
    for (int i = 0; i < n->compute.tile_count && i < MEMORY_PLAN_TILES; i++)
        m.tiles[m.tile_count++] = (memory_tile){n->compute.tiles[i].tile, n->compute.tiles[i].bytes};
    for (int i = 0; i < n->compute.picture_tile_count && i < MEMORY_PLAN_TILES; i++)
        m.picture_tiles[m.picture_tile_count++] = (memory_tile){n->compute.picture_tiles[i].tile, n->compute.picture_tiles[i].bytes};
    return m;
}

bool task_plan_make(engine_room *room, model_lease *lease, const flux_picture_shape *shape, size_t beside, int first_level, task_plan *out,
                    error *e) {
    flux_pipeline *p = model_lease_pipeline(lease);
    flux_picture_needs n;
    *out = (task_plan){0};
    if (!flux_pipeline_measure(p, shape, &n, e)) return false;
    size_t idle = model_manager_idle_bytes(room->models);
    out->held = n.held;
    out->available = plus(device_available(room->device), plus(n.held, idle));
    /* Embeddings and latents lie in main memory, which is the device's on the CPU alone. */
    memory_needs m = needs_of(&n, device_is_cpu(room->device) ? beside : 0, idle, out->available);
    if (!memory_plan_make(&m, first_level, &out->plan, e)) return false;
    if (out->plan.attention_sliced)
        out->attention_slice = flux_pipeline_slice_for(p, shape, plus(m.step_compute_sliced, less(out->available, out->plan.peak)));
    return true;
}

/* A transformer that is there with almost as many blocks as it could have is not loaded again for the last of them, and one that others use
 * is not given more. */
static bool resident_enough(const model_lease *lease, size_t now, size_t wanted) {
    return now <= wanted && (model_lease_holders(lease) > 1 || now >= wanted - wanted / 8);
}

void task_plan_apply(engine_room *room, model_lease *lease, const task_plan *p) {
    flux_pipeline *pipeline = model_lease_pipeline(lease);
    size_t now = flux_pipeline_parts(pipeline)->options.resident_bytes;
    if (!resident_enough(lease, now, p->plan.resident_bytes)) flux_pipeline_set_resident_bytes(pipeline, p->plan.resident_bytes);
    task_plan_evict(room, p);
}

void task_plan_evict(engine_room *room, const task_plan *p) {
    if (p->plan.evict_idle) model_manager_make_room_for(room->models, less(p->plan.peak, p->held), EVICTED_VRAM);
}

void task_plan_tell(const task_plan *p, const char *earlier, engine_plan *out) {
    *out = (engine_plan){.level = p->plan.level, .peak_bytes = p->plan.peak, .available_bytes = p->available};
    if (earlier[0] != '\0' && !p->plan.evict_idle) snprintf(out->steps[out->step_count++], sizeof out->steps[0], "%s", earlier);
    for (int i = 0; i < p->plan.step_count && out->step_count < ENGINE_PLAN_STEPS; i++)
        snprintf(out->steps[out->step_count++], sizeof out->steps[0], "%s", p->plan.steps[i]);
}
