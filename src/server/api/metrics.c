#include "server/api/metrics.h"

#include <stdio.h>
#include <string.h>

#include "build_config.h"
#include "server/http/answer.h"
#include "server/requests/primary_device.h"
#include "server/requests/prometheus_text.h"
#include "server/requests/services.h"

static const prometheus_labels no_labels = {0};

static prometheus_labels one_label(const char *name, const char *value) { return (prometheus_labels){{{name, value}}}; }

/* A family of one sample without labels. */
static void add_single(buffer *out, const char *name, const char *type, const char *help, uint64_t value) {
    prometheus_text_family(out, name, type, help);
    prometheus_text_sample(out, name, no_labels, value);
}

/* --- tasks --- */

static void add_task_counts(buffer *out, const queue_stats *q) {
    static const char depth[] = "imagined_queue_depth", total[] = "imagined_tasks_total";
    prometheus_text_family(out, depth, "gauge", "Tasks that wait, suspended ones among them.");
    for (int p = PRIORITY_URGENT; p <= PRIORITY_LOW; p++)
        prometheus_text_sample(out, depth, one_label("priority", task_priority_name((task_priority)p)), q->waiting[p]);
    add_single(out, "imagined_tasks_active", "gauge", "Tasks that hold a slot.", q->active);
    add_single(out, "imagined_tasks_suspended", "gauge", "Tasks that wait because an urgent one took their slot.", q->suspended);
    prometheus_text_family(out, total, "counter", "Tasks that ended, since the server started.");
    /* Those of earlier runs are left out: how many of them are known falls as they are forgotten, which would look like new ones. */
    prometheus_text_sample(out, total, one_label("status", "completed"), q->completed - q->restored.completed);
    prometheus_text_sample(out, total, one_label("status", "failed"), q->failed - q->restored.failed);
    prometheus_text_sample(out, total, one_label("status", "cancelled"), q->cancelled - q->restored.cancelled);
}

static void add_task_times(buffer *out, const queue_stats *q) {
    static const char duration[] = "imagined_task_duration_seconds", wait[] = "imagined_task_wait_seconds";
    prometheus_text_family(out, duration, "histogram", "Seconds from a completed task's last start to its end.");
    prometheus_text_histogram(out, duration, no_labels, &q->runs);
    prometheus_text_family(out, wait, "histogram", "Seconds from a task's submission to its first start.");
    for (int p = PRIORITY_URGENT; p <= PRIORITY_LOW; p++)
        prometheus_text_histogram(out, wait, one_label("priority", task_priority_name((task_priority)p)), &q->waits[p]);
}

static void add_queue(buffer *out, const services *s) {
    const queue_stats q = queue_manager_get_queue_stats(s->queue);
    add_task_counts(out, &q);
    add_task_times(out, &q);
    add_single(out, "imagined_queue_paused", "gauge", "1 while nothing new starts, by an operator's wish or for a full disk.",
               queue_manager_paused(s->queue));
}

/* --- memory --- */

static void add_state(buffer *out, const char *kind, vram_state now) {
    static const char name[] = "imagined_vram_state";
    prometheus_text_family(out, name, "gauge", "1 for the state that the device's memory is in.");
    for (int i = VRAM_LOW; i <= VRAM_CRITICAL; i++) {
        const prometheus_labels labels = {{{"device", kind}, {"state", vram_state_name((vram_state)i)}}};
        prometheus_text_sample(out, name, labels, i == (int)now);
    }
}

static void add_uses(buffer *out, const char *kind, const vram_stats *v) {
    static const char name[] = "imagined_device_bytes";
    const struct {
        const char *use;
        size_t bytes;
    } uses[] = {{"weights", v->figures.weights},
                {"compute", v->figures.compute},
                {"staging", v->figures.staging},
                {"cache", v->figures.cache},
                {"latents", v->figures.latents},
                {"foreign", v->foreign}};
    prometheus_text_family(out, name, "gauge", "Whose bytes are on the device; foreign: of anybody else.");
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        prometheus_text_sample(out, name, (prometheus_labels){{{"device", kind}, {"use", uses[i].use}}}, uses[i].bytes);
}

