#include "models/component.h"

#include "base/file.h"

enum { CONFIG_CAP = 1 << 20, PATH_BYTES = 4096 };

bool component_config(const char *folder, json_document *out, error *e) {
    char path[PATH_BYTES];
    *out = (json_document){0};
    if (!file_join(path, sizeof path, folder, "config.json", e) || !json_load(path, CONFIG_CAP, out, e)) return false;
    if (yyjson_is_obj(yyjson_doc_get_root(out->doc))) return true;
    return error_set(e, ERROR_BAD_FILE, "%s: must hold an object", out->source);
}

bool component_open(component *c, device *d, const char *folder, precision p, weight_loader **out, error *e) {
    static const char *const stems[] = {"model", "diffusion_pytorch_model", NULL};
    c->device = d;
    return tensor_store_open(folder, stems, &c->store, e) && weight_loader_new(d, c->store, p, out, e);
}

bool component_finish(component *c, weight_loader *l, error *e) {
    return weight_loader_finish(l, &c->weights, e) || error_prefix(e, "%s: ", tensor_store_folder(c->store));
}

void component_free(component *c) {
    component_release(c);
    weight_set_free(c->weights);
    tensor_store_free(c->store);
    *c = (component){0};
}

void component_release(component *c) {
    graph_free(c->graph);
    c->graph = NULL;
}

size_t component_mapped_bytes(const component *c) { return c->store != NULL ? tensor_store_mapped_bytes(c->store) : 0; }
size_t component_private_bytes(const component *c) { return c->weights != NULL ? weight_set_private_bytes(c->weights) : 0; }
size_t component_device_bytes(const component *c) { return c->weights != NULL ? weight_set_device_bytes(c->weights) : 0; }
size_t component_compute_bytes(const component *c) { return c->graph != NULL ? graph_buffer_bytes(c->graph) : 0; }
