#include "server/api/openai.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "server/answer.h"
#include "server/owner.h"
#include "server/problem.h"
#include "server/request_fields.h"
#include "server/services.h"

enum { MAX_IMAGES = 10 };

/* --- errors --- */

static const char *error_type(int status) {
    return status == 429 ? "rate_limit_error" : status >= 500 ? "server_error" : "invalid_request_error";
}

enum { RETRY_SECONDS = 5 }; /* where nothing better is known */

static void answer_error_retry(http_exchange *x, int status, const char *code, const error *why, int retry_seconds) {
    char text[ERROR_TEXT_BYTES], field[ERROR_FIELD_BYTES];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *o = yyjson_mut_obj_add_obj(doc, root, "error");
    yyjson_mut_obj_add_strcpy(doc, o, "message", problem_text(why->text, text, sizeof text));
    yyjson_mut_obj_add_str(doc, o, "type", error_type(status));
    if (why->field[0] != '\0') yyjson_mut_obj_add_strcpy(doc, o, "param", problem_text(why->field, field, sizeof field));
    else yyjson_mut_obj_add_null(doc, o, "param");
    yyjson_mut_obj_add_str(doc, o, "code", code);
    yyjson_mut_doc_set_root(doc, root);
    if (status == 429) problem_retry_after(x, retry_seconds);
    answer_json(x, status, NULL, doc);
}

static void answer_error_code(http_exchange *x, int status, const char *code, const error *why) {
    answer_error_retry(x, status, code, why, RETRY_SECONDS);
}

static void answer_error(http_exchange *x, int status, const error *why) {
    if (status == 0) status = problem_status(why->code);
    if (status == 422) status = 400;
    answer_error_code(x, status, status == 429 ? "rate_limit_exceeded" : status == 401 ? "invalid_api_key" : error_code_name(why->code), why);
}

/* --- models --- */

static bool is_alias(const char *name) {
    static const char *const families[] = {"gpt-image-", "dall-e-", "chatgpt-image-"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strncmp(name, families[i], strlen(families[i])) == 0) return true;
    return false;
}

/* OpenAI's own names stand for the default model, unless a model here is really called so. */
static bool find_model(services *s, const char *name, const model_info **out, error *e) {
    bool exists = name != NULL && model_list_find(catalog_list(s->catalog), name) != NULL;
    return catalog_find(s->catalog, name == NULL || (!exists && is_alias(name)) ? NULL : name, out, e);
}

static yyjson_mut_val *model_document(yyjson_mut_doc *doc, const char *name) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "id", name);
    yyjson_mut_obj_add_str(doc, o, "object", "model");
    yyjson_mut_obj_add_int(doc, o, "created", 0);
    yyjson_mut_obj_add_str(doc, o, "owned_by", "imagined");
    return o;
}

static void list_models(services *s, http_exchange *x, const char *id) {
    (void)id;
    const model_list *list = catalog_list(s->catalog);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, root, "object", "list");
    yyjson_mut_val *data = yyjson_mut_obj_add_arr(doc, root, "data");
    for (size_t i = 0; i < list->count; i++) yyjson_mut_arr_append(data, model_document(doc, list->models[i].name));
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

