#include "server/api/openai.h"

#include <sys/stat.h>

#include "server/api/openai_answer.h"
#include "server/api/openai_edits.h"
#include "server/api/openai_error.h"
#include "server/api/openai_request.h"
#include "server/http/answer.h"
#include "server/requests/services.h"

/* --- models --- */

static yyjson_mut_val *model_document(yyjson_mut_doc *doc, const char *name, const model_info *model) {
    struct stat folder;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "id", name);
    yyjson_mut_obj_add_str(doc, o, "object", "model");
    yyjson_mut_obj_add_int(doc, o, "created", stat(model->folder, &folder) == 0 ? (int64_t)folder.st_mtime : 0);
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
    for (size_t i = 0; i < list->count; i++) yyjson_mut_arr_append(data, model_document(doc, list->models[i].name, &list->models[i]));
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

static void get_model(services *s, http_exchange *x, const char *id) {
    const model_info *model;
    error why = {0};
    if (!openai_find_model(s, id, &model, &why)) {
        openai_answer_error(x, 0, &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, model_document(doc, id, model));
    answer_json(x, 200, NULL, doc);
}

/* --- POST /v1/images/generations --- */

static void generate(services *s, http_exchange *x, const char *id) {
    (void)id;
    const buffer *body = http_request_body(x);
    json_document doc = {0};
    task_request request;
    openai_choices choices;
    char data[OPENAI_CHOICES_BYTES];
    error why = {0};
    bool ok = json_parse(buffer_text(body), body->size, "the request body", &doc, &why);
    if (ok && !yyjson_is_obj(json_root(&doc).value)) ok = error_set(&why, ERROR_INVALID, "the request body must be a JSON object");
    ok = ok && openai_read_request(s, json_root(&doc), NULL, false, &request, &choices, data, &why);
    if (ok) openai_submit(s, x, &request);
    else openai_answer_error(x, 0, &why);
    json_document_free(&doc);
}

static const route routes[] = {
    {"POST", "/v1/images/generations", generate},
    {"POST", "/v1/images/edits", openai_edit, OPENAI_FORM_BYTES},
    {"POST", "/v1/images/variations", openai_vary, OPENAI_FORM_BYTES},
    {"GET", "/v1/models", list_models},
    {"GET", "/v1/models/{id}", get_model},
};

const route_table openai_api = {"/v1/", routes, sizeof routes / sizeof *routes, openai_answer_error};
