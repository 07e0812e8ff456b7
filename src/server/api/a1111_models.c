#include "server/api/a1111_models.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/api/a1111_errors.h"
#include "server/http/answer.h"
#include "server/requests/command_waits.h"
#include "server/requests/services.h"
#include "server/resources/engine_care.h"

static const char chosen_setting[] = "a1111_model";

/* --- names --- */

/* The name without " [hash]" and without the ending of a file of weights. */
static void plain_name(const char *name, char out[MODEL_NAME_BYTES]) {
    static const char *const endings[] = {".safetensors", ".ckpt", ".gguf"};
    snprintf(out, MODEL_NAME_BYTES, "%s", name);
    size_t n = strlen(out);
    char *bracket = n > 0 && out[n - 1] == ']' ? strrchr(out, '[') : NULL;
    if (bracket != NULL && bracket > out && bracket[-1] == ' ') bracket[-1] = '\0';
    n = strlen(out);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t size = strlen(endings[i]);
        if (n <= size || strcasecmp(out + n - size, endings[i]) != 0) continue;
        out[n - size] = '\0';
        return;
    }
}

const model_info *a1111_model_named(services *s, const char *name) {
    const model_list *list = catalog_list(s->catalog);
    const model_info *exact = model_list_find(list, name);
    if (exact != NULL) return exact;
    char plain[MODEL_NAME_BYTES];
    if (strlen(name) >= sizeof plain) return NULL;
    plain_name(name, plain);
    for (size_t i = 0; i < list->count; i++)
        if (strcasecmp(list->models[i].name, plain) == 0) return &list->models[i];
    return NULL;
}

bool a1111_model_chosen(services *s, const model_info **out, error *e) {
    const char *name = task_keeper_setting(s->keeper, chosen_setting);
    *out = name != NULL ? model_list_find(catalog_list(s->catalog), name) : NULL;
    return *out != NULL || catalog_find(s->catalog, NULL, out, e);
}

void a1111_choose_model(services *s, const model_info *m) { task_keeper_set(s->keeper, chosen_setting, m->name); }

/* --- the list --- */

void a1111_get_models(services *s, http_exchange *x, const char *id) {
    (void)id;
    const model_list *list = catalog_list(s->catalog);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_arr(doc);
    for (size_t i = 0; i < list->count; i++) {
        /* A model is a folder of many files: there is no one file to hash, and null is what A1111 has before it hashed one. */
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, root);
        yyjson_mut_obj_add_strcpy(doc, o, "title", list->models[i].name);
        yyjson_mut_obj_add_strcpy(doc, o, "model_name", list->models[i].name);
        yyjson_mut_obj_add_null(doc, o, "hash");
        yyjson_mut_obj_add_null(doc, o, "sha256");
        yyjson_mut_obj_add_strcpy(doc, o, "filename", list->models[i].name);
        yyjson_mut_obj_add_null(doc, o, "config");
    }
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

void a1111_refresh_models(services *s, http_exchange *x, const char *id) {
    (void)id;
    catalog_refresh(s->catalog);
    answer_text(x, 200, "application/json", "null");
}

/* --- commands --- */

static void answered(services *s, http_exchange *x, engine_message_kind kind, const char *model, const engine_answer *a) {
    (void)s, (void)kind, (void)model;
    if (a->ok) answer_text(x, 200, "application/json", "{}");
    else a1111_answer_error(x, a->fault.code == ERROR_NOT_FOUND ? 500 : a->fault.code == ERROR_BUSY ? 503 : 0, &a->fault);
}

static void command(services *s, http_exchange *x, engine_message_kind kind, const engine_model_name *model) {
    error why = {0};
    if (!command_give(s, x, kind, model, answered, &why)) a1111_answer_error(x, why.code == ERROR_BUSY ? 503 : 0, &why);
}

void a1111_unload_model(services *s, http_exchange *x, const char *id) {
    (void)id;
    if (command_holds_nothing(s)) answer_text(x, 200, "application/json", "{}");
    else command(s, x, MESSAGE_CLEANUP, NULL);
}

void a1111_reload_model(services *s, http_exchange *x, const char *id) {
    (void)id;
    const model_info *m;
    engine_model_name model;
    error why = {0};
    if (a1111_model_chosen(s, &m, &why) && engine_care_model_name(m, "auto", &model, &why)) command(s, x, MESSAGE_LOAD, &model);
    else a1111_answer_error(x, 500, &why);
}
