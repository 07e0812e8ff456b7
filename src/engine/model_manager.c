#include "engine/model_manager.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    MODEL_SLOTS = 64,                 /* models are few and large: a plain array, searched from end to end */
    AHEAD_BYTES = 32 << 20,           /* of files that are read ahead in one slice */
    IDLE_COMPUTE_BYTES = 6 << 20,     /* compute buffers that an idle model may keep: small ones are worth more than their place */
    WORTH_EVICTING_BYTES = 256 << 10, /* a model that holds less of the device's memory is no help when that is short */
};

typedef enum slot_state { SLOT_FREE, SLOT_GONE, SLOT_LOADING, SLOT_LOADED } slot_state;

/* A model. One that has gone keeps its counts until the slot is wanted. */
struct model_lease {
    model_manager *manager;
    slot_state state;
    flux_pipeline *pipeline; /* LOADING, LOADED */
    char name[MODEL_NAME_BYTES], folder[MODEL_PATH_BYTES];
    precision precision;
    int leases;
    bool outdated; /* its files changed: for those who have it, no more */
    bool ahead;    /* its mapped files are to be read ahead: */
    int ahead_part;
    size_t ahead_at; /* this far */
    uint64_t last_used;
    int64_t last_used_ms;
    uint64_t loads, peak_bytes;
    double load_seconds, loading_seconds; /* of the last load; of the one under way */
};

typedef struct model_lease slot;

struct model_manager {
    device *device;
    part_pool *pool;
    model_manager_options options;
    uint64_t clock; /* counts uses: orders them without a time */
    uint64_t loads, evictions[EVICTION_CAUSES];
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
    m->options = *options;
    int max = options->max_models;
    m->options.max_models = max < 1 ? 1 : max > MODEL_SLOTS / 2 ? MODEL_SLOTS / 2 : max;
    *out = m;
    return true;
}

void model_manager_free(model_manager *m) {
    if (m == NULL) return;
    for (size_t i = 0; i < MODEL_SLOTS; i++) flux_pipeline_free(m->slots[i].pipeline);
    part_pool_free(m->pool);
    free(m);
}

device *model_manager_device(const model_manager *m) { return m->device; }

/* ── figures ── */

static bool in_memory(const slot *s) { return s->state == SLOT_LOADING || s->state == SLOT_LOADED; }
static bool is_idle(const slot *s) { return in_memory(s) && s->leases == 0; }

size_t model_manager_count(const model_manager *m) {
    size_t count = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++) count += in_memory(&m->slots[i]);
    return count;
}

/* Weight bytes that loads under way are still going to add. */
static uint64_t coming_bytes(const model_manager *m) {
    uint64_t sum = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        if (m->slots[i].state != SLOT_LOADING) continue;
        const flux_parts *p = flux_pipeline_parts(m->slots[i].pipeline);
        sum += flux_parts_bytes(p, FLUX_ALL_PARTS & ~p->seen);
    }
    return sum;
}

static uint64_t cached_bytes(const model_manager *m) { return part_pool_figures(m->pool).weights + coming_bytes(m); }

/* Whether some model in use holds this part. */
static bool part_in_use(const model_manager *m, const model_part *part, const slot *except) {
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        const slot *s = &m->slots[i];
        if (s == except || !in_memory(s) || s->leases == 0) continue;
        for (int kind = 0; kind < PART_KINDS; kind++)
            if (flux_pipeline_parts(s->pipeline)->parts[kind] == part) return true;
    }
    return false;
}

/* Of the device's memory (on the CPU: private memory), what would come back if this idle model went now: parts that others hold stay. */
static size_t evictable_bytes(const slot *s) {
    const flux_parts *p = flux_pipeline_parts(s->pipeline);
    size_t sum = flux_pipeline_step_bytes(s->pipeline);
    for (int kind = 0; kind < PART_KINDS; kind++) {
        if (p->parts[kind] == NULL || model_part_holders(p->parts[kind]) > 1) continue;
        part_figures f = model_part_figures(p->parts[kind]);
        sum += f.compute + (device_is_cpu(s->manager->device) ? f.private : f.device);
    }
    return sum;
}

