#include "server/api/native_stats.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "engine/vram_manager.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/primary_device.h"
#include "server/requests/services.h"
#include "server/resources/machine_figures.h"
#include "server/resources/model_document.h"
#include "server/resources/seconds.h"

/* The shape of "vram", "models", "queue" and "optimizations" is a contract: keys may be added, none renamed. */

/* --- memory --- */

static double one_decimal(double x) { return round(x * 10) / 10; }

static void add_vram(yyjson_mut_doc *doc, yyjson_mut_val *root, const services *s, const vram_stats *v, const device_figures *whole) {
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "vram");
    /* Whole MiB that add up. */
    uint64_t total = v->bound >> 20, free_mb = v->bound_free >> 20;
    yyjson_mut_obj_add_strcpy(doc, o, "device", primary_device_kind(s));
    yyjson_mut_obj_add_uint(doc, o, "total_vram_mb", total);
    yyjson_mut_obj_add_uint(doc, o, "used_vram_mb", total - free_mb);
    yyjson_mut_obj_add_uint(doc, o, "free_vram_mb", free_mb);
    yyjson_mut_obj_add_real(doc, o, "utilization_percent", one_decimal(v->utilization_percent));
    yyjson_mut_obj_add_str(doc, o, "state", vram_state_name(v->state));
    yyjson_mut_obj_add_bool(doc, o, "limited", v->limited);
    if (v->figures.limit > 0) yyjson_mut_obj_add_uint(doc, o, "limit_mb", v->figures.limit >> 20);
    else yyjson_mut_obj_add_null(doc, o, "limit_mb");
    yyjson_mut_obj_add_str(doc, o, "source", whole->source);
    const engine_snapshot *told = engine_view_snapshot(dispatch_engine(s->dispatch));
    yyjson_mut_val *uses = yyjson_mut_obj_add_obj(doc, o, "ledger");
    yyjson_mut_obj_add_uint(doc, uses, "weights", v->figures.weights);
    yyjson_mut_obj_add_uint(doc, uses, "compute", v->figures.compute);
    yyjson_mut_obj_add_uint(doc, uses, "staging", v->figures.staging);
    yyjson_mut_obj_add_uint(doc, uses, "cache", v->figures.cache);
    yyjson_mut_obj_add_uint(doc, uses, "latents", told->latent_bytes);
    yyjson_mut_obj_add_uint(doc, uses, "foreign", v->foreign);
    yyjson_mut_obj_add_uint(doc, uses, "peak", v->figures.peak);
    yyjson_mut_obj_add_uint(doc, uses, "pinned", told->pinned_bytes);
}

static void add_device(yyjson_mut_doc *doc, yyjson_mut_val *list, const char *kind, const device_figures *f, bool primary) {
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_strcpy(doc, o, "device", kind);
    yyjson_mut_obj_add_strcpy(doc, o, "name", f->name);
    yyjson_mut_obj_add_uint(doc, o, "total_bytes", f->total);
    yyjson_mut_obj_add_uint(doc, o, "free_bytes", f->free);
    yyjson_mut_obj_add_uint(doc, o, "used_bytes", f->total - f->free);
    yyjson_mut_obj_add_str(doc, o, "source", f->source);
    yyjson_mut_obj_add_bool(doc, o, "primary", primary);
}

/* The primary one, main memory where it is not that, and the other GPUs that NVML knows. */
static void add_devices(yyjson_mut_doc *doc, yyjson_mut_val *root, services *s, const device_figures *primary) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "devices");
    device_figures f;
    const char *kind = primary_device_kind(s);
    add_device(doc, list, kind, primary, true);
    if (strcmp(kind, "cpu") == 0) return;
    machine_figures_main_memory(&f);
    add_device(doc, list, "cpu", &f, false);
    for (int i = 0; machine_figures_gpu_at(s->machine, i, &f); i++) {
        bool is_primary = strcmp(primary->source, "nvml") == 0 && i == primary->index;
        if (!is_primary) add_device(doc, list, "cuda", &f, false);
    }
}

/* --- models --- */