static void get_model(services *s, http_exchange *x, const char *id) {
    const model_info *model;
    error why = {0};
    if (!find_model(s, id, &model, &why)) {
        answer_error_code(x, 404, "model_not_found", &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, model_document(doc, id));
    answer_json(x, 200, NULL, doc);
}

/* --- a request's own fields --- */

/* "auto" is the model's size. */
static bool read_size(json body, task_request *io, error *e) {
    const char *text = NULL;
    if (!json_text(body, "size", 32, &text, e)) return false;
    if (text == NULL || strcmp(text, "auto") == 0) return true;
    int used = 0;
    bool plain = strspn(text, "0123456789x") == strlen(text) && strlen(text) <= 11;
    if (!plain || sscanf(text, "%dx%d%n", &io->width, &io->height, &used) != 2 || text[used] != '\0')
        return json_complain(body, "size", e, "is '%s': it must look like 1024x1024, or be auto", text);
    if (io->width < 1 || io->width > MODEL_MAX_SIDE || io->height < 1 || io->height > MODEL_MAX_SIDE)
        return json_complain(body, "size", e, "is %s: each side must be from 1 to %d", text, MODEL_MAX_SIDE);
    return true;
}

static bool read_choices(json body, bool *as_url, error *e) {
    const char *response = NULL, *output = NULL;
    bool stream = false;
    if (!json_text(body, "response_format", 16, &response, e) || !json_text(body, "output_format", 16, &output, e) ||
        !json_bool(body, "stream", &stream, e))
        return false;
    if (stream) return error_field(e, ERROR_UNSUPPORTED, "stream", "streaming is not available yet");
    if (output != NULL && strcmp(output, "png") != 0)
        return error_field(e, ERROR_UNSUPPORTED, "output_format", "the 'output_format' %s is not available: only png is", output);
    *as_url = response != NULL && strcmp(response, "url") == 0;
    if (response != NULL && !*as_url && strcmp(response, "b64_json") != 0)
        return json_complain(body, "response_format", e, "must be b64_json or url");
    return true;
}

/* A size that came as "size" is complained about under that name. */
static bool read_fields(json body, const model_info *model, task_request *request, error *e) {
    if (!request_fields_defaults(model, request, e) || !read_size(body, request, e)) return false;
    if (request_fields_read(body, model, MAX_IMAGES, request, e)) return true;
    bool side = strcmp(e->field, "width") == 0 || strcmp(e->field, "height") == 0;
    if (side && json_get(body, e->field).value == NULL) {
        snprintf(e->field, sizeof e->field, "size");
        error_prefix(e, "'size': ");
    }
    return false;
}

/* --- the answer --- */

static void begin_answer(buffer *out, const task *t) {
    buffer_printf(out, "{\"created\":%lld,\"output_format\":\"png\",\"size\":\"%dx%d\",\"data\":[", (long long)(t->finished_ms / 1000),
                  t->request.width, t->request.height);
}

static void answer_failure(services *s, http_exchange *x, const task *t) {
    error why = t->failure;
    int status = 0;
    if (t->status == TASK_CANCELLED) error_set(&why, ERROR_CANCELLED, "the task was cancelled");
    else if (t->status != TASK_FAILED) {
        error_set(&why, ERROR_BUSY, "the server is about to stop and starts no further tasks");
        status = 503;
    } else {
        /* The same request would fail again: the client library must not send it anew. */
        http_add_header(x, "x-should-retry", "false");
    }
    (void)s;
    answer_error(x, status, &why);
}

/* One picture a turn: {"b64_json":"…"}, read from disk only when it is sent. */
static bool add_picture(services *s, http_body *body, buffer *text, const task *t, int index, error *e) {
    char id[PICTURE_ID_BYTES], path[PATH_MAX];
    picture_id_format(t->id, index, id);
    buffer_append_text(text, index > 0 ? ",{\"b64_json\":\"" : "{\"b64_json\":\"");
    if (!picture_store_path(s->pictures, id, path, e) || !http_body_add(body, text, e) || !http_body_add_file(body, path, true, e))
        return false;
    buffer_append_text(text, "\"}");
    return true;
}

static void answer_base64(services *s, http_exchange *x, task *t) {
    if (t->status != TASK_COMPLETED) {
        answer_failure(s, x, t);
        return;
    }
    http_body body = {0};
    buffer text = {0};
    error why = {0};
    begin_answer(&text, t);
    bool ok = true;
    for (int i = 0; ok && i < t->request.count; i++) ok = add_picture(s, &body, &text, t, i, &why);
    buffer_append_text(&text, "]}");
    ok = ok && http_body_add(&body, &text, &why);
    buffer_free(&text);
    if (ok) {
        http_respond(x, 200, "application/json", &body);
    } else {
        http_body_free(&body);
        answer_error(x, 500, &why);
    }
}

static void answer_urls(services *s, http_exchange *x, task *t) {
    if (t->status != TASK_COMPLETED) {
        answer_failure(s, x, t);
        return;
    }
    const char *host = http_header(x, "host");
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:[]";
    if (host == NULL || strspn(host, allowed) != strlen(host)) host = http_server_address(s->http);
    http_body body = {0};
    buffer text = {0};
    begin_answer(&text, t);
    for (int i = 0; i < t->request.count; i++) {
        char id[PICTURE_ID_BYTES];
        picture_id_format(t->id, i, id);
        buffer_printf(&text, "%s{\"url\":\"http://%s/api/images/%s\"}", i > 0 ? "," : "", host, id);
    }
    buffer_append_text(&text, "]}");
    if (http_body_add(&body, &text, NULL)) http_respond(x, 200, "application/json", &body);
    else answer_empty(x, 503);
}

/* --- POST /v1/images/generations --- */

static void await_end(services *s, http_exchange *x, task *t, const error *why, wait_answer answer) {
    error fault;
    if (t == NULL) {
        bool busy = why->code == ERROR_BUSY, draining = dispatch_draining(s->dispatch);
        if (busy && !draining) answer_error_retry(x, 429, "rate_limit_exceeded", why, queue_manager_retry_after(s->queue, clock_unix_ms()));
        else answer_error(x, busy ? 503 : 0, why);
    } else if (!waits_add(s->waits, x, t, -1, true, answer, &fault)) {
        bool at_once;
        if (!task_status_is_final(t->status)) dispatch_cancel(s->dispatch, t, &at_once, NULL);
        answer_error(x, 0, &fault);
    }
}

static void await_base64(services *s, http_exchange *x, task *t, const error *why) { await_end(s, x, t, why, answer_base64); }
static void await_urls(services *s, http_exchange *x, task *t, const error *why) { await_end(s, x, t, why, answer_urls); }

static void generate_from(services *s, http_exchange *x, json body) {
    const char *name = NULL;
    const model_info *model;
    task_request request;
    bool as_url = false;
    error why = {0};
    if (!json_text(body, "model", MODEL_NAME_BYTES - 1, &name, &why)) {
        answer_error(x, 400, &why);
    } else if (!find_model(s, name, &model, &why)) {
        answer_error_code(x, 404, "model_not_found", &why);
    } else if (!read_choices(body, &as_url, &why) || !read_fields(body, model, &request, &why)) {
        answer_error(x, 0, &why);
    } else {
        char owner[OWNER_BYTES];
        request.owner = owner_of(x, owner);
        submissions_add(s->submissions, x, &request, PRIORITY_NORMAL, true, as_url ? await_urls : await_base64);
    }
}

static void generate(services *s, http_exchange *x, const char *id) {
    (void)id;
    const buffer *body = http_request_body(x);
    json_document doc;
    error why = {0};
    if (!json_parse(buffer_text(body), body->size, "the request body", &doc, &why)) {
        answer_error(x, why.code == ERROR_INVALID ? 400 : 0, &why);
        return;
    }
    if (yyjson_is_obj(json_root(&doc).value)) {
        generate_from(s, x, json_root(&doc));
    } else {
        error_set(&why, ERROR_INVALID, "the request body must be a JSON object");
        answer_error(x, 400, &why);
    }
    json_document_free(&doc);
}

static const route routes[] = {
    {"POST", "/v1/images/generations", generate},
    {"GET", "/v1/models", list_models},
    {"GET", "/v1/models/{id}", get_model},
};

const route_table openai_api = {"/v1/", routes, sizeof routes / sizeof *routes, answer_error};
