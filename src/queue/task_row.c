#include "queue/task_row.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* Parameters and columns in this order, everywhere. */
#define COLUMNS \
    "id, status, priority, sequence, owner, model, request, created_ms, started_ms, finished_ms, deadline_ms, charges, cancel_requested, images, failure, " \
    "metrics, plan, idempotency_key, body_hash, body_size, webhook"
enum column {
    ID,
    STATUS,
    PRIORITY,
    SEQUENCE,
    OWNER,
    MODEL,
    REQUEST,
    CREATED,
    STARTED,
    FINISHED,
    DEADLINE,
    CHARGES,
    CANCEL_REQUESTED,
    IMAGES,
    FAILURE,
    METRICS,
    PLAN,
    IDEMPOTENCY_KEY,
    BODY_HASH,
    BODY_SIZE,
    WEBHOOK,
};

const char task_row_schema[] = "CREATE TABLE tasks ("
                               " id TEXT PRIMARY KEY NOT NULL,"
                               " status TEXT NOT NULL,"
                               " priority TEXT NOT NULL,"
                               " sequence INTEGER NOT NULL," /* order of submission */
                               " owner TEXT,"                /* name of the API key */
                               " model TEXT NOT NULL,"
                               " request TEXT NOT NULL," /* JSON object */
                               " created_ms INTEGER NOT NULL,"
                               " started_ms INTEGER NOT NULL," /* this and the next two: 0 none */
                               " finished_ms INTEGER NOT NULL,"
                               " deadline_ms INTEGER NOT NULL,"
                               " charges INTEGER NOT NULL,"
                               " cancel_requested INTEGER NOT NULL,"
                               " images TEXT NOT NULL,"  /* JSON array: an object an image */
                               " failure TEXT,"          /* JSON object, of failed tasks */
                               " metrics TEXT NOT NULL," /* JSON object */
                               " plan TEXT,"             /* JSON array */
                               " idempotency_key TEXT,"
                               " body_hash INTEGER NOT NULL,"
                               " body_size INTEGER NOT NULL,"
                               " engine TEXT,"
                               " lease_owner TEXT,"
                               " lease_expires INTEGER"
                               ") WITHOUT ROWID;";

const char task_row_insert[] = "INSERT OR REPLACE INTO tasks (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
const char task_row_select[] = "SELECT " COLUMNS " FROM tasks ORDER BY sequence";

/* --- the JSON: tables of names and places, so that writing and reading cannot differ --- */

typedef struct field {
    const char *name;
    size_t offset;
    enum { INT, NUMBER, SIZE, TEXT, FLAG } type; /* int, double, uint64_t, const char *, bool */
    int64_t low, high;                     /* of an INT */
} field;

static const field request_fields[] = {
    {"prompt", offsetof(task_request, prompt), TEXT},
    {"negative_prompt", offsetof(task_request, negative_prompt), TEXT},
    {"precision", offsetof(task_request, precision), TEXT},
    {"width", offsetof(task_request, width), INT, 1, INT32_MAX},
    {"height", offsetof(task_request, height), INT, 1, INT32_MAX},
    {"steps", offsetof(task_request, steps), INT, 1, INT32_MAX},
    {"count", offsetof(task_request, count), INT, 1, TASK_MAX_IMAGES},
    {"max_sequence_length", offsetof(task_request, max_sequence_length), INT, 1, INT32_MAX},
    {"guidance_scale", offsetof(task_request, guidance_scale), NUMBER},
    {"true_cfg_scale", offsetof(task_request, true_cfg_scale), NUMBER},
    {"seed", offsetof(task_request, seed), SIZE},
    {"awaited", offsetof(task_request, awaited), FLAG},
    {"image", offsetof(task_request, image), TEXT},
    {"mask", offsetof(task_request, mask), TEXT},
    {"strength", offsetof(task_request, strength), NUMBER},
    {"mask_is_alpha", offsetof(task_request, mask_is_alpha), FLAG},
    {"webhook", offsetof(task_request, webhook), TEXT},
    {"webhook_events", offsetof(task_request, webhook_events), SIZE},
    {"adapter", offsetof(task_request, adapter), TEXT},
    {"adapter_data", offsetof(task_request, adapter_data), TEXT},
};

