/* What every part of a pipeline holds — its files, its weights on a device, the graph of the last shape it ran — and how its config.json
 * is read. */
#ifndef IMAGINED_MODELS_COMPONENT_H
#define IMAGINED_MODELS_COMPONENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"
#include "compute/device.h"
#include "compute/graph.h"
#include "compute/weight_set.h"
#include "weights/tensor_store.h"

typedef struct component {
    device *device; /* borrowed */
    tensor_store *store;
    weight_set *weights;
    graph *graph; /* NULL until the first run, and after component_release */
} component;

/* folder/config.json, which must hold an object. The document is yours: json_document_free, also on failure. */
bool component_config(const char *folder, json_document *out, error *e);

/* Opens the weight files of a folder (whichever of the names transformers and diffusers give them) and starts loading. The loader goes to
 * component_finish or weight_loader_free. */
bool component_open(component *c, device *d, const char *folder, precision p, weight_loader **out, error *e);
/* Consumes the loader, also on failure; the tensors it gave are then good. Errors name the folder. */
bool component_finish(component *c, weight_loader *l, error *e);
void component_free(component *c); /* takes a zeroed or half-opened one */

/* Gives back the graph and its compute buffer; the next run builds them again. */
void component_release(component *c);

size_t component_mapped_bytes(const component *c);
size_t component_private_bytes(const component *c); /* weights in main memory beyond the mapping */
size_t component_device_bytes(const component *c);  /* weights on a device with memory of its own */
size_t component_compute_bytes(const component *c); /* the graph's buffer */

#endif
