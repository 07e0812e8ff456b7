#include "engine/vram_manager.h"

#include <stdint.h>
#include <stdlib.h>

static const double hysteresis_points = 2;

/* Far more than there are models: an owner that promises more for ever must not hold the loop. */
enum { MAX_EVICTIONS = 1024 };

struct vram_manager {
    vram_callbacks callbacks;
    vram_state state;
};

const char *vram_state_name(vram_state s) {
    static const char *const names[] = {"low", "moderate", "high", "critical"};
    return names[s];
}

vram_figures vram_figures_of(const device *d, size_t cache) {
    const ledger *l = device_ledger(d);
    vram_figures f = {.limit = l->limit,
                      .weights = l->claimed[DEVICE_WEIGHTS],
                      .compute = l->claimed[DEVICE_COMPUTE],
                      .staging = l->claimed[DEVICE_STAGING],
                      .cache = cache,
                      .peak = l->peak};
    device_memory(d, &f.free, &f.total);
    return f;
}

/* ── arithmetic ── */

/* Exact at the thresholds for anything below 70 TB. */
static double percent(size_t used, size_t bound) { return bound > 0 ? 100.0 * (double)used / (double)bound : 0; }

static vram_state state_at(double percent_used) {
    return percent_used < 50 ? VRAM_LOW : percent_used < 75 ? VRAM_MODERATE : percent_used <= 90 ? VRAM_HIGH : VRAM_CRITICAL;
}

static vram_state next_state(vram_state before, double percent_used) {
    vram_state now = state_at(percent_used), late = state_at(percent_used + hysteresis_points);
    if (now >= before) return now;
    return late < before ? late : before;
}

static size_t add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
static size_t less(size_t a, size_t b) { return a > b ? a - b : 0; }

/* Which bound is the fuller one with `more` bytes of ours added. */
static void choose_bound(vram_stats *s, size_t more) {
    const vram_figures *f = &s->figures;
    size_t ours = add(s->ours, more), used = add(s->used, more);
    s->limited = f->limit > 0 && percent(ours, f->limit) >= percent(used, f->total);
    s->bound = s->limited ? f->limit : f->total;
    s->bound_used = s->limited ? ours : used;
    s->bound_free = less(s->bound, s->bound_used);
    s->utilization_percent = percent(s->bound_used, s->bound);
}

vram_stats vram_stats_of(const vram_figures *f, vram_state before) {
    vram_stats s = {.figures = *f};
    s.used = less(f->total, f->free);
    s.ours = add(add(add(f->weights, f->compute), add(f->staging, f->cache)), f->latents);
    s.foreign = less(s.used, s.ours);
    choose_bound(&s, 0);
    s.state = next_state(before, s.utilization_percent);
    return s;
}

/* ── the manager ── */

bool vram_manager_new(const vram_callbacks *callbacks, vram_manager **out, error *e) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return error_no_memory(e, "the VRAM manager", sizeof **out);
    (*out)->callbacks = *callbacks;
    return true;
}

void vram_manager_free(vram_manager *m) { free(m); }

vram_stats vram_manager_get_vram_stats(vram_manager *m) {
    vram_figures f = {0};
    m->callbacks.read(m->callbacks.context, &f);
    vram_stats s = vram_stats_of(&f, m->state);
    m->state = s.state;
    return s;
}

bool vram_manager_should_offload_to_cpu(vram_manager *m, size_t bytes) {
    vram_stats s = vram_manager_get_vram_stats(m);
    choose_bound(&s, bytes);
    return state_at(s.utilization_percent) == VRAM_CRITICAL;
}

static bool is_high(vram_manager *m) { return vram_manager_get_vram_stats(m).state >= VRAM_HIGH; }
static bool always(vram_manager *m) { return m != NULL; }

/* The order is the design's: what is rebuilt in milliseconds goes before what takes seconds to make again, that before models. */
static vram_freed give_back_while(vram_manager *m, bool (*wanted)(vram_manager *)) {
    const vram_callbacks *c = &m->callbacks;
    vram_freed freed = {0};
    if (wanted(m)) freed.compute = c->free_compute(c->context);
    if (wanted(m)) freed.cache = c->free_cache(c->context);
    for (size_t bytes = 0; freed.model_count < MAX_EVICTIONS && wanted(m) && c->evict_idle(c->context, &bytes); bytes = 0) {
        freed.models = add(freed.models, bytes);
        freed.model_count++;
    }
    return freed;
}

vram_freed vram_manager_clear_cache(vram_manager *m) {
    vram_freed freed = give_back_while(m, always);
    vram_manager_get_vram_stats(m);
    return freed;
}

vram_freed vram_manager_cleanup_if_needed(vram_manager *m) { return give_back_while(m, is_high); }
