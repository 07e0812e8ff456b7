/* Operations of our own inside a graph of the CPU. For the files of compute/ that implement ops.h.
 *
 * A kernel is called once for each chunk of the result; threads take the next chunk when they are done with one, so that one that the
 * system held up does not hold up the others. Chunks never depend on the number of threads: the result is the same for any number. */
#ifndef IMAGINED_COMPUTE_CUSTOM_H
#define IMAGINED_COMPUTE_CUSTOM_H

#include "compute/graph.h"

enum { CUSTOM_MAX_SOURCES = 4, SCRATCH_ALIGNMENT = 64 };

/* Computes one chunk of `dst` from dst->src. `scratch` is the thread's own. Returns NULL, or what went wrong (a static string). */
typedef const char *(*custom_kernel)(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch);

typedef struct custom_spec {
    int64_t ne[4]; /* of the f32 result */
    struct ggml_tensor *sources[CUSTOM_MAX_SOURCES]; /* up to the first NULL */
    custom_kernel kernel;
    int64_t chunks;
    size_t scratch_bytes;
    const void *parameters; /* copied */
    size_t parameter_bytes;
} custom_spec;

struct ggml_tensor *custom_add(graph *g, const custom_spec *spec);

/* The number of runs of `step` that `total` takes. */
static inline int64_t chunk_count(int64_t total, int64_t step) { return (total + step - 1) / step; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* One step for kernels that work row by row: about 16 Ki numbers, so that taking a chunk costs nothing beside it. */
static inline int64_t rows_per_chunk(int64_t row) { return max_i64(1, 16384 / max_i64(1, row)); }

#endif