/* Nothing before an engine has told which device it is: a series of another one would stay behind. */
static void add_memory(buffer *out, services *s) {
    const char *kind = engine_view_device_kind(dispatch_engine(s->dispatch));
    if (kind[0] == '\0') return;
    device_figures whole;
    const vram_stats v = primary_device_read(s, &whole);
    const prometheus_labels labels = one_label("device", kind);
    prometheus_text_family(out, "imagined_vram_used_bytes", "gauge", "Bytes of the device that anybody uses (the CPU's: main memory).");
    prometheus_text_sample(out, "imagined_vram_used_bytes", labels, v.used);
    prometheus_text_family(out, "imagined_vram_total_bytes", "gauge", "Bytes that the device has.");
    prometheus_text_sample(out, "imagined_vram_total_bytes", labels, v.figures.total);
    if (v.figures.limit > 0) {
        prometheus_text_family(out, "imagined_vram_limit_bytes", "gauge", "Bytes of the device that the engine may use.");
        prometheus_text_sample(out, "imagined_vram_limit_bytes", labels, v.figures.limit);
    }
    add_uses(out, kind, &v);
    add_state(out, kind, v.state);
}

/* --- the engine --- */

static void add_models(buffer *out, const engine_snapshot *told) {
    static const char name[] = "imagined_model_evictions_total";
    add_single(out, "imagined_models_cached", "gauge", "Models in the engine's memory.", (uint64_t)told->model_count);
    add_single(out, "imagined_model_loads_total", "counter", "Models loaded.", told->loads);
    prometheus_text_family(out, name, "counter", "Models that left the memory, by cause.");
    for (int i = 0; i < EVICTION_CAUSES; i++)
        prometheus_text_sample(out, name, one_label("cause", eviction_cause_name((eviction_cause)i)), told->evictions[i]);
    add_single(out, "imagined_prompt_cache_hits_total", "counter", "Prompts whose encoding was kept.", told->prompt_hits);
    add_single(out, "imagined_prompt_cache_misses_total", "counter", "Prompts that had to be encoded.", told->prompt_misses);
    add_single(out, "imagined_prompt_cache_bytes", "gauge", "Bytes of kept encodings.", told->prompt_bytes);
}

static void add_engine(buffer *out, const services *s) {
    const engine_snapshot *told = engine_view_snapshot(dispatch_engine(s->dispatch));
    add_models(out, told);
    add_single(out, "imagined_steps_total", "counter", "Denoising steps run; one of several images counts once.", told->steps);
    add_single(out, "imagined_batched_steps_total", "counter", "Of these, steps of several images.", told->batched_steps);
    add_single(out, "imagined_batched_images_total", "counter", "Images in the steps of several images.", told->batched_images);
    add_single(out, "imagined_engine_up", "gauge", "1 while an engine is ready; 0 also where an idle one is stopped.",
               engine_view_is_ready(dispatch_engine(s->dispatch)));
    add_single(out, "imagined_engine_restarts_total", "counter", "Engines that died and were replaced.",
               dispatch_engine_deaths(s->dispatch));
}

/* --- the server --- */

static void add_webhooks(buffer *out, const services *s) {
    static const char total[] = "imagined_webhooks_total";
    const webhook_stats w = webhooks_get_stats(s->webhooks);
    prometheus_text_family(out, total, "counter",
                           "Attempts to deliver a webhook's message, by what came of them; failed: another follows.");
    prometheus_text_sample(out, total, one_label("result", "delivered"), w.delivered);
    prometheus_text_sample(out, total, one_label("result", "failed"), w.failed);
    prometheus_text_sample(out, total, one_label("result", "given_up"), w.given_up);
    prometheus_text_sample(out, total, one_label("result", "gone"), w.gone);
    add_single(out, "imagined_webhooks_pending", "gauge", "Messages that are not delivered yet.", w.pending);
}

static void add_requests(buffer *out, const http_server *http) {
    static const char name[] = "imagined_http_requests_total";
    prometheus_text_family(out, name, "counter", "Requests answered, by status.");
    for (int status = HTTP_STATUS_FIRST; status < HTTP_STATUS_END; status++) {
        char code[16];
        uint64_t count = http_server_answered(http, status);
        snprintf(code, sizeof code, "%d", status);
        if (count > 0) prometheus_text_sample(out, name, one_label("code", code), count);
    }
}

void metrics_get(services *s, http_exchange *x, const char *id) {
    (void)id;
    buffer out = {0};
    http_body body = {0};
    prometheus_text_family(&out, "imagined_build_info", "gauge", "Always 1; the version is a label.");
    prometheus_text_sample(&out, "imagined_build_info", one_label("version", IMAGINED_VERSION), 1);
    add_queue(&out, s);
    add_memory(&out, s);
    add_engine(&out, s);
    add_webhooks(&out, s);
    add_requests(&out, s->http);
    if (!buffer_ok(&out) || !http_body_add(&body, &out, NULL)) {
        buffer_free(&out);
        answer_empty(x, 503);
        return;
    }
    http_add_header(x, "cache-control", "no-store");
    http_respond(x, 200, PROMETHEUS_TEXT_TYPE, &body);
}
