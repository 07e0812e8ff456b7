#include "models/component.h"

#include <sys/mman.h>

#include "base/file.h"

const char *const component_stems[] = {"model", "diffusion_pytorch_model", NULL};

enum { CONFIG_CAP = 1 << 20, PATH_BYTES = 4096 };

bool component_config(const char *folder, json_document *out, error *e) {
    char path[PATH_BYTES];
    *out = (json_document){0};
    if (!file_join(path, sizeof path, folder, "config.json", e) || !json_load(path, CONFIG_CAP, out, e)) return false;
    if (yyjson_is_obj(yyjson_doc_get_root(out->doc))) return true;
    return error_set(e, ERROR_BAD_FILE, "%s: must hold an object", out->source);
}

/* A device with memory of its own gets its copy from the mapping, which then goes: reading the file into main memory first would only cost
 * that memory. */
static bool read_first(const component *c, const load_options *o) { return o->copied && device_is_cpu(c->device); }

typedef struct reading {
    component *part;
    const load_options *options;
} reading;

static bool claim(void *context, size_t bytes, error *e) {
    component *c = ((const reading *)context)->part;
    if (!device_claim(c->device, DEVICE_WEIGHTS, bytes, e)) return false;
    c->claimed_bytes += bytes;
    return true;
}

static void tell(void *context, size_t bytes) {
    const load_options *o = ((const reading *)context)->options;
    o->progress(o->context, bytes);
}

static void free_store(component *c) {
    tensor_store_free(c->store);
    c->store = NULL;
    if (c->claimed_bytes > 0) device_unclaim(c->device, DEVICE_WEIGHTS, c->claimed_bytes);
    c->claimed_bytes = 0;
}

bool component_open(component *c, device *d, const char *folder, const load_options *o, weight_loader **out, error *e) {
    reading r = {c, o};
    const tensor_reading how = {claim, o->progress != NULL ? tell : NULL, &r};
    c->device = d;
    bool read = read_first(c, o);
    bool ok = read ? tensor_store_read(folder, component_stems, &how, &c->store, e)
                   : tensor_store_open(folder, component_stems, &c->store, e);
    if (!ok) return false;
    if (!weight_loader_new(d, c->store, o->precision, out, e)) return false;
    if (!read) weight_loader_progress(*out, o->progress, o->context);
    return true;
}

bool component_finish(component *c, weight_loader *l, const load_options *o, error *e) {
    if (!weight_loader_finish(l, &c->weights, e)) return error_prefix(e, "%s: ", tensor_store_folder(c->store));
    if (o->copied && !weight_set_in_place(c->weights)) free_store(c);
    return true;
}

void component_free(component *c) {
    component_release(c);
    weight_set_free(c->weights);
    free_store(c);
    *c = (component){0};
}

void component_release(component *c) {
    graph_free(c->graph);
    c->graph = NULL;
}

void component_set_attention_slice(component *c, size_t bytes) {
    if (bytes != c->attention_slice) component_release(c);
    c->attention_slice = bytes;
}

bool component_new_graph(const component *c, size_t max_nodes, size_t attentions, graph **out, error *e) {
    if (c->attention_slice > 0) max_nodes += attentions * ATTENTION_SLICE_NODES;
    if (!graph_new(c->device, max_nodes, out, e)) return false;
    graph_set_attention_slice(*out, c->attention_slice);
    return true;
}

/* The kernel takes only so much of one piece of advice as one device request may be. */
enum { ADVICE_BYTES = 128 << 10 };

bool component_prefetch(const component *c, size_t *at, size_t bytes) {
    size_t start = 0; /* of the file, in the row of all files */
    if (component_mapped_bytes(c) == 0) return false;
    for (size_t i = 0; i < tensor_store_file_count(c->store); i++) {
        const void *address;
        size_t length;
        tensor_store_file(c->store, i, &address, &length);
        while (*at < start + length) {
            size_t offset = *at - start, piece = length - offset < ADVICE_BYTES ? length - offset : ADVICE_BYTES;
            if (bytes < ADVICE_BYTES) return true;
            bytes -= ADVICE_BYTES;
            madvise((char *)(uintptr_t)address + offset, piece, MADV_WILLNEED); /* what cannot be had now is read when it is wanted */
            *at += piece;
        }
        start += length;
    }
    return false;
}

size_t component_mapped_bytes(const component *c) { return c->store != NULL ? tensor_store_mapped_bytes(c->store) : 0; }
size_t component_private_bytes(const component *c) {
    return (c->store != NULL ? tensor_store_private_bytes(c->store) : 0) + (c->weights != NULL ? weight_set_private_bytes(c->weights) : 0);
}
size_t component_device_bytes(const component *c) { return c->weights != NULL ? weight_set_device_bytes(c->weights) : 0; }
size_t component_compute_bytes(const component *c) { return c->graph != NULL ? graph_buffer_bytes(c->graph) : 0; }

bool component_check_ids(const int32_t *ids, size_t count, int64_t vocabulary, error *e) {
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return error_set(e, ERROR_INVALID, "token %d is not in the text encoder's vocabulary of %lld", ids[i], (long long)vocabulary);
    return true;
}

bool component_measured(graph *g, bool described, size_t *bytes, error *e) {
    bool ok = described && graph_size(g, e);
    *bytes = ok ? graph_needed_bytes(g) : 0;
    graph_free(g);
    return ok;
}
