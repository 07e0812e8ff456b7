#include "models/autoencoder_blocks.h"

#include <math.h>

/* Every group norm of the class has this ε; no config key changes it. */
static const float NORM_EPSILON = 1e-6f;

autoencoder_pair autoencoder_take_conv(weight_loader *l, const char *name, int64_t out, int64_t in, int64_t kernel) {
    int64_t shape[4] = {out, in, kernel, kernel};
    return (autoencoder_pair){weight_take(l, 4, shape, "%s.weight", name), weight_take(l, 1, &out, "%s.bias", name)};
}

autoencoder_pair autoencoder_take_norm(weight_loader *l, const char *name, int64_t channels) {
    return (autoencoder_pair){weight_take(l, 1, &channels, "%s.weight", name), weight_take(l, 1, &channels, "%s.bias", name)};
}

/* name + "." + part, for the functions above */
static autoencoder_pair take_conv(weight_loader *l, const char *name, const char *part, int64_t out, int64_t in, int64_t kernel) {
    int64_t shape[4] = {out, in, kernel, kernel};
    return (autoencoder_pair){weight_take(l, 4, shape, "%s.%s.weight", name, part), weight_take(l, 1, &out, "%s.%s.bias", name, part)};
}

static autoencoder_pair take_norm(weight_loader *l, const char *name, const char *part, int64_t channels) {
    return (autoencoder_pair){weight_take(l, 1, &channels, "%s.%s.weight", name, part),
                              weight_take(l, 1, &channels, "%s.%s.bias", name, part)};
}

static autoencoder_pair take_linear(weight_loader *l, const char *name, const char *part, int64_t channels) {
    int64_t shape[2] = {channels, channels};
    return (autoencoder_pair){weight_take(l, 2, shape, "%s.%s.weight", name, part),
                              weight_take(l, 1, &channels, "%s.%s.bias", name, part)};
}

autoencoder_resnet autoencoder_take_resnet(weight_loader *l, const char *name, int64_t out, int64_t in) {
    autoencoder_resnet r = {.norm1 = take_norm(l, name, "norm1", in),
                            .conv1 = take_conv(l, name, "conv1", out, in, 3),
                            .norm2 = take_norm(l, name, "norm2", out),
                            .conv2 = take_conv(l, name, "conv2", out, out, 3)};
    if (in != out) r.shortcut = take_conv(l, name, "conv_shortcut", out, in, 1);
    return r;
}

autoencoder_attention autoencoder_take_attention(weight_loader *l, const char *name, int64_t channels) {
    bool old = weight_has(l, "%s.query.weight", name); /* the names of diffusers before 0.18 */
    return (autoencoder_attention){.norm = take_norm(l, name, "group_norm", channels),
                                   .query = take_linear(l, name, old ? "query" : "to_q", channels),
                                   .key = take_linear(l, name, old ? "key" : "to_k", channels),
                                   .value = take_linear(l, name, old ? "value" : "to_v", channels),
                                   .out = take_linear(l, name, old ? "proj_attn" : "to_out.0", channels)};
}

struct ggml_tensor *autoencoder_conv(graph *g, struct ggml_tensor *x, autoencoder_pair conv) {
    return compute_conv2d(g, x, conv.weight, conv.bias, 1, conv.weight->ne[0] == 3 ? 1 : 0, false);
}

struct ggml_tensor *autoencoder_norm(graph *g, struct ggml_tensor *x, autoencoder_pair norm, int groups) {
    return compute_group_norm(g, x, norm.weight, norm.bias, groups, NORM_EPSILON);
}

struct ggml_tensor *autoencoder_apply_resnet(graph *g, struct ggml_tensor *x, const autoencoder_resnet *r, autoencoder_style style) {
    struct ggml_tensor *h = compute_activation(g, autoencoder_norm(g, x, r->norm1, style.groups), style.act);
    h = autoencoder_conv(g, h, r->conv1);
    h = compute_activation(g, autoencoder_norm(g, h, r->norm2, style.groups), style.act);
    h = autoencoder_conv(g, h, r->conv2);
    if (r->shortcut.weight != NULL) x = autoencoder_conv(g, x, r->shortcut);
    return ggml_add(graph_context(g), x, h);
}

/* Pixels are the tokens. */
struct ggml_tensor *autoencoder_apply_attention(graph *g, struct ggml_tensor *x, const autoencoder_attention *a, int groups) {
    struct ggml_context *ctx = graph_context(g);
    int64_t width = x->ne[0], height = x->ne[1], channels = x->ne[2], batch = x->ne[3], pixels = width * height;
    struct ggml_tensor *h = ggml_reshape_3d(ctx, autoencoder_norm(g, x, a->norm, groups), pixels, channels, batch);
    h = ggml_cont(ctx, ggml_transpose(ctx, h));
    struct ggml_tensor *q = ggml_reshape_4d(ctx, compute_linear(g, h, a->query.weight, a->query.bias), channels, 1, pixels, batch);
    struct ggml_tensor *k = ggml_reshape_4d(ctx, compute_linear(g, h, a->key.weight, a->key.bias), channels, 1, pixels, batch);
    struct ggml_tensor *v = ggml_reshape_4d(ctx, compute_linear(g, h, a->value.weight, a->value.bias), channels, 1, pixels, batch);
    h = compute_attention(g, q, k, v, 1.0f / sqrtf((float)channels), NULL);
    h = compute_linear(g, h, a->out.weight, a->out.bias);
    h = ggml_reshape_4d(ctx, ggml_cont(ctx, ggml_transpose(ctx, h)), width, height, channels, batch);
    return ggml_add(ctx, x, h);
}
