/* Operations that only move numbers: concatenation, embedding rows, nearest-neighbour upsampling. */
#include <string.h>

#include "compute/custom.h"
#include "compute/ops.h"
#include "compute/widen.h"

enum { IDS_PER_CHUNK = 16 };

typedef struct concat {
    int64_t a, b;   /* numbers that lie together in each of the sources */
    int64_t blocks; /* how often */
    int64_t blocks_per_chunk;
} concat;

static const char *concat_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)scratch;
    const concat *p = parameters;
    const float *a = dst->src[0]->data, *b = dst->src[1]->data;
    float *out = dst->data;
    int64_t last = min_i64((chunk + 1) * p->blocks_per_chunk, p->blocks);
    for (int64_t i = chunk * p->blocks_per_chunk; i < last; i++) {
        memcpy(out + i * (p->a + p->b), a + i * p->a, (size_t)p->a * sizeof *out);
        memcpy(out + i * (p->a + p->b) + p->a, b + i * p->b, (size_t)p->b * sizeof *out);
    }
    return NULL;
}

struct ggml_tensor *compute_concat(graph *g, struct ggml_tensor *a, struct ggml_tensor *b, int dimension) {
    if (!device_is_cpu(graph_device(g))) return ggml_concat(graph_context(g), a, b, dimension);
    concat p = {.a = 1, .b = 1, .blocks = 1};
    for (int i = 0; i < GGML_MAX_DIMS; i++) {
        if (i <= dimension) p.a *= a->ne[i], p.b *= b->ne[i];
        else p.blocks *= a->ne[i];
    }
    p.blocks_per_chunk = rows_per_chunk(p.a + p.b);
    custom_spec spec = {
        .ne = {a->ne[0], a->ne[1], a->ne[2], a->ne[3]},
        .sources = {a, b},
        .kernel = concat_kernel,
        .chunks = chunk_count(p.blocks, p.blocks_per_chunk),
        .parameters = &p,
        .parameter_bytes = sizeof p,
    };
    spec.ne[dimension] += b->ne[dimension];
    return custom_add(g, &spec);
}

static const char *embedding_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)parameters;
    (void)scratch;
    const struct ggml_tensor *table = dst->src[0];
    const int32_t *ids = dst->src[1]->data;
    int64_t last = min_i64((chunk + 1) * IDS_PER_CHUNK, ggml_nrows(dst));
    for (int64_t i = chunk * IDS_PER_CHUNK; i < last; i++) {
        if (ids[i] < 0 || ids[i] >= table->ne[1]) return "a token's id lies outside the embedding table";
        widen(table->type, (const char *)table->data + (size_t)ids[i] * table->nb[1], (float *)dst->data + i * dst->ne[0], dst->ne[0]);
    }
    return NULL;
}

struct ggml_tensor *compute_embedding(graph *g, struct ggml_tensor *table, struct ggml_tensor *ids) {
    struct ggml_context *c = graph_context(g);
    if (device_is_cpu(graph_device(g)))
        return custom_add(g, &(custom_spec){
            .ne = {table->ne[0], ids->ne[0], ids->ne[1], 1},
            .sources = {table, ids},
            .kernel = embedding_kernel,
            .chunks = chunk_count(ggml_nelements(ids), IDS_PER_CHUNK),
        });
    struct ggml_tensor *rows = ggml_get_rows(c, table, ggml_reshape_1d(c, ids, ggml_nelements(ids)));
    return ggml_reshape_3d(c, rows, table->ne[0], ids->ne[0], ids->ne[1]);
}

static const char *upsample_kernel(struct ggml_tensor *dst, const void *parameters, int64_t chunk, void *scratch) {
    (void)parameters;
    (void)scratch;
    const struct ggml_tensor *x = dst->src[0];
    int64_t width = x->ne[0], height = x->ne[1];
    const float *in = (const float *)x->data + chunk * width * height;
    float *out = (float *)dst->data + chunk * width * height * 4;
    for (int64_t y = 0; y < height; y++, in += width, out += 4 * width) {
        for (int64_t i = 0; i < width; i++) out[2 * i] = out[2 * i + 1] = in[i];
        memcpy(out + 2 * width, out, (size_t)(2 * width) * sizeof *out);
    }
    return NULL;
}

struct ggml_tensor *compute_upsample2x(graph *g, struct ggml_tensor *x) {
    if (!device_is_cpu(graph_device(g))) return ggml_upscale(graph_context(g), x, 2, GGML_SCALE_MODE_NEAREST);
    return custom_add(g, &(custom_spec){
        .ne = {2 * x->ne[0], 2 * x->ne[1], x->ne[2], x->ne[3]},
        .sources = {x},
        .kernel = upsample_kernel,
        .chunks = x->ne[2] * x->ne[3],
    });
}
