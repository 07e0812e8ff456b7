#include "server/api/native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/access/owner.h"
#include "server/api/metrics.h"
#include "server/api/native_body.h"
#include "server/api/native_images.h"
#include "server/api/native_models.h"
#include "server/api/native_openapi.h"
#include "server/api/native_page.h"
#include "server/api/native_preview.h"
#include "server/api/native_queue.h"
#include "server/api/native_stats.h"
#include "server/api/native_system.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/request_fields.h"
#include "server/requests/request_pictures.h"
#include "server/requests/services.h"
#include "server/tasks/task_document.h"

enum { LIST_DEFAULT = 100, LIST_MAX = 1000, WAIT_MAX_SECONDS = 300, DELETE_WAIT_MS = 10 * 1000 };

/* --- answers --- */

static void answer_task(services *s, http_exchange *x, int status, const task *t) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, task_document(doc, s->queue, s->previews, t, clock_unix_ms()));
    answer_json(x, status, NULL, doc);
}

static void add_location(http_exchange *x, const task *t) {
    char location[TASK_ID_BYTES + 16];
    snprintf(location, sizeof location, "/api/tasks/%s", t->id);
    http_add_header(x, "location", location);
}

static void answer_waited(services *s, http_exchange *x, task *t) {
    add_location(x, t);
    answer_task(s, x, task_status_is_final(t->status) ? 200 : 202, t);
}

static task *find_task(services *s, http_exchange *x, const char *id) {
    task *t = task_id_valid(id) ? queue_manager_find(s->queue, id) : NULL;
    error why;
    if (t != NULL && owner_sees(x, t)) return t;
    error_set(&why, ERROR_NOT_FOUND, "there is no task '%.64s'", id);
    problem_answer(x, 0, &why);
    return NULL;
}

/* --- POST /api/tasks --- */

/* Milliseconds of "Prefer: wait=N"; −1: not asked for. Preferences are separated by commas; those that mean nothing here are ignored. */
static int64_t preferred_wait(const http_exchange *x) {
    const char *text = http_header(x, "prefer");
    for (; text != NULL && *text != '\0'; text += strcspn(text, ","), text += *text == ',') {
        text += strspn(text, " \t");
        if (strncmp(text, "wait", 4) != 0) continue;
        const char *at = text + 4 + strspn(text + 4, " \t");
        if (*at++ != '=') continue;
        at += strspn(at, " \t\"");
        if (*at < '0' || *at > '9') continue;
        long seconds = strtol(at, NULL, 10);
        return (int64_t)(seconds < WAIT_MAX_SECONDS ? seconds : WAIT_MAX_SECONDS) * 1000;
    }
    return -1;
}

static const char *const task_fields[] = {
    "prompt",
    "negative_prompt",
    "model",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "true_cfg_scale",
    "max_sequence_length",
    "precision",
    "seed",
    "n",
    "priority",
    "deadline_seconds",
    "image",
    "mask",
    "mask_source",
    "strength",
    "webhook",
    "webhook_events_filter",
    NULL,
};

static bool read_task(services *s, const http_exchange *x, json body, request_pictures *pictures, task_request *request,
                      task_priority *priority, error *e) {
    const char *name = NULL;
    const model_info *model;
    return request_fields_only(body, task_fields, e) && json_text(body, "model", MODEL_NAME_BYTES - 1, &name, e) &&
           catalog_find(s->catalog, name, &model, e) && request_fields_defaults(model, request, e) &&
           request_pictures_read(s, x, body, model, pictures, request, e) &&
           request_fields_read(body, model, TASK_MAX_IMAGES, request, e) && request_fields_priority(body, priority, e) &&
           webhooks_read(s->webhooks, body, request, e);
}

static void answer_submitted(services *s, http_exchange *x, task *t, const error *why) {
    if (t == NULL) {
        int seconds, status = submission_refusal(s, why, &seconds);
        if (status == 429) problem_answer_busy(x, why, seconds);
        else problem_answer(x, status, why);
        return;
    }
    int64_t wait = preferred_wait(x);
    if (wait >= 0) {
        http_add_header(x, "preference-applied", "wait");
        if (waits_add(s->waits, x, t, wait, false, answer_waited, NULL)) return;
    }
    add_location(x, t);
    answer_task(s, x, 202, t);
}