size_t model_manager_idle_bytes(const model_manager *m) {
    size_t sum = 0;
    const model_part *counted[MODEL_SLOTS * PART_KINDS];
    size_t count = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        const slot *s = &m->slots[i];
        if (!is_idle(s)) continue;
        sum += flux_pipeline_step_bytes(s->pipeline);
        for (int kind = 0; kind < PART_KINDS; kind++) {
            const model_part *part = flux_pipeline_parts(s->pipeline)->parts[kind];
            size_t known = 0;
            while (known < count && counted[known] != part) known++;
            if (part == NULL || known < count || part_in_use(m, part, NULL)) continue;
            counted[count++] = part;
            part_figures f = model_part_figures(part);
            sum += f.compute + (device_is_cpu(m->device) ? f.private : f.device);
        }
    }
    return sum;
}

/* ── leaving ── */

static void unload(slot *s) {
    flux_pipeline_free(s->pipeline);
    s->pipeline = NULL;
    s->state = s->loads > 0 ? SLOT_GONE : SLOT_FREE;
    s->outdated = s->ahead = false;
    s->ahead_part = 0;
    s->ahead_at = 0;
    s->loading_seconds = 0;
    malloc_trim(0); /* what loading left in the heap's gaps goes back to the system */
}

static void evict(slot *s, eviction_cause cause) {
    log_line(LOG_INFO, "unloading %s, %s (%s)", s->name, precision_name(s->precision), eviction_cause_name(cause));
    s->manager->evictions[cause]++;
    unload(s);
}

/* The idle model that was used least recently; with `device_memory`, of those that hold enough of it. */
static slot *oldest_idle(model_manager *m, bool device_memory) {
    slot *oldest = NULL;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        slot *s = &m->slots[i];
        if (!is_idle(s) || (oldest != NULL && s->last_used > oldest->last_used)) continue;
        if (!device_memory || evictable_bytes(s) >= WORTH_EVICTING_BYTES) oldest = s;
    }
    return oldest;
}

/* One model alone is never too many bytes. */
static bool too_many(const model_manager *m) { return model_manager_count(m) > (size_t)m->options.max_models; }
static bool too_large(const model_manager *m) { return model_manager_count(m) > 1 && cached_bytes(m) > m->options.max_cache_bytes; }

/* Back within the limits, as far as models in use allow. */
static void trim(model_manager *m) {
    slot *oldest;
    while (too_many(m) && (oldest = oldest_idle(m, false)) != NULL) evict(oldest, EVICTED_COUNT);
    while (too_large(m) && (oldest = oldest_idle(m, false)) != NULL) evict(oldest, EVICTED_BYTES);
}

size_t model_manager_release_idle_compute(model_manager *m) {
    size_t bytes = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        slot *s = &m->slots[i];
        if (!is_idle(s)) continue;
        size_t before = flux_pipeline_figures(s->pipeline).compute;
        flux_pipeline_release_compute(s->pipeline);
        bytes += before - flux_pipeline_figures(s->pipeline).compute;
    }
    return bytes;
}

bool model_manager_evict_one(model_manager *m, eviction_cause cause) {
    slot *oldest = oldest_idle(m, true);
    if (oldest != NULL) evict(oldest, cause);
    return oldest != NULL;
}

bool model_manager_make_room_for(model_manager *m, size_t bytes, eviction_cause cause) {
    if (device_available(m->device) < bytes) model_manager_release_idle_compute(m);
    while (device_available(m->device) < bytes)
        if (!model_manager_evict_one(m, cause)) return false;
    return true;
}

static bool same_key(const slot *s, const model_key *key) { return s->precision == key->precision && strcmp(s->folder, key->folder) == 0; }

bool model_manager_unload(model_manager *m, const model_key *key, bool every_precision, error *e) {
    size_t found = 0;
    for (size_t i = 0; i < 2 * MODEL_SLOTS; i++) { /* a look first, so that it is all or nothing */
        slot *s = &m->slots[i % MODEL_SLOTS];
        if (!in_memory(s) || !(every_precision ? strcmp(s->folder, key->folder) == 0 : same_key(s, key))) continue;
        if (s->leases > 0) return error_set(e, ERROR_BUSY, "the model %s is in use", key->name);
        if (i >= MODEL_SLOTS) evict(s, EVICTED_MANUAL);
        found++;
    }
    return found > 0 || error_set(e, ERROR_NOT_FOUND, "the model %s is not in memory", key->name);
}

static void add_name(char names[][MODEL_NAME_BYTES], int32_t *count, const char *name) {
    if (*count < ENGINE_MODEL_ROWS) memcpy(names[(*count)++], name, strlen(name) + 1);
}