static const field metrics_fields[] = {
    {"load_seconds", offsetof(task, metrics.load_seconds), NUMBER},     {"encode_seconds", offsetof(task, metrics.encode_seconds), NUMBER},
    {"denoise_seconds", offsetof(task, metrics.denoise_seconds), NUMBER}, {"decode_seconds", offsetof(task, metrics.decode_seconds), NUMBER},
    {"wait_seconds", offsetof(task, metrics.wait_seconds), NUMBER},     {"memory_before", offsetof(task, metrics.memory_before), SIZE},
    {"memory_after", offsetof(task, metrics.memory_after), SIZE},       {"memory_peak", offsetof(task, metrics.memory_peak), SIZE},
    {"device_peak", offsetof(task, metrics.device_peak), SIZE},         {"largest_batch", offsetof(task, metrics.largest_batch), SIZE},
    {"mean_batch", offsetof(task, metrics.mean_batch), NUMBER},         {"encode_cached", offsetof(task, metrics.encode_cached), SIZE},
};

static void add_fields(yyjson_mut_doc *doc, yyjson_mut_val *o, const field *fields, size_t count, const void *from) {
    for (size_t i = 0; i < count; i++) {
        const void *at = (const char *)from + fields[i].offset;
        switch (fields[i].type) {
        case INT: yyjson_mut_obj_add_int(doc, o, fields[i].name, *(const int *)at); break;
        case NUMBER: yyjson_mut_obj_add_real(doc, o, fields[i].name, *(const double *)at); break;
        case SIZE: yyjson_mut_obj_add_uint(doc, o, fields[i].name, *(const uint64_t *)at); break;
        case FLAG: yyjson_mut_obj_add_bool(doc, o, fields[i].name, *(const bool *)at); break;
        case TEXT:
            if (*(const char *const *)at != NULL) yyjson_mut_obj_add_str(doc, o, fields[i].name, *(const char *const *)at);
            break;
        }
    }
}

/* Numbers that are absent stay as they are: an older version did not know them. */
static bool read_fields(json o, const field *fields, size_t count, void *to, error *e) {
    for (size_t i = 0; i < count; i++) {
        void *at = (char *)to + fields[i].offset;
        yyjson_val *v = json_get(o, fields[i].name).value;
        int64_t n = 0;
        switch (fields[i].type) {
        case INT:
            if (!json_require(o, fields[i].name, e) || !json_int(o, fields[i].name, fields[i].low, fields[i].high, &n, e)) return false;
            *(int *)at = (int)n;
            break;
        case NUMBER:
            if (yyjson_is_num(v)) *(double *)at = yyjson_get_num(v);
            break;
        case SIZE:
            if (yyjson_is_uint(v)) *(uint64_t *)at = yyjson_get_uint(v);
            break;
        case FLAG:
            if (yyjson_is_bool(v)) *(bool *)at = yyjson_get_bool(v);
            break;
        case TEXT:
            if (yyjson_is_str(v)) *(const char **)at = yyjson_get_str(v);
            break;
        }
    }
    return true;
}

#define COUNT(fields) (sizeof(fields) / sizeof *(fields))

/* --- writing --- */

static bool bind_text(sqlite3_stmt *s, enum column c, const char *text) {
    return (text != NULL ? sqlite3_bind_text(s, c + 1, text, -1, SQLITE_TRANSIENT) : sqlite3_bind_null(s, c + 1)) == SQLITE_OK;
}

static bool bind_number(sqlite3_stmt *s, enum column c, int64_t n) { return sqlite3_bind_int64(s, c + 1, n) == SQLITE_OK; }

