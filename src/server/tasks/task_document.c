#include "server/tasks/task_document.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "server/http/problem.h"
#include "server/pictures/picture_store.h"
#include "server/pictures/previews.h"
#include "server/resources/seconds.h"

yyjson_mut_val *seed_document(yyjson_mut_doc *doc, uint64_t seed) {
    if (seed < (uint64_t)1 << 53) return yyjson_mut_uint(doc, seed);
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    return yyjson_mut_strcpy(doc, text);
}

static void add_time(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, int64_t unix_ms) {
    char text[CLOCK_TEXT_BYTES];
    if (unix_ms == 0) yyjson_mut_obj_add_null(doc, o, key);
    else yyjson_mut_obj_add_strcpy(doc, o, key, clock_format(unix_ms, text));
}

static yyjson_mut_val *images(yyjson_mut_doc *doc, const task *t) {
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (int i = 0; i < t->request.count; i++) {
        if (!t->images[i].stored) continue;
        char id[PICTURE_ID_BYTES], url[PICTURE_ID_BYTES + 16];
        picture_id_format(t->id, i, id);
        snprintf(url, sizeof url, "/api/images/%s", id);
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strcpy(doc, one, "id", id);
        yyjson_mut_obj_add_strcpy(doc, one, "url", url);
        yyjson_mut_obj_add_val(doc, one, "seed", seed_document(doc, t->images[i].seed));
    }
    return list;
}

yyjson_mut_val *task_progress_document(yyjson_mut_doc *doc, const task *t) {
    yyjson_mut_val *p = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, p, "phase", t->phase);
    yyjson_mut_obj_add_int(doc, p, "step", t->status == TASK_COMPLETED ? t->steps : t->step);
    yyjson_mut_obj_add_int(doc, p, "steps", t->steps);
    yyjson_mut_obj_add_int(doc, p, "image", t->image);
    yyjson_mut_obj_add_int(doc, p, "n", t->request.count);
    if (t->bytes_total == 0 || strcmp(t->phase, "load") != 0) return p;
    yyjson_mut_obj_add_uint(doc, p, "bytes", t->bytes_done);
    yyjson_mut_obj_add_uint(doc, p, "bytes_total", t->bytes_total);
    return p;
}

/* The step and the image in the address make it another one with each preview: pages may put it where a picture's address goes. */
yyjson_mut_val *task_preview_document(yyjson_mut_doc *doc, const struct previews *p, const task *t) {
    const preview *v = p != NULL ? previews_find(p, t->id) : NULL;
    if (v == NULL) return NULL;
    char url[TASK_ID_BYTES + 64];
    snprintf(url, sizeof url, "/api/tasks/%s/preview?step=%d&image=%d", t->id, v->step, v->image);
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "url", url);
    yyjson_mut_obj_add_int(doc, o, "image", v->image);
    yyjson_mut_obj_add_int(doc, o, "step", v->step);
    yyjson_mut_obj_add_int(doc, o, "width", v->width);
    yyjson_mut_obj_add_int(doc, o, "height", v->height);
    return o;
}

static yyjson_mut_val *plan(yyjson_mut_doc *doc, const task *t) {
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (int i = 0; t->plan != NULL && i < t->plan->count; i++) yyjson_mut_arr_add_strcpy(doc, list, t->plan->steps[i]);
    return list;
}

static yyjson_mut_val *request(yyjson_mut_doc *doc, const task_request *r) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "prompt", r->prompt);
    if (r->negative_prompt != NULL) yyjson_mut_obj_add_strcpy(doc, o, "negative_prompt", r->negative_prompt);
    yyjson_mut_obj_add_int(doc, o, "width", r->width);
    yyjson_mut_obj_add_int(doc, o, "height", r->height);
    yyjson_mut_obj_add_int(doc, o, "num_inference_steps", r->steps);
    yyjson_mut_obj_add_real(doc, o, "guidance_scale", r->guidance_scale);
    yyjson_mut_obj_add_real(doc, o, "true_cfg_scale", r->true_cfg_scale);
    yyjson_mut_obj_add_int(doc, o, "max_sequence_length", r->max_sequence_length);
    yyjson_mut_obj_add_strcpy(doc, o, "precision", r->precision);
    yyjson_mut_obj_add_val(doc, o, "seed", seed_document(doc, r->seed));
    yyjson_mut_obj_add_int(doc, o, "n", r->count);
    if (r->image != NULL) {
        yyjson_mut_obj_add_strcpy(doc, o, "image", r->image);
        yyjson_mut_obj_add_real(doc, o, "strength", r->strength);
    }
    if (r->mask != NULL) {
        yyjson_mut_obj_add_strcpy(doc, o, "mask", r->mask);
        yyjson_mut_obj_add_str(doc, o, "mask_source", r->mask_is_alpha ? "alpha" : "light");
    }
    return o;
}

/* Of one that waits: until now. */
static double wait_seconds(const task *t, int64_t now_ms) {
    bool waits_first = t->status == TASK_QUEUED && !t->suspended;
    if (!waits_first) return t->metrics.wait_seconds;
    return now_ms > t->created_ms ? (double)(now_ms - t->created_ms) / 1000.0 : 0;
}