size_t model_manager_clear_cache(model_manager *m, engine_answer *answer) {
    size_t gone = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        slot *s = &m->slots[i];
        if (!in_memory(s)) continue;
        if (s->leases > 0) {
            if (answer != NULL) add_name(answer->skipped, &answer->skipped_count, s->name);
            flux_pipeline_release_compute(s->pipeline);
            continue;
        }
        if (answer != NULL) add_name(answer->unloaded, &answer->unloaded_count, s->name);
        evict(s, EVICTED_MANUAL);
        gone++;
    }
    malloc_trim(0);
    return gone;
}

/* ── coming ── */

static slot *find(model_manager *m, const model_key *key) {
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        slot *s = &m->slots[i];
        if (!in_memory(s) || s->outdated || !same_key(s, key)) continue;
        const char *changed = flux_parts_changed(flux_pipeline_parts(s->pipeline));
        if (changed == NULL) return s;
        log_line(LOG_INFO, "%s changed: %s is loaded anew", changed, s->name);
        s->outdated = true;
        if (s->leases == 0) unload(s);
        return NULL; /* of the models that are not outdated, one at most has the key */
    }
    return NULL;
}

/* A slot for a model that is not in memory: the one it had, else one never used, else that of the model that left longest ago. */
static slot *empty_slot(model_manager *m, const model_key *key) {
    slot *best = NULL;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        slot *s = &m->slots[i];
        if (in_memory(s)) continue;
        if (s->state == SLOT_GONE && same_key(s, key)) return s;
        if (best == NULL || s->last_used < best->last_used) best = s;
    }
    if (best != NULL) *best = (slot){.manager = m};
    return best;
}

/* Device bytes that loading the model takes at least, before any compute buffer. On the CPU, mapped weights take none. */
static size_t device_need(const slot *s) {
    const flux_parts *p = flux_pipeline_parts(s->pipeline);
    if (device_is_cpu(s->manager->device) && !s->manager->options.copied) return 0;
    uint64_t transformer = flux_parts_bytes(p, FLUX_TRANSFORMER & ~p->seen);
    uint64_t others = flux_parts_bytes(p, FLUX_ALL_PARTS & ~(FLUX_TRANSFORMER | p->seen));
    return (size_t)others + (transformer < p->options.resident_bytes ? (size_t)transformer : p->options.resident_bytes);
}

/* Whether the limits leave room for a load beside the models in use, were all idle ones gone. */
static bool fits_beside_leased(const model_manager *m, const slot *coming) {
    const flux_parts *wanted = flux_pipeline_parts(coming->pipeline);
    uint64_t bytes = flux_parts_bytes_total(wanted);
    int count = 1;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        const slot *s = &m->slots[i];
        if (s == coming || !in_memory(s) || s->leases == 0) continue;
        const flux_parts *p = flux_pipeline_parts(s->pipeline);
        count++;
        for (int kind = 0; kind < PART_KINDS; kind++)
            if ((FLUX_ALL_PARTS & 1U << kind) != 0 && (p->parts[kind] == NULL || p->parts[kind] != wanted->parts[kind]))
                bytes += p->files[kind].weight_bytes;
    }
    return count <= m->options.max_models && (count == 1 || bytes <= m->options.max_cache_bytes);
}

/* Room for a load that has begun (its shared parts are held already). */
static bool make_room(model_manager *m, slot *s, load_purpose purpose, error *e) {
    size_t need = device_need(s);
    if (purpose == LOAD_AHEAD_IF_FREE && (too_many(m) || too_large(m) || device_available(m->device) < need))
        return error_set(e, ERROR_BUSY, "there is no room for %s beside the models in memory", s->name);
    if (purpose == LOAD_AHEAD && !fits_beside_leased(m, s))
        return error_set(e, ERROR_BUSY, "there is no room for %s beside the models in use", s->name);
    trim(m);
    /* A task plans its memory by itself, and what is still missing, the load will say. */
    if (need > 0 && purpose != LOAD_FOR_TASK) model_manager_make_room_for(m, need, EVICTED_VRAM);
    return true;
}

static void lease(slot *s) {
    s->leases++;
    s->last_used = ++s->manager->clock;
    s->last_used_ms = clock_unix_ms();
}

