#include "engine/model_manager.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Models are few and large: a plain array, searched from end to end. */
enum { MODEL_SLOTS = 64 };

typedef struct slot {
    flux_pipeline *pipeline; /* NULL: free */
    char folder[MODEL_PATH_BYTES];
    precision precision;
    int leases;
    uint64_t last_used;
} slot;

struct model_manager {
    device *device;
    part_pool *pool;
    bool copied;
    size_t max_models;
    uint64_t clock; /* counts uses: orders them without a time */
    slot slots[MODEL_SLOTS];
};

bool model_manager_new(device *d, const model_manager_options *options, model_manager **out, error *e) {
    model_manager *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "the model manager", sizeof *m);
    if (!part_pool_new(d, &m->pool, e)) {
        free(m);
        return false;
    }
    m->device = d;
    m->copied = options->copied;
    int max_models = options->max_models;
    m->max_models = max_models < 1 ? 1 : max_models > MODEL_SLOTS / 2 ? MODEL_SLOTS / 2 : (size_t)max_models;
    *out = m;
    return true;
}

static void evict(slot *s, const char *cause) {
    log_line(LOG_INFO, "unloading %s (%s)", s->folder, cause);
    flux_pipeline_free(s->pipeline);
    *s = (slot){0};
}

void model_manager_free(model_manager *m) {
    if (m == NULL) return;
    for (size_t i = 0; i < MODEL_SLOTS; i++) flux_pipeline_free(m->slots[i].pipeline);
    part_pool_free(m->pool);
    free(m);
}

device *model_manager_device(const model_manager *m) { return m->device; }

size_t model_manager_count(const model_manager *m) {
    size_t count = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++) count += m->slots[i].pipeline != NULL;
    return count;
}

/* Least recently used first, never a leased one, until fewer than max_models are left. */
static void make_room(model_manager *m) {
    while (model_manager_count(m) >= m->max_models) {
        slot *oldest = NULL;
        for (size_t i = 0; i < MODEL_SLOTS; i++) {
            slot *s = &m->slots[i];
            if (s->pipeline != NULL && s->leases == 0 && (oldest == NULL || s->last_used < oldest->last_used)) oldest = s;
        }
        if (oldest == NULL) return;
        evict(oldest, "count");
    }
}

bool model_manager_load_model(model_manager *m, const char *folder, precision p, flux_pipeline **out, error *e) {
    slot *found = NULL;
    for (size_t i = 0; i < MODEL_SLOTS && found == NULL; i++)
        if (m->slots[i].pipeline != NULL && m->slots[i].precision == p && strcmp(m->slots[i].folder, folder) == 0) found = &m->slots[i];
    if (found == NULL) {
        if (strlen(folder) >= sizeof m->slots[0].folder) return error_set(e, ERROR_TOO_LARGE, "the model path %s is too long", folder);
        make_room(m);
        for (size_t i = 0; i < MODEL_SLOTS && found == NULL; i++)
            if (m->slots[i].pipeline == NULL) found = &m->slots[i];
        if (found == NULL) return error_set(e, ERROR_BUSY, "%d models are in use at once: no more can be loaded", MODEL_SLOTS);
        load_options how = LOAD_OPTIONS(p);
        how.copied = m->copied;
        if (!flux_pipeline_load(m->pool, folder, &how, &found->pipeline, e)) {
            found->pipeline = NULL;
            return false;
        }
        memcpy(found->folder, folder, strlen(folder) + 1);
        found->precision = p;
    }
    found->leases++;
    found->last_used = ++m->clock;
    *out = found->pipeline;
    return true;
}

void model_manager_release(model_manager *m, flux_pipeline *p) {
    for (size_t i = 0; i < MODEL_SLOTS; i++)
        if (p != NULL && m->slots[i].pipeline == p) m->slots[i].leases--;
}

size_t model_manager_clear_cache(model_manager *m) {
    size_t gone = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++)
        if (m->slots[i].pipeline != NULL && m->slots[i].leases == 0) {
            evict(&m->slots[i], "manual");
            gone++;
        }
    return gone;
}