/* Takes the document. */
static bool bind_document(sqlite3_stmt *s, enum column c, yyjson_mut_doc *doc, yyjson_mut_val *root) {
    size_t size = 0;
    yyjson_mut_doc_set_root(doc, root);
    /* Prompts came as JSON and are valid; names of models are names of folders and need not be. */
    char *text = json_write(doc, &size);
    if (text == NULL) return false;
    bool ok = sqlite3_bind_text(s, c + 1, text, (int)size, SQLITE_TRANSIENT) == SQLITE_OK;
    free(text);
    return ok;
}

static bool bind_fields(sqlite3_stmt *s, enum column c, const field *fields, size_t count, const void *from) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    add_fields(doc, o, fields, count, from);
    return bind_document(s, c, doc, o);
}

static bool bind_images(sqlite3_stmt *s, const task *t) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (int i = 0; i < t->request.count; i++) {
        yyjson_mut_val *image = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, image, "seed", t->images[i].seed);
        yyjson_mut_obj_add_bool(doc, image, "stored", t->images[i].stored);
        yyjson_mut_obj_add_uint(doc, image, "bytes", t->images[i].bytes);
    }
    return bind_document(s, IMAGES, doc, list);
}

static bool bind_plan(sqlite3_stmt *s, const task_plan *plan) {
    if (plan == NULL) return bind_text(s, PLAN, NULL);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (int i = 0; i < plan->count; i++) yyjson_mut_arr_add_str(doc, list, plan->steps[i]);
    return bind_document(s, PLAN, doc, list);
}

static bool bind_webhook(sqlite3_stmt *s, const task *t) {
    if (t->request.webhook == NULL) return bind_text(s, WEBHOOK, NULL);
    const task_webhook *w = &t->webhook;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_bool(doc, o, "started", w->started);
    yyjson_mut_obj_add_int(doc, o, "attempts", w->attempts);
    yyjson_mut_obj_add_int(doc, o, "delivered", w->delivered);
    yyjson_mut_obj_add_int(doc, o, "given_up", w->given_up);
    yyjson_mut_obj_add_str(doc, o, "last_error", w->last_error);
    return bind_document(s, WEBHOOK, doc, o);
}

static bool bind_failure(sqlite3_stmt *s, const error *failure) {
    if (failure->code == ERROR_NONE) return bind_text(s, FAILURE, NULL);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, o, "code", error_code_name(failure->code));
    yyjson_mut_obj_add_str(doc, o, "field", failure->field);
    yyjson_mut_obj_add_str(doc, o, "text", failure->text);
    return bind_document(s, FAILURE, doc, o);
}

bool task_row_bind(sqlite3_stmt *s, const task *t) {
    const task_request *r = &t->request;
    return bind_text(s, ID, t->id) && bind_text(s, STATUS, task_status_name(t->closing ? t->end : t->status)) &&
           bind_text(s, PRIORITY, task_priority_name(t->priority)) && bind_number(s, SEQUENCE, (int64_t)t->sequence) &&
           bind_text(s, OWNER, r->owner) && bind_text(s, MODEL, r->model) &&
           bind_fields(s, REQUEST, request_fields, COUNT(request_fields), r) && bind_number(s, CREATED, t->created_ms) &&
           bind_number(s, STARTED, t->started_ms) && bind_number(s, FINISHED, t->finished_ms) && bind_number(s, DEADLINE, r->deadline_ms) &&
           bind_number(s, CHARGES, t->charges) && bind_number(s, CANCEL_REQUESTED, t->cancel_requested) && bind_images(s, t) &&
           bind_failure(s, &t->failure) && bind_fields(s, METRICS, metrics_fields, COUNT(metrics_fields), t) && bind_plan(s, t->plan) &&
           bind_text(s, IDEMPOTENCY_KEY, r->idempotency_key) && bind_number(s, BODY_HASH, (int64_t)r->body_hash) &&
           bind_number(s, BODY_SIZE, (int64_t)r->body_size) && bind_webhook(s, t);
}