static bool begin_load(model_manager *m, slot *s, const model_key *key, load_purpose purpose, error *e) {
    load_options how = LOAD_OPTIONS(key->precision);
    how.copied = m->options.copied;
    how.progress = m->options.progress;
    how.context = m->options.context;
    double start = clock_seconds();
    if (m->options.optimization != NULL) optimization_autocast(m->options.optimization, key->precision);
    snprintf(s->name, sizeof s->name, "%s", key->name);
    snprintf(s->folder, sizeof s->folder, "%s", key->folder);
    s->manager = m;
    s->precision = key->precision;
    if (!flux_pipeline_load_begin(m->pool, key->folder, &how, &s->pipeline, e)) return false;
    s->state = SLOT_LOADING;
    s->ahead = purpose != LOAD_FOR_TASK;
    s->loading_seconds = clock_seconds() - start;
    lease(s);
    if (make_room(m, s, purpose, e)) return true;
    s->leases--;
    unload(s);
    return false;
}

bool model_manager_lease(model_manager *m, const model_key *key, load_purpose purpose, model_lease **out, error *e) {
    *out = NULL;
    if (strlen(key->folder) >= sizeof m->slots[0].folder || strlen(key->name) >= sizeof m->slots[0].name)
        return error_set(e, ERROR_TOO_LARGE, "the model path %s is too long", key->folder);
    slot *s = find(m, key);
    if (s != NULL) {
        lease(s);
        if (purpose == LOAD_FOR_TASK) s->ahead = false; /* what waits now does not wait for that */
    } else {
        s = empty_slot(m, key);
        if (s == NULL) return error_set(e, ERROR_BUSY, "%d models are in use at once: no more can be loaded", MODEL_SLOTS);
        if (!begin_load(m, s, key, purpose, e)) return false;
    }
    *out = s;
    return true;
}

/* Out of memory, it tries again with one idle model less, and so on. */
static bool load_next(slot *s, bool *more, error *e) {
    for (;;) {
        error fault = {0};
        if (flux_pipeline_load_next(s->pipeline, more, &fault)) return true;
        slot *oldest = fault.code == ERROR_OUT_OF_MEMORY ? oldest_idle(s->manager, true) : NULL;
        if (oldest == NULL) {
            if (e != NULL) *e = fault;
            return false;
        }
        evict(oldest, EVICTED_VRAM);
    }
}

static void finish_load(slot *s) {
    s->state = SLOT_LOADED;
    s->load_seconds = s->loading_seconds;
    s->loading_seconds = 0;
    s->loads++;
    s->manager->loads++;
    malloc_trim(0); /* files that were parsed leave gaps in the heap */
    trim(s->manager); /* what was made of the files can be larger than they are */
}

/* Files that main memory cannot hold would only push each other out. */
static bool worth_reading_ahead(const slot *s) {
    size_t free_bytes = 0, total_bytes = 0;
    if (!device_is_cpu(s->manager->device)) return false; /* they were read to be copied there */
    device_memory(s->manager->device, &free_bytes, &total_bytes);
    return flux_pipeline_figures(s->pipeline).mapped <= free_bytes;
}

/* False when nothing is left to be read. */
static bool read_ahead(slot *s) {
    const flux_parts *p = flux_pipeline_parts(s->pipeline);
    if (s->ahead_part == 0 && s->ahead_at == 0 && !worth_reading_ahead(s)) return false;
    while (s->ahead_part < PART_KINDS) {
        const model_part *part = p->parts[s->ahead_part];
        if (part != NULL && model_part_prefetch(part, &s->ahead_at, AHEAD_BYTES)) return true;
        s->ahead_part++;
        s->ahead_at = 0;
    }
    return false;
}

static void tell_optimization(const slot *s) {
    optimization *o = s->manager->options.optimization;
    const model_part *transformer = flux_pipeline_parts(s->pipeline)->parts[PART_FLUX_TRANSFORMER];
    if (o != NULL && transformer != NULL)
        optimization_optimize_model(o, flux_transformer_is_half(model_part_flux_transformer(transformer)), 0, 0);
}

bool model_lease_advance(model_lease *l, bool *more, error *e) {
    *more = true;
    if (l->state == SLOT_LOADED) {
        *more = l->ahead = l->ahead && read_ahead(l);
        return true;
    }
    double start = clock_seconds();
    bool ok = load_next(l, more, e);
    l->loading_seconds += clock_seconds() - start;
    if (!ok || *more) return ok;
    finish_load(l);
    tell_optimization(l);
    *more = l->ahead;
    return true;
}