static void add_models(yyjson_mut_doc *doc, yyjson_mut_val *root, const services *s) {
    const engine_view *v = dispatch_engine(s->dispatch);
    const engine_snapshot *told = engine_view_snapshot(v);
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "models");
    yyjson_mut_obj_add_int(doc, o, "cached_models", told->model_count);
    yyjson_mut_obj_add_int(doc, o, "max_models", dispatch_engine_options(s->dispatch)->max_models);
    yyjson_mut_val *rows = yyjson_mut_obj_add_arr(doc, o, "models");
    for (int i = 0; i < told->model_count; i++)
        yyjson_mut_arr_append(rows, model_row_document(doc, &told->models[i], engine_view_device_kind(v)));
    yyjson_mut_obj_add_uint(doc, o, "cached_bytes", told->cached_weight_bytes);
    yyjson_mut_obj_add_uint(doc, o, "max_bytes", (uint64_t)(dispatch_engine_options(s->dispatch)->max_cache_gb * (double)(1 << 30)));
    yyjson_mut_obj_add_uint(doc, o, "loads", told->loads);
    yyjson_mut_val *evictions = yyjson_mut_obj_add_obj(doc, o, "evictions");
    for (int i = 0; i < EVICTION_CAUSES; i++)
        yyjson_mut_obj_add_uint(doc, evictions, eviction_cause_name((eviction_cause)i), told->evictions[i]);
}

static void add_prompt_cache(yyjson_mut_doc *doc, yyjson_mut_val *root, const engine_snapshot *told) {
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "prompt_cache");
    yyjson_mut_obj_add_uint(doc, o, "hits", told->prompt_hits);
    yyjson_mut_obj_add_uint(doc, o, "misses", told->prompt_misses);
    yyjson_mut_obj_add_uint(doc, o, "entries", told->prompt_entries);
    yyjson_mut_obj_add_uint(doc, o, "bytes", told->prompt_bytes);
    yyjson_mut_obj_add_uint(doc, o, "max_bytes", told->prompt_max_bytes);
}

static void add_batching(yyjson_mut_doc *doc, yyjson_mut_val *root, const engine_snapshot *told) {
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "batching");
    yyjson_mut_obj_add_uint(doc, o, "steps", told->steps);
    yyjson_mut_obj_add_uint(doc, o, "batched_steps", told->batched_steps);
    yyjson_mut_obj_add_uint(doc, o, "batched_images", told->batched_images);
}

static void add_profiles(yyjson_mut_doc *doc, yyjson_mut_val *root, const engine_profiles *profiles) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "profiles");
    for (size_t i = 0; i < engine_profiles_count(profiles); i++)
        yyjson_mut_arr_append(list, model_profile_document(doc, engine_profiles_at(profiles, i)));
}

/* --- choices --- */

static void add_choice(yyjson_mut_doc *doc, yyjson_mut_val *o, yyjson_mut_val *reasons, const char *key, const engine_choice *c) {
    yyjson_mut_obj_add_strcpy(doc, o, key, c->value);
    yyjson_mut_obj_add_strcpy(doc, reasons, key, c->reason);
}

static void add_optimizations(yyjson_mut_doc *doc, yyjson_mut_val *root, const engine_snapshot *told) {
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "optimizations"), *reasons = yyjson_mut_obj(doc);
    engine_choice dtype = told->dtype;
    if (dtype.value[0] == '\0') strcpy(dtype.value, "torch.float32"); /* no engine has told yet */
    yyjson_mut_obj_add_bool(doc, o, "amp_enabled", told->amp_enabled);
    yyjson_mut_obj_add_bool(doc, o, "xformers_available", false);
    yyjson_mut_obj_add_bool(doc, o, "flash_attention_available", told->flash_attention_available);
    add_choice(doc, o, reasons, "optimal_dtype", &dtype);
    add_choice(doc, o, reasons, "attention", &told->attention);
    add_choice(doc, o, reasons, "vae", &told->vae);
    add_choice(doc, o, reasons, "tf32", &told->tf32);
    yyjson_mut_obj_add_val(doc, o, "reasons", reasons);
}

/* --- queue and engine --- */

/* As Prometheus counts: each bucket includes those before it. */
static yyjson_mut_val *histogram_document(yyjson_mut_doc *doc, const histogram *h) {
    yyjson_mut_val *o = yyjson_mut_obj(doc), *bounds = yyjson_mut_obj_add_arr(doc, o, "seconds"),
                   *counts = yyjson_mut_obj_add_arr(doc, o, "at_most");
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        yyjson_mut_arr_add_real(doc, bounds, histogram_bounds[i]);
        yyjson_mut_arr_add_uint(doc, counts, h->at_most[i]);
    }
    yyjson_mut_obj_add_uint(doc, o, "count", h->count);
    seconds_add(doc, o, "sum", h->sum);
    return o;
}

