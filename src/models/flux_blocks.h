/* The parts FluxTransformer2DModel is stacked from: their weights, by diffusers' names, and their computation. */
#ifndef IMAGINED_MODELS_FLUX_BLOCKS_H
#define IMAGINED_MODELS_FLUX_BLOCKS_H

#include "compute/graph.h"
#include "compute/ops.h"
#include "compute/weight_set.h"

typedef struct flux_linear {
    struct ggml_tensor *weight, *bias;
} flux_linear;

/* NAME.weight [out, in] and NAME.bias. */
flux_linear flux_take_linear(weight_loader *l, const char *name, int64_t out, int64_t in);
struct ggml_tensor *flux_apply(graph *g, const flux_linear *l, struct ggml_tensor *x);

/* One of the two token streams in a double block, or the only one of a single block. */
typedef struct flux_stream {
    flux_linear modulation;              /* of the norm: 6 vectors for a double block, 3 for a single one */
    flux_linear q, k, v;
    struct ggml_tensor *norm_q, *norm_k; /* [head dim] */
    flux_linear out;                     /* after attention; a single block's also takes the MLP's result */
    flux_linear up, down;                /* MLP; a single block has no `down` of its own */
} flux_stream;

/* FluxTransformerBlock: image and text keep weights of their own and meet in attention. */
typedef struct flux_double_block {
    flux_stream image, text;
} flux_double_block;

/* FluxSingleTransformerBlock: attention and MLP side by side over all tokens. */
typedef struct flux_single_block {
    flux_stream all;
} flux_single_block;

typedef struct flux_dims {
    int64_t heads, head_dim, inner; /* inner = heads · head_dim */
} flux_dims;

void flux_take_double_block(flux_double_block *b, weight_loader *l, int index, const flux_dims *d);
void flux_take_single_block(flux_single_block *b, weight_loader *l, int index, const flux_dims *d);

/* image [inner, image tokens, batch] and text [inner, text tokens, batch] are replaced by the block's results. condition [inner, 1, batch]
 * is silu(temb); rotation [2, head_dim / 2, text tokens + image tokens], text first. */
void flux_double_block_apply(graph *g, const flux_double_block *b, const flux_dims *d, struct ggml_tensor *condition,
                             struct ggml_tensor *rotation, struct ggml_tensor **image, struct ggml_tensor **text);
/* all [inner, text tokens + image tokens, batch], text first. */
struct ggml_tensor *flux_single_block_apply(graph *g, const flux_single_block *b, const flux_dims *d, struct ggml_tensor *condition,
                                            struct ggml_tensor *rotation, struct ggml_tensor *all);

/* Vector `index` of those that lie beside each other in modulation [n·inner, 1, batch] → [inner, 1, batch]. */
struct ggml_tensor *flux_vector(graph *g, struct ggml_tensor *modulation, int64_t inner, int index);
/* Tokens [first, first + count) of x [inner, tokens, batch]. */
struct ggml_tensor *flux_tokens(graph *g, struct ggml_tensor *x, int64_t first, int64_t count);
/* LayerNorm without weights, then x·(1 + scale) + shift. */
struct ggml_tensor *flux_modulated_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *scale, struct ggml_tensor *shift);

#endif
