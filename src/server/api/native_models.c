#include "server/api/native_models.h"

#include <string.h>

#include "server/api/native_body.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/command_waits.h"
#include "server/requests/request_fields.h"
#include "server/requests/services.h"
#include "server/resources/engine_care.h"
#include "server/resources/model_document.h"
#include "server/resources/seconds.h"

/* --- GET /api/system/models --- */

void native_get_models(services *s, http_exchange *x, const char *id) {
    (void)id;
    const model_list *list = catalog_list(s->catalog);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *models = yyjson_mut_obj_add_arr(doc, root, "models");
    for (size_t i = 0; i < list->count; i++) {
        const model_info *m = &list->models[i];
        bool is_default = strcmp(m->name, catalog_default(s->catalog)) == 0;
        yyjson_mut_arr_append(models, model_document(doc, m, is_default, dispatch_engine(s->dispatch), s->profiles));
    }
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

/* --- commands --- */

static void answer_freed(http_exchange *x, const engine_answer *a) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *freed = yyjson_mut_obj_add_obj(doc, root, "freed");
    yyjson_mut_obj_add_uint(doc, freed, "ram_bytes", a->ram_bytes);
    yyjson_mut_obj_add_uint(doc, freed, "vram_bytes", a->vram_bytes);
    yyjson_mut_val *unloaded = yyjson_mut_obj_add_arr(doc, root, "models_unloaded");
    for (int i = 0; i < a->unloaded_count; i++) yyjson_mut_arr_add_strcpy(doc, unloaded, a->unloaded[i]);
    yyjson_mut_val *skipped = yyjson_mut_obj_add_arr(doc, root, "skipped_leased");
    for (int i = 0; i < a->skipped_count; i++) yyjson_mut_arr_add_strcpy(doc, skipped, a->skipped[i]);
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

static void answer_loaded(services *s, http_exchange *x, const char *model, const engine_answer *a) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *rows = yyjson_mut_arr(doc);
    const engine_view *v = dispatch_engine(s->dispatch);
    for (const engine_model_row *m = NULL; (m = engine_view_model(v, model, m)) != NULL;)
        yyjson_mut_arr_append(rows, model_row_document(doc, m, engine_view_device_kind(v)));
    yyjson_mut_obj_add_strcpy(doc, root, "id", model);
    seconds_add(doc, root, "load_seconds", a->seconds);
    yyjson_mut_obj_add_val(doc, root, "cached", rows);
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

static void answered(services *s, http_exchange *x, engine_message_kind kind, const char *model, const engine_answer *a) {
    static const engine_answer nothing = {.ok = true};
    /* What is not there has been unloaded. */
    if (kind == MESSAGE_UNLOAD && !a->ok && a->fault.code == ERROR_NOT_FOUND) a = &nothing;
    /* A file that is gone here is no fault of the address. */
    int status = a->fault.code == ERROR_NOT_FOUND ? 500 : a->fault.code == ERROR_BUSY ? (kind == MESSAGE_UNLOAD ? 409 : 503) : 0;
    if (!a->ok) problem_answer(x, status, &a->fault);
    else if (kind == MESSAGE_LOAD) answer_loaded(s, x, model, a);
    else answer_freed(x, a);
}

static void command(services *s, http_exchange *x, engine_message_kind kind, const engine_model_name *model) {
    error why = {0};
    if (!command_give(s, x, kind, model, answered, &why)) problem_answer(x, why.code == ERROR_BUSY ? 503 : 0, &why);
}

/* --- reading requests --- */

/* The "precision" of an optional body. Answers and returns false when something is wrong. */
static bool read_precision(http_exchange *x, const char *fallback, const char **out) {
    static const char *const fields[] = {"precision", NULL};
    json_document doc = {0};
    error why = {0};
    *out = fallback;
    if (http_request_body(x)->size == 0) return true;
    if (!native_read_body(x, &doc)) return false;
    bool ok = request_fields_only(json_root(&doc), fields, &why) && request_fields_precision(json_root(&doc), out, &why);
    json_document_free(&doc);
    if (!ok) problem_answer(x, 0, &why);
    return ok;
}

/* The model of the path. Answers and returns false when there is none. */
static bool read_model(services *s, http_exchange *x, const char *id, const char *fallback, engine_model_name *out) {
    const model_info *m;
    const char *precision;
    error why = {0};
    if (!catalog_find(s->catalog, id, &m, &why)) {
        why.code = ERROR_NOT_FOUND; /* not a field that is wrong, but the address */
        problem_answer(x, 0, &why);
        return false;
    }
    if (!read_precision(x, fallback, &precision)) return false;
    if (engine_care_model_name(m, precision, out, &why)) return true;
    problem_answer(x, 0, &why);
    return false;
}

/* --- POST /api/system/… --- */

void native_load_model(services *s, http_exchange *x, const char *id) {
    engine_model_name model;
    if (read_model(s, x, id, "auto", &model)) command(s, x, MESSAGE_LOAD, &model);
}

void native_preload_model(services *s, http_exchange *x, const char *id) {
    engine_model_name model;
    error why = {0};
    if (!read_model(s, x, id, "auto", &model)) return;
    if (!dispatch_command(s->dispatch, MESSAGE_PRELOAD, &model, NULL, NULL, NULL, &why)) {
        problem_answer(x, why.code == ERROR_BUSY ? 503 : 0, &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, root, "id", model.model);
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 202, NULL, doc);
}

void native_unload_model(services *s, http_exchange *x, const char *id) {
    engine_model_name model;
    static const engine_answer nothing = {.ok = true};
    if (!read_model(s, x, id, "", &model)) return;
    if (command_holds_nothing(s)) answer_freed(x, &nothing);
    else command(s, x, MESSAGE_UNLOAD, &model);
}

void native_cleanup(services *s, http_exchange *x, const char *id) {
    static const char *const fields[] = {NULL};
    static const engine_answer nothing = {.ok = true};
    (void)id;
    json_document doc = {0};
    error why = {0};
    if (http_request_body(x)->size > 0) {
        if (!native_read_body(x, &doc)) return;
        bool ok = request_fields_only(json_root(&doc), fields, &why);
        json_document_free(&doc);
        if (!ok) {
            problem_answer(x, 0, &why);
            return;
        }
    }
    if (command_holds_nothing(s)) answer_freed(x, &nothing);
    else command(s, x, MESSAGE_CLEANUP, NULL);
}