/* Answers with the task that the request's Idempotency-Key made before; false when there is none. */
static bool answer_again(services *s, http_exchange *x, const char *key, const buffer *body) {
    char owner[OWNER_BYTES];
    const char *made;
    error why = {0};
    if (!idempotency_find(s->idempotency, owner_of(x, owner), key, body, &made, &why)) {
        problem_answer(x, 0, &why);
        return true;
    }
    task *t = made != NULL ? queue_manager_find(s->queue, made) : NULL;
    if (t != NULL) answer_submitted(s, x, t, NULL);
    return t != NULL || (made != NULL && submissions_join(s->submissions, x, made, answer_submitted));
}

static void post_task_with(services *s, http_exchange *x, request_pictures *pictures);

/* A made picture that the request names is an input now: from the top again. */
static void go_on_with_picture(services *s, http_exchange *x, const input *i, const error *why, void *context) {
    request_pictures pictures = *(request_pictures *)context;
    free(context);
    if (x == NULL) return;
    if (i != NULL) {
        request_pictures_adopted(&pictures, i);
        post_task_with(s, x, &pictures);
    } else {
        problem_answer(x, why->code == ERROR_NOT_FOUND ? 409 : 0, why);
    }
}

static void adopt_picture(services *s, http_exchange *x, const request_pictures *pictures) {
    error why = {0};
    request_pictures *kept = malloc(sizeof *kept);
    if (kept != NULL) *kept = *pictures;
    else error_no_memory(&why, "a request", sizeof *kept);
    if (kept != NULL && request_pictures_adopt(s, x, kept, go_on_with_picture, kept, &why)) return;
    free(kept);
    problem_answer(x, 0, &why);
}

static void post_task_with(services *s, http_exchange *x, request_pictures *pictures) {
    const char *key = http_header(x, "idempotency-key");
    const buffer *body = http_request_body(x);
    json_document doc;
    if ((key != NULL && answer_again(s, x, key, body)) || !native_read_body(x, &doc)) return;
    task_request request;
    task_priority priority = PRIORITY_NORMAL;
    error why = {0};
    if (!read_task(s, x, json_root(&doc), pictures, &request, &priority, &why)) {
        problem_answer(x, 0, &why);
    } else if (pictures->wanted[0] != '\0') {
        adopt_picture(s, x, pictures);
    } else {
        char owner[OWNER_BYTES];
        request.owner = owner_of(x, owner);
        request.idempotency_key = key;
        request.body_hash = key != NULL ? idempotency_hash(body) : 0;
        request.body_size = key != NULL ? body->size : 0;
        submissions_add(s->submissions, x, &request, priority, false, answer_submitted);
    }
    json_document_free(&doc);
}

static void post_task(services *s, http_exchange *x, const char *id) {
    (void)id;
    post_task_with(s, x, &(request_pictures){0});
}

/* --- /api/tasks/{id} --- */

static void get_task(services *s, http_exchange *x, const char *id) {
    task *t = find_task(s, x, id);
    int64_t wait = preferred_wait(x);
    if (t == NULL || (wait >= 0 && waits_add(s->waits, x, t, wait, false, answer_waited, NULL))) return;
    answer_task(s, x, 200, t);
}

static void answer_deleted(services *s, http_exchange *x, task *t) {
    answer_task(s, x, task_status_is_final(t->status) ? 200 : 202, t);
}

static void delete_task(services *s, http_exchange *x, const char *id) {
    task *t = find_task(s, x, id);
    if (t == NULL) return;
    bool at_once;
    error why = {0};
    if (!dispatch_cancel(s->dispatch, t, &at_once, &why)) problem_answer(x, 409, &why);
    /* It is cancelled when that is on disk, which may take as long as the disk does. */
    else if (!at_once || task_keeper_trouble(s->keeper) != NULL || !waits_add(s->waits, x, t, DELETE_WAIT_MS, false, answer_deleted, NULL))
        answer_deleted(s, x, t);
}

