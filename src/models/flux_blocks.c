#include "models/flux_blocks.h"

#include <math.h>
#include <stdio.h>

enum { NAME_BYTES = 128, MLP_RATIO = 4 };

static const float norm_eps = 1e-6f;

flux_linear flux_take_linear(weight_loader *l, const char *name, int64_t out, int64_t in) {
    return (flux_linear){
        .weight = weight_take(l, 2, (int64_t[]){out, in}, "%s.weight", name),
        .bias = weight_take_bias(l, out, "%s.bias", name),
    };
}

struct ggml_tensor *flux_apply(graph *g, const flux_linear *l, struct ggml_tensor *x) { return compute_linear(g, x, l->weight, l->bias); }

/* ── weights ── */

static flux_linear take(weight_loader *l, const char *block, const char *name, int64_t out, int64_t in) {
    char full[2 * NAME_BYTES];
    snprintf(full, sizeof full, "%s.%s", block, name);
    return flux_take_linear(l, full, out, in);
}

static struct ggml_tensor *take_norm(weight_loader *l, const char *block, const char *name, const flux_dims *d) {
    return weight_take(l, 1, &d->head_dim, "%s.attn.%s.weight", block, name);
}

void flux_take_double_block(flux_double_block *b, weight_loader *l, int index, const flux_dims *d) {
    char block[NAME_BYTES];
    const int64_t n = d->inner;
    snprintf(block, sizeof block, "transformer_blocks.%d", index);
    b->image = (flux_stream){
        .modulation = take(l, block, "norm1.linear", 6 * n, n),
        .q = take(l, block, "attn.to_q", n, n),
        .k = take(l, block, "attn.to_k", n, n),
        .v = take(l, block, "attn.to_v", n, n),
        .norm_q = take_norm(l, block, "norm_q", d),
        .norm_k = take_norm(l, block, "norm_k", d),
        .out = take(l, block, "attn.to_out.0", n, n),
        .up = take(l, block, "ff.net.0.proj", MLP_RATIO * n, n),
        .down = take(l, block, "ff.net.2", n, MLP_RATIO * n),
    };
    b->text = (flux_stream){
        .modulation = take(l, block, "norm1_context.linear", 6 * n, n),
        .q = take(l, block, "attn.add_q_proj", n, n),
        .k = take(l, block, "attn.add_k_proj", n, n),
        .v = take(l, block, "attn.add_v_proj", n, n),
        .norm_q = take_norm(l, block, "norm_added_q", d),
        .norm_k = take_norm(l, block, "norm_added_k", d),
        .out = take(l, block, "attn.to_add_out", n, n),
        .up = take(l, block, "ff_context.net.0.proj", MLP_RATIO * n, n),
        .down = take(l, block, "ff_context.net.2", n, MLP_RATIO * n),
    };
}

void flux_take_single_block(flux_single_block *b, weight_loader *l, int index, const flux_dims *d) {
    char block[NAME_BYTES];
    const int64_t n = d->inner;
    snprintf(block, sizeof block, "single_transformer_blocks.%d", index);
    b->all = (flux_stream){
        .modulation = take(l, block, "norm.linear", 3 * n, n),
        .q = take(l, block, "attn.to_q", n, n),
        .k = take(l, block, "attn.to_k", n, n),
        .v = take(l, block, "attn.to_v", n, n),
        .norm_q = take_norm(l, block, "norm_q", d),
        .norm_k = take_norm(l, block, "norm_k", d),
        .out = take(l, block, "proj_out", n, n + MLP_RATIO * n),
        .up = take(l, block, "proj_mlp", MLP_RATIO * n, n),
    };
}

/* ── computation ── */

struct ggml_tensor *flux_vector(graph *g, struct ggml_tensor *modulation, int64_t inner, int index) {
    return ggml_view_3d(graph_context(g), modulation, inner, 1, modulation->ne[2], modulation->nb[1], modulation->nb[2],
                        (size_t)(index * inner) * sizeof(float));
}

struct ggml_tensor *flux_tokens(graph *g, struct ggml_tensor *x, int64_t first, int64_t count) {
    struct ggml_context *c = graph_context(g);
    struct ggml_tensor *part = ggml_view_3d(c, x, x->ne[0], count, x->ne[2], x->nb[1], x->nb[2], (size_t)first * x->nb[1]);
    return ggml_is_contiguous(part) ? part : ggml_cont(c, part); /* one item: the tokens lie together already */
}

struct ggml_tensor *flux_modulated_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *scale, struct ggml_tensor *shift) {
    return compute_modulate(g, compute_layer_norm(g, x, NULL, NULL, norm_eps), scale, shift);
}

typedef struct heads {
    struct ggml_tensor *q, *k, *v; /* [head dim, heads, tokens, batch] */
} heads;

