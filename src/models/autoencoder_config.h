/* config.json of diffusers' AutoencoderKL, which its encoder and its decoder share. */
#ifndef IMAGINED_MODELS_AUTOENCODER_CONFIG_H
#define IMAGINED_MODELS_AUTOENCODER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "compute/ops.h"

enum { AUTOENCODER_KL_MAX_BLOCKS = 8, AUTOENCODER_KL_MAX_SIDE = 16384 /* pixels */, AUTOENCODER_KL_MAX_BATCH = 64 };

typedef struct autoencoder_kl_config {
    int64_t in_channels, latent_channels, out_channels;
    int64_t blocks, channels[AUTOENCODER_KL_MAX_BLOCKS]; /* block_out_channels, finest first */
    int64_t layers_per_block, groups;
    double scaling_factor, shift_factor; /* shift 0 where the file has none */
    bool quant_conv, post_quant_conv, mid_attention;
    activation act;
} autoencoder_kl_config;

/* Keys that the file leaves out have the class's defaults. */
bool autoencoder_config_read(json root, autoencoder_kl_config *c, error *e);
/* The list `key` ("up_block_types", "down_block_types") must be absent or hold `class_name` once for each entry of block_out_channels. */
bool autoencoder_config_blocks(json root, const autoencoder_kl_config *c, const char *key, const char *class_name, error *e);

#endif
