/* The operations models are made of. Each picks, for the graph's device, our CPU kernel (oneDNN inside a ggml custom operation)
 * or ggml's own operation; the result is the same up to rounding. Activations are contiguous f32 unless said otherwise; shapes are ggml's
 * (ne[0] first). Weights come from a weight_set. No operation changes its inputs. */
#ifndef IMAGINED_COMPUTE_OPS_H
#define IMAGINED_COMPUTE_OPS_H

#include "compute/graph.h"

/* y = W x + b. x [in, …], w [in, out] of any weight type, b [out] or NULL → [out, …]. b is f32; on the CPU of any float type.
 * torch.nn.Linear. */
struct ggml_tensor *compute_linear(graph *g, struct ggml_tensor *x, struct ggml_tensor *w, struct ggml_tensor *b);

/* Cross-correlation with zero padding. x [W, H, C, N], w [kw, kh, C, OC], b [OC] or NULL → [W', H', OC, N]. torch.nn.Conv2d with
 * square stride and padding, dilation 1, one group. `pad_after_only` pads right and bottom by `padding`, left and top by 0
 * (the encoder's downsampling). */
struct ggml_tensor *compute_conv2d(graph *g, struct ggml_tensor *x, struct ggml_tensor *w, struct ggml_tensor *b, int stride,
                                   int padding, bool pad_after_only);

/* softmax(q kᵀ·scale + bias) v. q [d, heads, tokens, batch], k and v [d, heads, keys, batch] (v's d may differ) → [d·heads, tokens,
 * batch]. bias NULL or [keys, tokens, heads or 1] added to every item of the batch (T5's position bias, CLIP's causal mask with
 * -inf). Softmax in f32. torch.nn.functional.scaled_dot_product_attention. */
struct ggml_tensor *compute_attention(graph *g, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v, float scale,
                                      struct ggml_tensor *bias);

/* Whether compute_attention has a fused kernel on this device, where half is allowed, for heads of this width: scores never go to memory.
 * The CPU has its own, for all. */
bool compute_attention_is_fused(device *d, int head_width);

/* (x − mean) / sqrt(var + eps) · weight + bias over ne[0]; weight, bias NULL or [ne0]. torch.nn.LayerNorm. */
struct ggml_tensor *compute_layer_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, struct ggml_tensor *bias, float eps);
/* x / sqrt(mean(x²) + eps) · weight over ne[0]; weight NULL or [ne0]. torch.nn.RMSNorm, T5LayerNorm. */
struct ggml_tensor *compute_rms_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, float eps);
/* Over groups of channels of x [W, H, C, N]; weight, bias [C]. torch.nn.GroupNorm. */
struct ggml_tensor *compute_group_norm(graph *g, struct ggml_tensor *x, struct ggml_tensor *weight, struct ggml_tensor *bias, int groups,
                                       float eps);
/* x·(1 + scale) + shift. x [C, T, B]; scale, shift [C, 1, B]. AdaLN. */
struct ggml_tensor *compute_modulate(graph *g, struct ggml_tensor *x, struct ggml_tensor *scale, struct ggml_tensor *shift);

/* x + y·gate. x, y [C, T, B]; gate [C, 1, B]. The residual connection of AdaLN-Zero. */
struct ggml_tensor *compute_gated_add(graph *g, struct ggml_tensor *x, struct ggml_tensor *y, struct ggml_tensor *gate);
/* a, then b, along dimension 0, 1 or 2; the other dimensions are equal. torch.cat. */
struct ggml_tensor *compute_concat(graph *g, struct ggml_tensor *a, struct ggml_tensor *b, int dimension);

typedef enum activation {
    ACTIVATION_SILU,       /* x·σ(x) */
    ACTIVATION_RELU,
    ACTIVATION_GELU,       /* exact, with erf */
    ACTIVATION_GELU_TANH,  /* the tanh approximation: "gelu_new", "gelu_pytorch_tanh" */
    ACTIVATION_GELU_QUICK, /* x·σ(1.702 x): CLIP's */
} activation;
/* The names configs use ("quick_gelu", "gelu", "gelu_new", "relu", "silu", …). False for others. */
bool activation_parse(const char *name, activation *out);
struct ggml_tensor *compute_activation(graph *g, struct ggml_tensor *x, activation a);

/* Rotates interleaved pairs (x[2i], x[2i+1]) of x [d, heads, tokens, batch] by the angles of each token. rotation f32
 * [2, d/2, tokens] holds (cos, sin). The result may hold the pairs in another order along d, the same for every call, so it is
 * only good as q or k of compute_attention. diffusers' apply_rotary_emb with use_real_unbind_dim −1. */
struct ggml_tensor *compute_rope(graph *g, struct ggml_tensor *x, struct ggml_tensor *rotation);

/* Rows of table [C, vocabulary] (any weight type) for ids i32 [T, B] → f32 [C, T, B]. torch.nn.Embedding. */
struct ggml_tensor *compute_embedding(graph *g, struct ggml_tensor *table, struct ggml_tensor *ids);

/* Each pixel twice in both directions: [W, H, C, N] → [2W, 2H, C, N]. Nearest-neighbour interpolation. */
struct ggml_tensor *compute_upsample2x(graph *g, struct ggml_tensor *x);

#endif
