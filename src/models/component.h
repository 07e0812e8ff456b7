/* What every part of a pipeline holds — its files, its weights on a device, the graph of the last shape it ran — and how its config.json
 * is read. */
#ifndef IMAGINED_MODELS_COMPONENT_H
#define IMAGINED_MODELS_COMPONENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "compute/device.h"
#include "compute/graph.h"
#include "compute/weight_set.h"
#include "weights/tensor_store.h"

/* How weights are loaded. */
typedef struct load_options {
    precision precision;
    bool copied;           /* read into private memory; afterwards no file is open or mapped (MEMORY_EFFICIENT_LOADING=false) */
    size_t resident_bytes; /* device bytes that the transformer's weights may take; SIZE_MAX: all they want */
    /* So many more bytes of weight files are in place; over one part they add up to the size of its files. May be NULL. */
    void (*progress)(void *context, size_t bytes);
    void *context;
} load_options;

/* Everything resident, mapped where the device can use it so, nobody told. */
#define LOAD_OPTIONS(wanted_precision) ((load_options){.precision = (wanted_precision), .resident_bytes = SIZE_MAX})

typedef struct component {
    device *device; /* borrowed */
    tensor_store *store; /* NULL when the weights no longer need their files */
    weight_set *weights;
    size_t claimed_bytes; /* of the device's ledger, for a store read into memory */
    graph *graph; /* NULL until the first run, and after component_release */
    size_t attention_slice; /* component_set_attention_slice */
} component;

/* folder/config.json, which must hold an object. The document is yours: json_document_free, also on failure. */
bool component_config(const char *folder, json_document *out, error *e);

/* The names that transformers and diffusers give weight files, without ".safetensors"; NULL ends. */
extern const char *const component_stems[];

/* Opens the weight files of a folder (whichever of the names transformers and diffusers give them) and starts loading. The loader goes to
 * component_finish or weight_loader_free. */
bool component_open(component *c, device *d, const char *folder, const load_options *o, weight_loader **out, error *e);
/* Consumes the loader, also on failure; the tensors it gave are then good. `o` as for component_open. Errors name the folder. */
bool component_finish(component *c, weight_loader *l, const load_options *o, error *e);
void component_free(component *c); /* takes a zeroed or half-opened one */

/* Gives back the graph and its compute buffer; the next run builds them again. */
void component_release(component *c);
/* Bounds the scores that attention writes to memory (graph_set_attention_slice); 0: all at once. Another bound releases the graph. */
void component_set_attention_slice(component *c, size_t bytes);
/* A graph for the component's device with that bound and room for the slices of `attentions`. */
bool component_new_graph(const component *c, size_t max_nodes, size_t attentions, graph **out, error *e);
/* Asks the kernel to read the mapped weight files into the page cache, in the background: the next `bytes` of them (128 KiB at least) from
 * *at on, which goes along and begins at 0. False when all was asked for. */
bool component_prefetch(const component *c, size_t *at, size_t bytes);

size_t component_mapped_bytes(const component *c);
size_t component_private_bytes(const component *c); /* weights in main memory of our own */
size_t component_device_bytes(const component *c);  /* weights on a device with memory of its own */
size_t component_compute_bytes(const component *c); /* the graph's buffer */

/* What text encoders share. ERROR_INVALID for a token outside of the vocabulary. */
bool component_check_ids(const int32_t *ids, size_t count, int64_t vocabulary, error *e);
/* The compute memory of a graph that was described and not reserved; frees the graph. `described`: what describing it returned. */
bool component_measured(graph *g, bool described, size_t *bytes, error *e);

#endif