/* --- reading --- */

static const char *text_of(sqlite3_stmt *s, enum column c) { return (const char *)sqlite3_column_text(s, c); }

static bool open_document(sqlite3_stmt *s, enum column c, const char *source, json_document *doc, error *e) {
    const char *text = text_of(s, c);
    if (text == NULL) return error_set(e, ERROR_BAD_FILE, "%s: the column %s is empty", source, sqlite3_column_name(s, c));
    return json_parse(text, (size_t)sqlite3_column_bytes(s, c), source, doc, e);
}

/* The request's texts are copied into the task before their document goes. */
static bool read_request(sqlite3_stmt *s, const char *source, task *t, error *e) {
    json_document doc;
    if (!open_document(s, REQUEST, source, &doc, e)) return false;
    task_request *r = &t->request;
    bool ok = read_fields(json_root(&doc), request_fields, COUNT(request_fields), r, e);
    r->model = text_of(s, MODEL);
    r->owner = text_of(s, OWNER);
    r->idempotency_key = text_of(s, IDEMPOTENCY_KEY);
    if (ok && (r->prompt == NULL || r->precision == NULL || r->model == NULL))
        ok = error_set(e, ERROR_BAD_FILE, "%s: its prompt, precision or model is missing", source);
    if (ok && !task_keep_texts(t)) ok = error_no_memory(e, "a task's texts", strlen(r->prompt != NULL ? r->prompt : ""));
    json_document_free(&doc);
    return ok;
}

static bool read_metrics(sqlite3_stmt *s, const char *source, task *t, error *e) {
    json_document doc;
    if (!open_document(s, METRICS, source, &doc, e)) return false;
    bool ok = read_fields(json_root(&doc), metrics_fields, COUNT(metrics_fields), t, e);
    json_document_free(&doc);
    return ok;
}

static bool read_images(sqlite3_stmt *s, const char *source, task *t, error *e) {
    json_document doc;
    if (!open_document(s, IMAGES, source, &doc, e)) return false;
    yyjson_val *list = json_root(&doc).value;
    bool ok = yyjson_arr_size(list) == (size_t)t->request.count ||
              error_set(e, ERROR_BAD_FILE, "%s: it has another number of images than was asked for", source);
    for (int i = 0; ok && i < t->request.count; i++) {
        yyjson_val *image = yyjson_arr_get(list, (size_t)i);
        t->images[i] = (task_image){.stored = yyjson_get_bool(yyjson_obj_get(image, "stored")),
                                    .seed = yyjson_get_uint(yyjson_obj_get(image, "seed")),
                                    .bytes = yyjson_get_uint(yyjson_obj_get(image, "bytes"))};
    }
    json_document_free(&doc);
    return ok;
}

static bool read_plan(sqlite3_stmt *s, const char *source, task *t, error *e) {
    if (sqlite3_column_type(s, PLAN) == SQLITE_NULL) return true;
    json_document doc;
    if (!open_document(s, PLAN, source, &doc, e)) return false;
    yyjson_val *list = json_root(&doc).value;
    t->plan = arena_alloc(&t->memory, sizeof *t->plan);
    for (size_t i = 0; t->plan != NULL && i < yyjson_arr_size(list) && i < TASK_PLAN_STEPS; i++) {
        const char *text = yyjson_get_str(yyjson_arr_get(list, i));
        snprintf(t->plan->steps[t->plan->count++], sizeof t->plan->steps[0], "%s", text != NULL ? text : "");
    }
    json_document_free(&doc);
    return t->plan != NULL || error_no_memory(e, "a task's plan", sizeof *t->plan);
}

