#include "server/resources/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"

struct catalog {
    const char *demo_folder, *models_folder, *default_model;
    model_list list;
    bool complained; /* about the folders that cannot be used: once */
    double read_at;  /* clock_seconds; 0 never */
};

static const double fresh_seconds = 2.0;

bool catalog_new(const char *demo_folder, const char *models_folder, const char *default_model, catalog **out, error *e) {
    catalog *c = calloc(1, sizeof *c);
    if (c == NULL) return error_no_memory(e, "the list of models", sizeof *c);
    *c = (catalog){.demo_folder = demo_folder, .models_folder = models_folder, .default_model = default_model};
    *out = c;
    return true;
}

void catalog_free(catalog *c) {
    if (c == NULL) return;
    model_list_free(&c->list);
    free(c);
}

static void complain(void *context, const char *folder, const error *e) {
    catalog *c = context;
    if (!c->complained) log_line(LOG_WARNING, "the model folder %s is left out: %s", folder, e->text);
}

const model_list *catalog_list(catalog *c) {
    double now = clock_seconds();
    if (c->read_at != 0 && now - c->read_at < fresh_seconds) return &c->list;
    model_list_free(&c->list);
    c->list = (model_list){0};
    error fault = {0};
    if (!model_list_read(c->demo_folder, c->models_folder, complain, c, &c->list, &fault)) {
        log_line(LOG_ERROR, "the models could not be listed: %s", fault.text);
        c->list = (model_list){0};
    }
    c->complained = true;
    c->read_at = now;
    return &c->list;
}

void catalog_refresh(catalog *c) { c->read_at = 0; }
const char *catalog_default(const catalog *c) { return c->default_model; }

bool catalog_find(catalog *c, const char *name, const model_info **out, error *e) {
    if (name == NULL) name = c->default_model;
    const model_list *list = catalog_list(c);
    *out = model_list_find(list, name);
    if (*out != NULL) return true;
    buffer names = {0};
    for (size_t i = 0; i < list->count; i++) buffer_printf(&names, "%s%s", i > 0 ? ", " : "", list->models[i].name);
    error_field(e, ERROR_INVALID, "model", "there is no model '%.128s'; there is %s", name,
                list->count > 0 ? buffer_text(&names) : "none at all");
    buffer_free(&names);
    return false;
}