static yyjson_mut_val *metrics(yyjson_mut_doc *doc, const task *t, int64_t now_ms) {
    yyjson_mut_val *m = yyjson_mut_obj(doc);
    seconds_add(doc, m, "wait_seconds", wait_seconds(t, now_ms));
    seconds_add(doc, m, "load_seconds", t->metrics.load_seconds);
    seconds_add(doc, m, "encode_seconds", t->metrics.encode_seconds);
    seconds_add(doc, m, "denoise_seconds", t->metrics.denoise_seconds);
    seconds_add(doc, m, "decode_seconds", t->metrics.decode_seconds);
    yyjson_mut_obj_add_uint(doc, m, "memory_before", t->metrics.memory_before);
    yyjson_mut_obj_add_uint(doc, m, "memory_after", t->metrics.memory_after);
    yyjson_mut_obj_add_uint(doc, m, "memory_peak", t->metrics.memory_peak);
    yyjson_mut_obj_add_uint(doc, m, "device_peak", t->metrics.device_peak);
    yyjson_mut_obj_add_uint(doc, m, "largest_batch", t->metrics.largest_batch);
    yyjson_mut_obj_add_real(doc, m, "mean_batch", t->metrics.mean_batch);
    yyjson_mut_obj_add_bool(doc, m, "encode_cached", t->metrics.encode_cached != 0);
    return m;
}

/* From what such tasks took lately; where nothing is known of them, from the steps this one has done. Loading and encoding count as if they
 * were steps' time then, so it falls faster than time goes. */
bool task_eta(const queue_manager *q, const task *t, int64_t now_ms, double *seconds) {
    double done = task_done_fraction(t);
    if (queue_manager_eta(q, t, now_ms, seconds)) return true;
    if (t->status != TASK_RUNNING || done <= 0 || now_ms < t->started_ms) return false;
    *seconds = (double)(now_ms - t->started_ms) / 1000.0 * (1 - done) / done;
    return true;
}

static void add_eta(yyjson_mut_doc *doc, yyjson_mut_val *o, const queue_manager *q, const task *t, int64_t now_ms) {
    double seconds;
    if (task_eta(q, t, now_ms, &seconds)) seconds_add(doc, o, "eta_seconds", seconds);
    else yyjson_mut_obj_add_null(doc, o, "eta_seconds");
}

/* The class it competes in, which waiting raises. */
static void add_class(yyjson_mut_doc *doc, yyjson_mut_val *o, const queue_manager *q, const task *t, int64_t now_ms) {
    if (t->status == TASK_QUEUED) yyjson_mut_obj_add_str(doc, o, "effective_priority", policy_rank_name(queue_manager_rank(q, t, now_ms)));
    else yyjson_mut_obj_add_str(doc, o, "effective_priority", task_priority_name(t->priority));
    yyjson_mut_obj_add_bool(doc, o, "suspended", t->suspended);
}

/* Names of server/tasks/webhooks.h, in the order of their bits. */
static yyjson_mut_val *webhook(yyjson_mut_doc *doc, const task *t) {
    static const char *const events[] = {"start", "progress", "completed"};
    char text[TASK_WEBHOOK_ERROR_BYTES];
    if (t->request.webhook == NULL) return yyjson_mut_null(doc);
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "url", t->request.webhook);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, o, "events_filter");
    for (int i = 0; i < 3; i++)
        if ((t->request.webhook_events >> i & 1) != 0) yyjson_mut_arr_add_str(doc, list, events[i]);
    yyjson_mut_obj_add_int(doc, o, "attempts", t->webhook.attempts);
    yyjson_mut_obj_add_int(doc, o, "delivered", t->webhook.delivered);
    yyjson_mut_obj_add_int(doc, o, "given_up", t->webhook.given_up);
    if (t->webhook.last_error[0] == '\0') yyjson_mut_obj_add_null(doc, o, "last_error");
    else yyjson_mut_obj_add_strcpy(doc, o, "last_error", problem_text(t->webhook.last_error, text, sizeof text));
    return o;
}

yyjson_mut_val *task_document(yyjson_mut_doc *doc, const queue_manager *q, const struct previews *p, const task *t, int64_t now_ms) {
    yyjson_mut_val *o = yyjson_mut_obj(doc), *seen = task_preview_document(doc, p, t);
    yyjson_mut_obj_add_strcpy(doc, o, "id", t->id);
    yyjson_mut_obj_add_str(doc, o, "status", task_status_name(t->status));
    yyjson_mut_obj_add_str(doc, o, "priority", task_priority_name(t->priority));
    yyjson_mut_obj_add_strcpy(doc, o, "model", t->request.model);
    size_t position = queue_manager_position(q, t);
    if (position > 0) yyjson_mut_obj_add_uint(doc, o, "position", position);
    else yyjson_mut_obj_add_null(doc, o, "position");
    add_eta(doc, o, q, t, now_ms);
    add_class(doc, o, q, t, now_ms);
    add_time(doc, o, "deadline", t->request.deadline_ms);
    yyjson_mut_obj_add_val(doc, o, "progress", task_progress_document(doc, t));
    yyjson_mut_obj_add_val(doc, o, "preview", seen != NULL ? seen : yyjson_mut_null(doc));
    yyjson_mut_obj_add_val(doc, o, "images", images(doc, t));
    if (t->status == TASK_FAILED)
        yyjson_mut_obj_add_val(doc, o, "error", problem_document(doc, problem_status(t->failure.code), &t->failure));
    else yyjson_mut_obj_add_null(doc, o, "error");
    yyjson_mut_obj_add_val(doc, o, "plan", plan(doc, t));
    yyjson_mut_obj_add_val(doc, o, "metrics", metrics(doc, t, now_ms));
    yyjson_mut_obj_add_val(doc, o, "request", request(doc, &t->request));
    yyjson_mut_obj_add_bool(doc, o, "cancel_requested", t->cancel_requested);
    yyjson_mut_obj_add_val(doc, o, "webhook", webhook(doc, t));
    add_time(doc, o, "created_at", t->created_ms);
    add_time(doc, o, "started_at", t->started_ms);
    add_time(doc, o, "finished_at", t->finished_ms);
    return o;
}
