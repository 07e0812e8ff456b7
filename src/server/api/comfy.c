#include "server/api/comfy.h"

#include <stdlib.h>
#include <string.h>

#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/command_waits.h"
#include "server/requests/services.h"

/* --- what its files share --- */

void comfy_answer_error(http_exchange *x, int status, const error *why) {
    char text[ERROR_TEXT_BYTES];
    if (status == 0) status = problem_status(why->code);
    answer_json(x, status, NULL, comfy_fault(error_code_name(why->code), problem_text(why->text, text, sizeof text), why->field));
}

const char *comfy_owner(const http_exchange *x) { return http_caller(x) != NULL ? http_caller(x) : ""; }

bool comfy_read_body(http_exchange *x, bool optional, yyjson_doc **out) {
    const buffer *body = http_request_body(x);
    error why;
    *out = NULL;
    if (body->size == 0 && optional) return true;
    *out = yyjson_read(buffer_text(body), body->size, 0);
    if (yyjson_is_obj(yyjson_doc_get_root(*out))) return true;
    yyjson_doc_free(*out);
    *out = NULL;
    error_set(&why, ERROR_INVALID, "the request body must be a JSON object");
    comfy_answer_error(x, 400, &why);
    return false;
}

/* --- /prompt, /ws and /free --- */

static void get_prompt(services *s, http_exchange *x, const char *id) {
    (void)id;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, yyjson_mut_obj_add_obj(doc, root, "exec_info"), "queue_remaining", comfy_events_remaining(s->comfy->events, http_caller(x)));
    answer_json(x, 200, NULL, doc);
}

static void get_socket(services *s, http_exchange *x, const char *id) {
    error why;
    (void)id;
    if (http_wants_socket(x)) {
        comfy_events_accept(s->comfy->events, x);
        return;
    }
    error_set(&why, ERROR_INVALID, "this is a WebSocket's address: it takes an upgrade to one, of version 13 and without sub-protocols");
    http_add_header(x, "upgrade", "websocket");
    comfy_answer_error(x, 426, &why);
}

/* Nobody waits for what is freed: ComfyUI answers before it does so, too. */
static void post_free(services *s, http_exchange *x, const char *id) {
    yyjson_doc *doc;
    error why = {0};
    bool ok = true;
    (void)id;
    if (!comfy_read_body(x, true, &doc)) return;
    yyjson_val *root = yyjson_doc_get_root(doc);
    bool frees = yyjson_get_bool(yyjson_obj_get(root, "unload_models")) || yyjson_get_bool(yyjson_obj_get(root, "free_memory"));
    if (frees && !command_holds_nothing(s))
        ok = dispatch_command(s->dispatch, MESSAGE_CLEANUP, NULL, NULL, NULL, NULL, &why);
    yyjson_doc_free(doc);
    if (ok) answer_empty(x, 200);
    else comfy_answer_error(x, why.code == ERROR_BUSY ? 503 : 0, &why);
}

/* --- life --- */

bool comfy_new(services *s, loop *l, comfy **out, error *e) {
    comfy *c = calloc(1, sizeof *c);
    if (c == NULL) return error_no_memory(e, "ComfyUI's API", sizeof *c);
    c->services = s;
    if (!comfy_prompts_new(s->queue, COMFY_DATA_ALL_BYTES, &c->prompts, e) || !comfy_inputs_new(s->keeper, s->inputs, &c->inputs, e) ||
        !comfy_events_new(s, l, c->prompts, &c->events, e)) {
        comfy_free(c);
        return false;
    }
    *out = c;
    return true;
}

void comfy_free(comfy *c) {
    if (c == NULL) return;
    comfy_events_free(c->events);
    comfy_inputs_free(c->inputs);
    comfy_prompts_free(c->prompts);
    free(c);
}

void comfy_task_changed(comfy *c, const task *t, task_change what) { comfy_events_changed(c->events, t, what); }

void comfy_picture_texts(const task *t, encoder_job *job) {
    if (t->request.adapter == NULL || strcmp(t->request.adapter, COMFY_ADAPTER) != 0 || t->request.adapter_data == NULL) return;
    yyjson_doc *doc = yyjson_read(t->request.adapter_data, strlen(t->request.adapter_data), 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *workflow = yyjson_obj_get(yyjson_obj_get(yyjson_obj_get(root, "extra"), "extra_pnginfo"), "workflow");
    yyjson_val *graph = yyjson_obj_get(root, "graph");
    if (graph != NULL) encoder_job_add_text(job, "prompt", yyjson_val_write(graph, 0, NULL));
    if (workflow != NULL) encoder_job_add_text(job, "workflow", yyjson_val_write(workflow, 0, NULL));
    yyjson_doc_free(doc);
}

/* --- routes --- */

/* Where no native route stands the same holds below /api. */
#define BOTH(method, path, handle) {method, path, handle, 0}, {method, "/api" path, handle, 0}
#define BOTH_LARGE(method, path, handle) {method, path, handle, COMFY_UPLOAD_BYTES + (64 << 10)}, {method, "/api" path, handle, COMFY_UPLOAD_BYTES + (64 << 10)}

static const route routes[] = {
    BOTH("GET", "/ws", get_socket),
    BOTH("GET", "/prompt", get_prompt),
    BOTH("POST", "/prompt", comfy_post_prompt),
    BOTH("GET", "/queue", comfy_get_queue),
    BOTH("POST", "/queue", comfy_post_queue),
    BOTH("GET", "/history", comfy_get_history),
    BOTH("POST", "/history", comfy_post_history),
    BOTH("GET", "/history/{id}", comfy_get_history),
    BOTH("POST", "/interrupt", comfy_post_interrupt),
    BOTH("POST", "/free", post_free),
    BOTH("GET", "/view", comfy_get_view),
    BOTH_LARGE("POST", "/upload/image", comfy_post_image),
    BOTH_LARGE("POST", "/upload/mask", comfy_post_mask),
    BOTH("GET", "/object_info", comfy_get_object_info),
    BOTH("GET", "/object_info/{id}", comfy_get_object_info),
    BOTH("GET", "/system_stats", comfy_get_stats),
    BOTH("GET", "/models", comfy_get_models),
    BOTH("GET", "/models/{id}", comfy_get_model_folder),
    BOTH("GET", "/embeddings", comfy_get_empty_list),
    BOTH("GET", "/extensions", comfy_get_empty_list),
    BOTH("GET", "/features", comfy_get_features),
};

const route_table comfy_api = {NULL, routes, sizeof routes / sizeof *routes, comfy_answer_error};