/* Absent in rows that an older version wrote. */
static bool read_webhook(sqlite3_stmt *s, const char *source, task *t, error *e) {
    if (sqlite3_column_type(s, WEBHOOK) == SQLITE_NULL) return true;
    json_document doc;
    if (!open_document(s, WEBHOOK, source, &doc, e)) return false;
    yyjson_val *o = json_root(&doc).value;
    const char *text = yyjson_get_str(yyjson_obj_get(o, "last_error"));
    t->webhook = (task_webhook){.started = yyjson_get_bool(yyjson_obj_get(o, "started")),
                                .attempts = yyjson_get_int(yyjson_obj_get(o, "attempts")),
                                .delivered = yyjson_get_int(yyjson_obj_get(o, "delivered")),
                                .given_up = yyjson_get_int(yyjson_obj_get(o, "given_up"))};
    snprintf(t->webhook.last_error, sizeof t->webhook.last_error, "%s", text != NULL ? text : "");
    json_document_free(&doc);
    return true;
}

static error_code code_named(const char *name) {
    for (int c = ERROR_INVALID; c <= ERROR_INTERNAL; c++)
        if (name != NULL && strcmp(error_code_name((error_code)c), name) == 0) return (error_code)c;
    return ERROR_INTERNAL;
}

static bool read_failure(sqlite3_stmt *s, const char *source, task *t, error *e) {
    if (sqlite3_column_type(s, FAILURE) == SQLITE_NULL) return true;
    json_document doc;
    if (!open_document(s, FAILURE, source, &doc, e)) return false;
    yyjson_val *o = json_root(&doc).value;
    const char *text = yyjson_get_str(yyjson_obj_get(o, "text")), *field_name = yyjson_get_str(yyjson_obj_get(o, "field"));
    error_code code = code_named(yyjson_get_str(yyjson_obj_get(o, "code")));
    error_field(&t->failure, code, field_name != NULL ? field_name : "", "%s", text != NULL ? text : "");
    json_document_free(&doc);
    return true;
}

static bool read_names(sqlite3_stmt *s, const char *source, task *t, error *e) {
    const char *id = text_of(s, ID), *status = text_of(s, STATUS), *priority = text_of(s, PRIORITY);
    if (id == NULL || !task_id_valid(id)) return error_set(e, ERROR_BAD_FILE, "%s: its id is none", source);
    memcpy(t->id, id, sizeof t->id);
    if (status == NULL || !task_status_parse(status, &t->status) || priority == NULL || !task_priority_parse(priority, &t->priority))
        return error_set(e, ERROR_BAD_FILE, "%s: its status or priority is none", source);
    return true;
}

bool task_row_read(sqlite3_stmt *s, task **out, error *e) {
    char source[96];
    snprintf(source, sizeof source, "the row of task %.40s", text_of(s, ID) != NULL ? text_of(s, ID) : "(none)");
    task *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a task", sizeof *t);
    if (!read_names(s, source, t, e) || !read_request(s, source, t, e) || !read_metrics(s, source, t, e) || !read_images(s, source, t, e) ||
        !read_plan(s, source, t, e) || !read_failure(s, source, t, e) || !read_webhook(s, source, t, e)) {
        if (e != NULL && e->code == ERROR_INVALID) e->code = ERROR_BAD_FILE;
        arena_free(&t->memory);
        free(t);
        return false;
    }
    t->sequence = (uint64_t)sqlite3_column_int64(s, SEQUENCE);
    t->created_ms = sqlite3_column_int64(s, CREATED);
    t->started_ms = sqlite3_column_int64(s, STARTED);
    t->finished_ms = sqlite3_column_int64(s, FINISHED);
    t->request.deadline_ms = sqlite3_column_int64(s, DEADLINE);
    t->charges = sqlite3_column_int(s, CHARGES);
    t->cancel_requested = sqlite3_column_int(s, CANCEL_REQUESTED) != 0;
    t->request.body_hash = (uint64_t)sqlite3_column_int64(s, BODY_HASH);
    t->request.body_size = (uint64_t)sqlite3_column_int64(s, BODY_SIZE);
    t->steps = t->request.steps;
    *out = t;
    return true;
}