static void patch_task(services *s, http_exchange *x, const char *id) {
    static const char *const known[] = {"priority", NULL};
    task *t = find_task(s, x, id);
    json_document doc;
    if (t == NULL || !native_read_body(x, &doc)) return;
    json body = json_root(&doc);
    task_priority priority = t->priority;
    error why = {0};
    bool ok =
        request_fields_only(body, known, &why) && json_require(body, "priority", &why) && request_fields_priority(body, &priority, &why);
    json_document_free(&doc);
    if (!ok) problem_answer(x, 0, &why);
    else if (!dispatch_set_priority(s->dispatch, t, priority, &why)) problem_answer(x, 409, &why);
    else answer_task(s, x, 200, t);
}

static void get_task_events(services *s, http_exchange *x, const char *id) {
    const task *t = find_task(s, x, id);
    if (t != NULL) events_answer(s->events, x, t);
}

static void get_task_preview(services *s, http_exchange *x, const char *id) {
    const task *t = find_task(s, x, id);
    if (t != NULL) native_answer_preview(s, x, t);
}

static void get_events(services *s, http_exchange *x, const char *id) {
    (void)id;
    events_answer(s->events, x, NULL);
}

/* --- GET /api/tasks --- */

static bool read_list_query(const http_exchange *x, bool *filtered, task_status *status, int *limit, error *e) {
    const char *wanted = http_query(x, "status");
    *filtered = wanted != NULL;
    *limit = LIST_DEFAULT;
    if (wanted != NULL && !task_status_parse(wanted, status))
        return error_field(e, ERROR_INVALID, "status",
                           "'%.32s' is no status: it must be queued, loading, running, completed, failed or cancelled", wanted);
    return native_read_number(x, "limit", LIST_MAX, limit, e);
}

static void list_tasks(services *s, http_exchange *x, const char *id) {
    (void)id;
    bool filtered;
    task_status status = TASK_QUEUED;
    int limit;
    error why = {0};
    if (!read_list_query(x, &filtered, &status, &limit, &why)) {
        problem_answer(x, 0, &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list = yyjson_mut_obj_add_arr(doc, root, "tasks");
    int64_t now = clock_unix_ms();
    for (task *t = queue_manager_first(s->queue); t != NULL && limit > 0; t = queue_manager_after(t)) {
        if ((filtered && t->status != status) || !owner_sees(x, t)) continue;
        yyjson_mut_arr_append(list, task_document(doc, s->queue, s->previews, t, now));
        limit--;
    }
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

static const route routes[] = {
    {"POST", "/api/tasks", post_task},
    {"GET", "/api/tasks", list_tasks},
    {"GET", "/api/tasks/{id}", get_task},
    {"DELETE", "/api/tasks/{id}", delete_task},
    {"PATCH", "/api/tasks/{id}", patch_task},
    {"GET", "/api/tasks/{id}/events", get_task_events},
    {"GET", "/api/tasks/{id}/preview", get_task_preview},
    {"GET", "/api/events", get_events},
    {"POST", "/api/images", native_post_image, NATIVE_UPLOAD_BYTES + (64 << 10)}, /* a form's heads come on top */
    {"GET", "/api/images", native_list_images},
    {"GET", "/api/images/{id}", native_get_image},
    {"DELETE", "/api/images/{id}", native_delete_image},
    {"GET", "/api/system/models", native_get_models},
    {"POST", "/api/system/models/{id}/load", native_load_model},
    {"POST", "/api/system/models/{id}/preload", native_preload_model},
    {"POST", "/api/system/models/{id}/unload", native_unload_model},
    {"POST", "/api/system/cleanup", native_cleanup},
    {"GET", "/api/system/stats", native_get_stats},
    {"POST", "/api/system/queue/pause", native_pause_queue},
    {"POST", "/api/system/queue/resume", native_resume_queue},
    {"GET", "/metrics", metrics_get},
    {"GET", "/health", native_get_health},
    {"GET", "/health/ready", native_get_ready},
    {"GET", "/openapi.json", native_get_openapi},
    {"GET", "/", native_get_page},
    {"GET", "/ui/{id}", native_get_page_file},
};

const route_table native_api = {"", routes, sizeof routes / sizeof *routes, problem_answer};
