/* The blocks that the encoder and the decoder of an image autoencoder share: diffusers' ResnetBlock2D (without time embedding), its
 * attention block and its 2D convolutions. x is [W, H, C, N]. */
#ifndef IMAGINED_MODELS_AUTOENCODER_BLOCKS_H
#define IMAGINED_MODELS_AUTOENCODER_BLOCKS_H

#include <stdint.h>

#include "compute/ops.h"
#include "compute/weight_set.h"

typedef struct autoencoder_pair { /* a weight and its bias */
    struct ggml_tensor *weight, *bias;
} autoencoder_pair;

typedef struct autoencoder_resnet {
    autoencoder_pair norm1, conv1, norm2, conv2, shortcut; /* shortcut.weight NULL where the channels stay the same */
} autoencoder_resnet;

typedef struct autoencoder_attention { /* one head of full width */
    autoencoder_pair norm, query, key, value, out;
} autoencoder_attention;

/* How a block computes: the same for all of a model. */
typedef struct autoencoder_style {
    int groups; /* norm_num_groups */
    activation act;
} autoencoder_style;

/* Each takes the weights below the name `name`, as weight_take does. */
autoencoder_pair autoencoder_take_conv(weight_loader *l, const char *name, int64_t out, int64_t in, int64_t kernel);
autoencoder_pair autoencoder_take_norm(weight_loader *l, const char *name, int64_t channels);
autoencoder_resnet autoencoder_take_resnet(weight_loader *l, const char *name, int64_t out, int64_t in);
autoencoder_attention autoencoder_take_attention(weight_loader *l, const char *name, int64_t channels);

/* Same-size convolution: 3×3 with padding 1, or 1×1. */
struct ggml_tensor *autoencoder_conv(graph *g, struct ggml_tensor *x, autoencoder_pair conv);
struct ggml_tensor *autoencoder_norm(graph *g, struct ggml_tensor *x, autoencoder_pair norm, int groups);
struct ggml_tensor *autoencoder_apply_resnet(graph *g, struct ggml_tensor *x, const autoencoder_resnet *r, autoencoder_style style);
struct ggml_tensor *autoencoder_apply_attention(graph *g, struct ggml_tensor *x, const autoencoder_attention *a, int groups);

#endif
