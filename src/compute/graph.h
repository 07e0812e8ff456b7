/* A computation for one device: built once for a shape, run as often as its inputs change.
 *
 *     graph *g;
 *     if (!graph_new(d, 4096, &g, e)) …
 *     struct ggml_tensor *x = graph_input(g, GGML_TYPE_F32, 64, 128, 1, 1);
 *     struct ggml_tensor *y = graph_output(g, compute_linear(g, x, w, b));
 *     if (!graph_reserve(g, e)) …                    sizes the buffers, claims their bytes, allocates them
 *     for (…) { graph_set(x, data); if (!graph_run(g, e)) …; graph_get(y, result); }
 *     graph_free(g);
 *
 * Shapes are ggml's: ne[0] is the fastest dimension, so a PyTorch tensor (B, T, C) is [C, T, B]. Activations are f32.
 * Building never fails halfway: an allocation failure is remembered and reported by graph_reserve. A graph belongs to one thread. */
#ifndef IMAGINED_COMPUTE_GRAPH_H
#define IMAGINED_COMPUTE_GRAPH_H

#include <ggml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "compute/device.h"
#include "compute/streaming.h"

typedef struct graph graph;

/* `max_nodes` bounds the operations of the graph (a Flux step has about 30 a block). */
bool graph_new(device *d, size_t max_nodes, graph **out, error *e);
void graph_free(graph *g); /* NULL is fine */

/* Lets the operations added from now on compute in f16 where that makes the device faster: for weights below f32. The CPU computes in f32
 * all the same. */
void graph_allow_half(graph *g);
bool graph_half_allowed(const graph *g);
/* Bounds what attention added from now on writes to memory for scores, where the device has no fused attention for it: queries go in slices
 * whose scores take at most `bytes`, as far as ATTENTION_MAX_SLICES allow. 0, as at first: all at once. Each such attention needs
 * ATTENTION_SLICE_NODES more in max_nodes. The CPU's kernel never writes them. */
void graph_set_attention_slice(graph *g, size_t bytes);
size_t graph_attention_slice(const graph *g);
enum { ATTENTION_MAX_SLICES = 64, ATTENTION_SLICE_NODES = 128 };

/* Before graph_reserve: the graph uses weights that are streamed (NULL: none are). graph_then must see to it that they are used in their
 * order. */
void graph_stream(graph *g, streaming *s);

struct ggml_context *graph_context(graph *g); /* for ggml's own operations */
device *graph_device(const graph *g);
/* Memory that lives as long as the graph, for parameters of custom operations. */
void *graph_alloc(graph *g, size_t size);

struct ggml_tensor *graph_input(graph *g, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3);
struct ggml_tensor *graph_output(graph *g, struct ggml_tensor *t); /* keeps t readable after a run; returns it */
/* What t needs is computed before anything that neither it nor the tensors named earlier need. Named after each block of a model, this is
 * the order of the blocks. */
void graph_then(graph *g, struct ggml_tensor *t);
bool graph_reserve(graph *g, error *e);
/* Instead of graph_reserve, for a graph that will not run: finds graph_needed_bytes and takes and refuses nothing. */
bool graph_size(graph *g, error *e);
/* As graph_size, but refuses what graph_reserve would refuse for want of memory (ERROR_OUT_OF_MEMORY). */
bool graph_measure(graph *g, error *e);
size_t graph_needed_bytes(const graph *g); /* device memory it takes to run it, by ggml's own figures; known after any of the three */
size_t graph_buffer_bytes(const graph *g); /* the memory it has taken; 0 before graph_reserve */
void graph_set(struct ggml_tensor *input, const void *data); /* ggml_nbytes(input) bytes; kept from run to run */
void graph_set_part(struct ggml_tensor *input, const void *data, size_t offset, size_t size); /* `size` bytes from byte `offset` on */
void graph_get(const struct ggml_tensor *output, void *data);
bool graph_run(graph *g, error *e);

#endif