int model_lease_holders(const model_lease *l) { return l->leases; }
bool model_lease_loaded(const model_lease *l) { return l->state == SLOT_LOADED; }
flux_pipeline *model_lease_pipeline(const model_lease *l) { return l->pipeline; }

void model_lease_progress(const model_lease *l, uint64_t *done, uint64_t *total) {
    const flux_parts *p = flux_pipeline_parts(l->pipeline);
    *done = flux_parts_bytes_done(p);
    *total = flux_parts_bytes_total(p);
}

void model_lease_note_peak(model_lease *l, uint64_t bytes) {
    if (bytes > l->peak_bytes) l->peak_bytes = bytes;
}

void model_manager_release(model_manager *m, model_lease *l) {
    if (l == NULL) return;
    l->last_used = ++m->clock;
    l->last_used_ms = clock_unix_ms();
    if (--l->leases > 0) return;
    if (l->outdated || l->state == SLOT_LOADING) {
        unload(l);
    } else if (flux_pipeline_figures(l->pipeline).compute > IDLE_COMPUTE_BYTES) {
        flux_pipeline_shrink_compute(l->pipeline, IDLE_COMPUTE_BYTES);
        malloc_trim(0);
    }
    trim(m);
}

static bool load_all(model_manager *m, const model_key *key, load_purpose purpose, model_lease **out, error *e) {
    if (!model_manager_lease(m, key, purpose, out, e)) return false;
    for (bool more = true; more;) {
        if (model_lease_advance(*out, &more, e)) continue;
        model_manager_release(m, *out);
        *out = NULL;
        return false;
    }
    return true;
}

bool model_manager_load_model(model_manager *m, const model_key *key, model_lease **out, error *e) {
    return load_all(m, key, LOAD_FOR_TASK, out, e);
}

bool model_manager_preload_model(model_manager *m, const model_key *key, load_purpose purpose, error *e) {
    model_lease *l;
    if (!load_all(m, key, purpose, &l, e)) return false;
    model_manager_release(m, l);
    return true;
}

/* ── rows ── */

static int by_use(const void *a, const void *b) {
    const slot *x = *(const slot *const *)a, *y = *(const slot *const *)b;
    return (x->last_used < y->last_used) - (x->last_used > y->last_used);
}

static engine_model_row row_of(const slot *s) {
    part_figures f = flux_pipeline_figures(s->pipeline);
    engine_model_row r = {
        .state = s->state == SLOT_LOADING ? MODEL_LOADING : s->leases > 0 ? MODEL_IN_USE : MODEL_CACHED,
        .leases = s->leases,
        .loads = s->loads,
        .size_bytes = f.weights,
        .mapped_bytes = f.mapped,
        .private_bytes = f.private,
        .vram_bytes = f.device,
        .compute_bytes = f.compute,
        .peak_bytes = s->peak_bytes,
        .load_seconds = s->load_seconds,
        .last_used_ms = s->last_used_ms,
    };
    const model_part *transformer = flux_pipeline_parts(s->pipeline)->parts[PART_FLUX_TRANSFORMER];
    if (transformer != NULL) {
        weight_residency w = flux_transformer_residency(model_part_flux_transformer(transformer));
        r.resident_blocks = (uint64_t)w.resident_groups;
        r.streamed_blocks = (uint64_t)w.streamed_groups;
    }
    memcpy(r.name, s->name, sizeof r.name);
    snprintf(r.precision, sizeof r.precision, "%s", precision_name(s->precision));
    return r;
}

void model_manager_get_cache_stats(const model_manager *m, engine_snapshot *out) {
    const slot *rows[MODEL_SLOTS];
    size_t count = 0;
    for (size_t i = 0; i < MODEL_SLOTS; i++)
        if (in_memory(&m->slots[i])) rows[count++] = &m->slots[i];
    qsort(rows, count, sizeof rows[0], by_use);
    out->max_models = (uint64_t)m->options.max_models;
    out->max_cache_bytes = m->options.max_cache_bytes;
    out->cached_weight_bytes = part_pool_figures(m->pool).weights;
    out->loads = m->loads;
    memcpy(out->evictions, m->evictions, sizeof out->evictions);
    out->model_count = (int32_t)(count < ENGINE_MODEL_ROWS ? count : ENGINE_MODEL_ROWS);
    for (int32_t i = 0; i < out->model_count; i++) out->models[i] = row_of(rows[i]);
}
