#include "server/api/a1111_lists.h"

#include <string.h>

#include "server/http/answer.h"
#include "server/requests/primary_device.h"
#include "server/requests/services.h"

/* Upscalers: clients take the first by its index, so there is A1111's "None", which leaves a picture as it is. */
static const struct {
    const char *path, *json;
} lists[] = {
    {"/sdapi/v1/samplers", "[{\"name\":\"Euler\",\"aliases\":[\"k_euler\"],\"options\":{}}]"},
    {"/sdapi/v1/schedulers",
     "[{\"name\":\"automatic\",\"label\":\"Automatic\",\"aliases\":null,\"default_rho\":-1.0,\"need_inner_model\":false},"
     "{\"name\":\"simple\",\"label\":\"Simple\",\"aliases\":null,\"default_rho\":-1.0,\"need_inner_model\":false}]"},
    {"/sdapi/v1/upscalers", "[{\"name\":\"None\",\"model_name\":null,\"model_path\":null,\"model_url\":null,\"scale\":4.0}]"},
    {"/sdapi/v1/embeddings", "{\"loaded\":{},\"skipped\":{}}"},
    {"/sdapi/v1/scripts", "{\"txt2img\":[],\"img2img\":[]}"},
    {"/sdapi/v1/cmd-flags", "{\"api\":true}"},
    {"/internal/ping", "{}"},
};

void a1111_get_list(services *s, http_exchange *x, const char *id) {
    (void)s, (void)id;
    const char *text = "[]";
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(lists[i].path, http_path(x)) == 0) text = lists[i].json;
    answer_text(x, 200, "application/json", text);
}

void a1111_refresh_nothing(services *s, http_exchange *x, const char *id) {
    (void)s, (void)id;
    answer_text(x, 200, "application/json", "null");
}

/* --- memory --- */

static yyjson_mut_val *whole(yyjson_mut_doc *doc, uint64_t total, uint64_t free_bytes) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    if (free_bytes > total) free_bytes = total;
    yyjson_mut_obj_add_uint(doc, o, "free", free_bytes);
    yyjson_mut_obj_add_uint(doc, o, "used", total - free_bytes);
    yyjson_mut_obj_add_uint(doc, o, "total", total);
    return o;
}

static void add_pool(yyjson_mut_doc *doc, yyjson_mut_val *cuda, const char *key, uint64_t current, uint64_t peak) {
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, cuda, key);
    yyjson_mut_obj_add_uint(doc, o, "current", current);
    yyjson_mut_obj_add_uint(doc, o, "peak", peak);
}

static yyjson_mut_val *memory_of_device(yyjson_mut_doc *doc, services *s) {
    device_figures all;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    if (strcmp(primary_device_kind(s), "cpu") == 0) {
        yyjson_mut_obj_add_str(doc, o, "error", "unavailable: the CPU computes, in main memory");
        return o;
    }
    vram_stats v = primary_device_read(s, &all);
    yyjson_mut_obj_add_val(doc, o, "system", whole(doc, all.total, all.free));
    add_pool(doc, o, "active", v.ours, v.figures.peak);
    add_pool(doc, o, "allocated", v.ours, v.figures.peak);
    add_pool(doc, o, "reserved", v.ours, v.figures.peak);
    add_pool(doc, o, "inactive", 0, 0);
    yyjson_mut_val *counts = yyjson_mut_obj_add_obj(doc, o, "events");
    yyjson_mut_obj_add_int(doc, counts, "retries", 0);
    yyjson_mut_obj_add_int(doc, counts, "oom", 0);
    return o;
}

void a1111_get_memory(services *s, http_exchange *x, const char *id) {
    (void)id;
    device_figures ram;
    machine_figures_main_memory(&ram);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_val(doc, root, "ram", whole(doc, ram.total, ram.free));
    yyjson_mut_obj_add_val(doc, root, "cuda", memory_of_device(doc, s));
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}
