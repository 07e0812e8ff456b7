#include "server/api/a1111_progress.h"

#include <string.h>

#include "base/base64.h"
#include "base/clock.h"
#include "server/access/owner.h"
#include "server/api/a1111_errors.h"
#include "server/api/a1111_info.h"
#include "server/http/answer.h"
#include "server/requests/services.h"
#include "server/tasks/task_document.h"

enum { PREVIEW_SIDE = 384, PREVIEW_QUALITY = 80 };

static const double least_progress = 0.01; /* of a job, as A1111 has it: 0 means that there is none */

static bool is_job(const http_exchange *x, const task *t) {
    return !task_status_is_final(t->status) && t->request.adapter != NULL && strcmp(t->request.adapter, "a1111") == 0 && owner_sees(x, t);
}

static bool has_started(const task *t) { return task_status_holds_slot(t->status) || t->suspended; }

/* NULL: there is none. */
static task *job_at_hand(const services *s, const http_exchange *x) {
    task *started = NULL, *waiting = NULL;
    for (task *t = queue_manager_first(s->queue); t != NULL; t = queue_manager_after(t)) {
        if (!is_job(x, t)) continue;
        if (!has_started(t)) waiting = t;
        else if (started == NULL || t->started <= started->started) started = t;
    }
    return started != NULL ? started : waiting;
}

/* --- GET progress --- */

static double progress_of(const task *t) {
    double done = task_done_fraction(t);
    return done < least_progress ? least_progress : done > 1 ? 1 : done;
}

static void add_state(yyjson_mut_doc *doc, yyjson_mut_val *root, const task *t) {
    char time[A1111_TIME_BYTES];
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "state");
    bool interrupted = t != NULL && (t->cancel_requested || (t->closing && t->end == TASK_CANCELLED));
    yyjson_mut_obj_add_bool(doc, o, "skipped", false);
    yyjson_mut_obj_add_bool(doc, o, "interrupted", interrupted);
    yyjson_mut_obj_add_bool(doc, o, "stopping_generation", false);
    yyjson_mut_obj_add_strcpy(doc, o, "job", t != NULL ? t->id : "");
    yyjson_mut_obj_add_int(doc, o, "job_count", t != NULL ? t->request.count : 0);
    yyjson_mut_obj_add_strcpy(doc, o, "job_timestamp", a1111_time(t != NULL ? t->created_ms : clock_unix_ms(), time));
    yyjson_mut_obj_add_int(doc, o, "job_no", t != NULL ? t->image : 0);
    yyjson_mut_obj_add_int(doc, o, "sampling_step", t != NULL ? t->step : 0);
    yyjson_mut_obj_add_int(doc, o, "sampling_steps", t != NULL ? t->request.steps : 0);
}

static void add_preview(yyjson_mut_doc *doc, yyjson_mut_val *root, const preview *v) {
    buffer jpeg = {0}, text = {0};
    bool ok = v != NULL && preview_encode(v, PREVIEW_SIDE, IMAGE_JPEG, PREVIEW_QUALITY, &jpeg, NULL);
    char *to = ok ? buffer_reserve(&text, BASE64_SIZE(jpeg.size)) : NULL;
    if (to != NULL) base64_encode((const uint8_t *)jpeg.data, jpeg.size, to);
    if (to != NULL) yyjson_mut_obj_add_strncpy(doc, root, "current_image", to, BASE64_SIZE(jpeg.size));
    else yyjson_mut_obj_add_null(doc, root, "current_image");
    buffer_free(&jpeg);
    buffer_free(&text);
}

void a1111_get_progress(services *s, http_exchange *x, const char *id) {
    (void)id;
    const task *t = job_at_hand(s, x);
    const char *skip = http_query(x, "skip_current_image");
    bool wanted = skip == NULL || (strcmp(skip, "true") != 0 && strcmp(skip, "True") != 0 && strcmp(skip, "1") != 0);
    double eta = 0;
    if (t != NULL && !task_eta(s->queue, t, clock_unix_ms(), &eta)) eta = 0;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_real(doc, root, "progress", t != NULL ? progress_of(t) : 0);
    yyjson_mut_obj_add_real(doc, root, "eta_relative", eta);
    add_state(doc, root, t);
    add_preview(doc, root, wanted && t != NULL ? previews_find(s->previews, t->id) : NULL);
    if (t != NULL && !has_started(t)) yyjson_mut_obj_add_str(doc, root, "textinfo", "Waiting...");
    else yyjson_mut_obj_add_null(doc, root, "textinfo");
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

/* --- POST interrupt, skip --- */

static void cancel_jobs(services *s, http_exchange *x) {
    task *at_hand = job_at_hand(s, x);
    bool at_once;
    if (at_hand == NULL) return;
    if (!has_started(at_hand)) {
        dispatch_cancel(s->dispatch, at_hand, &at_once, NULL);
        return;
    }
    for (task *t = queue_manager_first(s->queue), *next; t != NULL; t = next) {
        next = queue_manager_after(t);
        if (is_job(x, t) && has_started(t)) dispatch_cancel(s->dispatch, t, &at_once, NULL);
    }
}

void a1111_interrupt(services *s, http_exchange *x, const char *id) {
    (void)id;
    cancel_jobs(s, x);
    answer_text(x, 200, "application/json", "{}");
}

/* A task's pictures are one job: there is no next one in it to go on with. */
void a1111_skip(services *s, http_exchange *x, const char *id) {
    (void)id;
    cancel_jobs(s, x);
    answer_text(x, 200, "application/json", "null");
}