static struct ggml_tensor *split(graph *g, struct ggml_tensor *x, const flux_dims *d) {
    return ggml_reshape_4d(graph_context(g), x, d->head_dim, d->heads, x->ne[1], x->ne[2]);
}

static heads project(graph *g, const flux_stream *s, const flux_dims *d, struct ggml_tensor *x) {
    return (heads){
        .q = compute_rms_norm(g, split(g, flux_apply(g, &s->q, x), d), s->norm_q, norm_eps),
        .k = compute_rms_norm(g, split(g, flux_apply(g, &s->k, x), d), s->norm_k, norm_eps),
        .v = split(g, flux_apply(g, &s->v, x), d),
    };
}

static struct ggml_tensor *attend(graph *g, const heads *h, const flux_dims *d, struct ggml_tensor *rotation) {
    return compute_attention(g, compute_rope(g, h->q, rotation), compute_rope(g, h->k, rotation), h->v, 1.0f / sqrtf((float)d->head_dim),
                             NULL);
}

/* The six vectors of AdaLayerNormZero, in its order. */
enum { SHIFT_ATTENTION, SCALE_ATTENTION, GATE_ATTENTION, SHIFT_MLP, SCALE_MLP, GATE_MLP };

/* What follows attention in one stream of a double block. */
static struct ggml_tensor *finish_stream(graph *g, const flux_stream *s, const flux_dims *d, struct ggml_tensor *modulation,
                                         struct ggml_tensor *x, struct ggml_tensor *attended) {
    x = compute_gated_add(g, x, flux_apply(g, &s->out, attended), flux_vector(g, modulation, d->inner, GATE_ATTENTION));
    struct ggml_tensor *y =
        flux_modulated_norm(g, x, flux_vector(g, modulation, d->inner, SCALE_MLP), flux_vector(g, modulation, d->inner, SHIFT_MLP));
    y = compute_activation(g, flux_apply(g, &s->up, y), ACTIVATION_GELU_TANH);
    return compute_gated_add(g, x, flux_apply(g, &s->down, y), flux_vector(g, modulation, d->inner, GATE_MLP));
}

static heads stream_heads(graph *g, const flux_stream *s, const flux_dims *d, struct ggml_tensor *modulation, struct ggml_tensor *x) {
    return project(g, s, d, flux_modulated_norm(g, x, flux_vector(g, modulation, d->inner, SCALE_ATTENTION),
                                                flux_vector(g, modulation, d->inner, SHIFT_ATTENTION)));
}

void flux_double_block_apply(graph *g, const flux_double_block *b, const flux_dims *d, struct ggml_tensor *condition,
                             struct ggml_tensor *rotation, struct ggml_tensor **image, struct ggml_tensor **text) {
    struct ggml_tensor *image_modulation = flux_apply(g, &b->image.modulation, condition);
    struct ggml_tensor *text_modulation = flux_apply(g, &b->text.modulation, condition);
    heads i = stream_heads(g, &b->image, d, image_modulation, *image), t = stream_heads(g, &b->text, d, text_modulation, *text);
    heads all = {compute_concat(g, t.q, i.q, 2), compute_concat(g, t.k, i.k, 2), compute_concat(g, t.v, i.v, 2)};
    struct ggml_tensor *attended = attend(g, &all, d, rotation);
    int64_t text_tokens = (*text)->ne[1], image_tokens = (*image)->ne[1];
    *image = finish_stream(g, &b->image, d, image_modulation, *image, flux_tokens(g, attended, text_tokens, image_tokens));
    *text = finish_stream(g, &b->text, d, text_modulation, *text, flux_tokens(g, attended, 0, text_tokens));
}

struct ggml_tensor *flux_single_block_apply(graph *g, const flux_single_block *b, const flux_dims *d, struct ggml_tensor *condition,
                                            struct ggml_tensor *rotation, struct ggml_tensor *all) {
    struct ggml_tensor *modulation = flux_apply(g, &b->all.modulation, condition);
    struct ggml_tensor *x = flux_modulated_norm(g, all, flux_vector(g, modulation, d->inner, SCALE_ATTENTION),
                                                flux_vector(g, modulation, d->inner, SHIFT_ATTENTION));
    heads h = project(g, &b->all, d, x);
    struct ggml_tensor *attended = attend(g, &h, d, rotation);
    struct ggml_tensor *mlp = compute_activation(g, flux_apply(g, &b->all.up, x), ACTIVATION_GELU_TANH);
    struct ggml_tensor *y = flux_apply(g, &b->all.out, compute_concat(g, attended, mlp, 0));
    return compute_gated_add(g, all, y, flux_vector(g, modulation, d->inner, GATE_ATTENTION));
}
