/* A component's weights on a device, as the graph wants them.
 *
 *     weight_loader *l;
 *     if (!weight_loader_new(d, store, PRECISION_AUTO, &l, e)) …
 *     block->q = weight_take(l, 2, (int64_t[]){out, in}, "blocks.%d.attn.q.weight", i);   PyTorch's shape, outermost first
 *     if (!weight_loader_finish(l, &set, e)) …           NULL results were remembered: the first fault is reported here
 *
 * On the CPU a weight whose type can be computed with is used in place, in the mapping (no copy); others get a private copy.
 * On other devices all are uploaded. Matrices and convolution kernels (rank ≥ 2) follow the precision; vectors (norm weights,
 * biases) become f32, since they are small and every operation wants them so — on the CPU as well, but for biases taken as
 * such, which altogether are not that small: in Flux.1-dev, 12 MB. PRECISION_F32 is exact
 * whatever the file holds: bf16 and f16 weights widen without loss, during the multiplication or before it.
 * The tensors live as long as the set; the set needs its device, and its store if it uses weights in place.
 *
 * A budget may be smaller than the weights: then the leading groups of them (weight_group) stay on the device, the others are kept in main
 * memory and come while a graph runs (streaming.h, graph_stream). The CPU uses them in the mapping all the same, and lets their pages
 * go. */
#ifndef IMAGINED_COMPUTE_WEIGHT_SET_H
#define IMAGINED_COMPUTE_WEIGHT_SET_H

#include <ggml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "compute/device.h"
#include "compute/streaming.h"
#include "weights/tensor_store.h"

enum { WEIGHT_MAX_GROUP = 4095 };

typedef struct weight_loader weight_loader;
typedef struct weight_set weight_set;

bool weight_loader_new(device *d, const tensor_store *s, precision p, weight_loader **out, error *e);
/* Told of the bytes of each weight's file that are in place: of all together tensor_store_bytes when the loader finishes. */
void weight_loader_progress(weight_loader *l, void (*progress)(void *context, size_t bytes), void *context);
/* Put in front of every name asked for afterwards ("text_model." in one of the two dialects, or ""). */
void weight_loader_prefix(weight_loader *l, const char *prefix);
/* Whether the store has the tensor (with the prefix). */
bool weight_has(const weight_loader *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The tensor of that name, whose shape must be `shape` (outermost first; -1 matches anything). NULL and a remembered error
 * when it is missing or mis-shaped; later calls then return NULL at once. */
struct ggml_tensor *weight_take(weight_loader *l, int rank, const int64_t *shape, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for a vector of `size` that only ever is the bias of a compute_linear: on the CPU it stays as the file has it, in place. */
struct ggml_tensor *weight_take_bias(weight_loader *l, int64_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Weights first taken from now on belong to group n: 0, as at first, is always on the device; 1, 2, … (at most WEIGHT_MAX_GROUP) are used
 * one after the other, in this order, by every graph. */
void weight_group(weight_loader *l, int n);
/* At most so many bytes of the device are for these weights; SIZE_MAX, as at first: as many as there are. On the CPU: bytes of the mapping
 * that stay in the process's memory. finish fails with ERROR_OUT_OF_MEMORY when group 0 and two others exceed it. */
void weight_loader_budget(weight_loader *l, size_t bytes);
/* What the weights taken so far would take of the device (of the mapping, on the CPU): all of them, and the least budget that streaming can
 * do with. Nothing is allocated there. Afterwards the loader is good only to be freed, and the tensors for graph_size. */
bool weight_loader_bounds(weight_loader *l, size_t *all, size_t *least, error *e);
/* Consumes the loader, also on failure. Errors name the weight; the caller knows whose it is. */
bool weight_loader_finish(weight_loader *l, weight_set **out, error *e);
void weight_loader_free(weight_loader *l); /* when finish was never called; NULL is fine */

void weight_set_free(weight_set *s); /* NULL is fine */
bool weight_set_in_place(const weight_set *s);        /* some weights are used where the store has them */
size_t weight_set_private_bytes(const weight_set *s); /* main memory beyond the store's */
size_t weight_set_device_bytes(const weight_set *s);  /* on a device with memory of its own, staging slots included */

/* Where the weights are. */
typedef struct weight_residency {
    int resident_groups, streamed_groups; /* of the groups from 1 on */
    size_t resident_bytes;                /* that stay on the device (CPU: in the process's memory) */
    size_t slot_bytes;                    /* of the largest of the others: two of them are there at a time */
    size_t pinned_bytes;                  /* of main memory that hold the others for the device; part of private_bytes */
} weight_residency;
weight_residency weight_set_residency(const weight_set *s);
streaming *weight_set_streaming(const weight_set *s); /* for graph_stream; NULL when every weight stays, or for NULL */

#endif