static void add_pause(yyjson_mut_doc *doc, yyjson_mut_val *o, const queue_manager *q) {
    char reason[ERROR_TEXT_BYTES];
    bool paused = queue_manager_paused(q);
    yyjson_mut_obj_add_bool(doc, o, "paused", paused);
    if (paused) yyjson_mut_obj_add_strcpy(doc, o, "pause_reason", problem_text(queue_manager_pause_reason(q), reason, sizeof reason));
    else yyjson_mut_obj_add_null(doc, o, "pause_reason");
}

static void add_queue(yyjson_mut_doc *doc, yyjson_mut_val *root, const services *s) {
    queue_stats q = queue_manager_get_queue_stats(s->queue);
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "queue");
    yyjson_mut_obj_add_uint(doc, o, "queued", q.queued);
    yyjson_mut_obj_add_uint(doc, o, "active", q.active);
    yyjson_mut_obj_add_uint(doc, o, "completed", q.completed);
    yyjson_mut_obj_add_uint(doc, o, "failed", q.failed);
    yyjson_mut_obj_add_uint(doc, o, "cancelled", q.cancelled);
    yyjson_mut_obj_add_uint(doc, o, "suspended", q.suspended);
    add_pause(doc, o, s->queue);
    yyjson_mut_val *by_priority = yyjson_mut_obj_add_obj(doc, o, "wait_seconds");
    for (int p = PRIORITY_URGENT; p <= PRIORITY_LOW; p++)
        yyjson_mut_obj_add_val(doc, by_priority, task_priority_name((task_priority)p), histogram_document(doc, &q.waits[p]));
    yyjson_mut_obj_add_val(doc, o, "run_seconds", histogram_document(doc, &q.runs));
}

static void add_engine(yyjson_mut_doc *doc, yyjson_mut_val *root, services *s) {
    const engine_view *v = dispatch_engine(s->dispatch);
    const engine_snapshot *told = engine_view_snapshot(v);
    pid_t pid = dispatch_engine_pid(s->dispatch);
    process_figures p;
    machine_figures_process(s->machine, pid, dispatch_engine_still(s->dispatch), &p);
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "engine");
    yyjson_mut_obj_add_str(doc, o, "state", dispatch_engine_state(s->dispatch));
    if (pid > 0) yyjson_mut_obj_add_int(doc, o, "pid", pid);
    else yyjson_mut_obj_add_null(doc, o, "pid");
    yyjson_mut_obj_add_strcpy(doc, o, "device_name", engine_view_device_name(v));
    yyjson_mut_obj_add_int(doc, o, "threads", engine_view_threads(v));
    yyjson_mut_obj_add_uint(doc, o, "snapshot", told->number);
    if (told->number > 0) yyjson_mut_obj_add_int(doc, o, "snapshot_age_ms", clock_unix_ms() - told->taken_ms);
    else yyjson_mut_obj_add_null(doc, o, "snapshot_age_ms");
    yyjson_mut_val *memory = yyjson_mut_obj_add_obj(doc, o, "process");
    yyjson_mut_obj_add_uint(doc, memory, "resident_bytes", p.resident);
    yyjson_mut_obj_add_uint(doc, memory, "anonymous_bytes", p.anonymous);
    yyjson_mut_obj_add_uint(doc, memory, "file_bytes", p.file);
    yyjson_mut_obj_add_uint(doc, memory, "peak_bytes", p.peak);
    yyjson_mut_obj_add_uint(doc, memory, "swapped_bytes", p.swapped);
    yyjson_mut_obj_add_uint(doc, memory, "proportional_bytes", p.proportional);
    yyjson_mut_obj_add_uint(doc, memory, "private_dirty_bytes", p.private_dirty);
}

void native_get_stats(services *s, http_exchange *x, const char *id) {
    (void)id;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    const engine_snapshot *told = engine_view_snapshot(dispatch_engine(s->dispatch));
    device_figures whole;
    vram_stats vram = primary_device_read(s, &whole);
    add_vram(doc, root, s, &vram, &whole);
    add_devices(doc, root, s, &whole);
    add_models(doc, root, s);
    add_queue(doc, root, s);
    add_optimizations(doc, root, told);
    add_prompt_cache(doc, root, told);
    add_batching(doc, root, told);
    add_engine(doc, root, s);
    add_profiles(doc, root, s->profiles);
    yyjson_mut_doc_set_root(doc, root);
    http_add_header(x, "cache-control", "no-store");
    answer_json(x, 200, NULL, doc);
}
