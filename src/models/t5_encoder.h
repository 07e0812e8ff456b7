/* T5's encoder (Raffel et al., 2020; transformers' T5EncoderModel): bidirectional, unmasked, with relative position biases, no attention
 * scaling and RMS norms.
 *
 * Activations are f32 whatever the precision of the weights, so the residual stream cannot overflow as it does in f16. One thread
 * at a time. The device outlives the model. */
#ifndef IMAGINED_MODELS_T5_ENCODER_H
#define IMAGINED_MODELS_T5_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "compute/ops.h"
#include "models/component.h"

enum { T5_ENCODER_MAX_TOKENS = 4096, T5_ENCODER_MAX_BATCH = 64 };

typedef struct t5_encoder_config {
    int64_t vocab_size, d_model, d_kv /* of one head */, d_ff, num_layers, num_heads;
    int64_t relative_attention_num_buckets, relative_attention_max_distance;
    bool gated;                    /* act(W0 x)·(W1 x) instead of act(W x) */
    activation act;
    double layer_norm_epsilon;
} t5_encoder_config;

typedef struct t5_encoder t5_encoder;

/* Loads folder/config.json and the weights beside it. The token table is "shared.weight" or "encoder.embed_tokens.weight". */
bool t5_encoder_load(device *d, const char *folder, const load_options *o, t5_encoder **out, error *e);
void t5_encoder_free(t5_encoder *m); /* NULL is fine */
const t5_encoder_config *t5_encoder_config_of(const t5_encoder *m);
component *t5_encoder_component(t5_encoder *m); /* for memory figures and component_release */

/* Encodes `batch` texts of `count` ids each (ids[b·count + t]); hidden_states gets [batch][count][d_model]. */
bool t5_encoder_encode(t5_encoder *m, const int32_t *ids, int count, int batch, float *hidden_states, error *e);

/* Device memory that encoding `batch` texts of `tokens` ids takes beside the weights. Nothing is allocated on the device. */
bool t5_encoder_measure(const t5_encoder *m, int tokens, int batch, size_t *bytes, error *e);

/* The bucket, 0 … buckets − 1, of a key `distance` places after its query (negative: before it). For tests. */
int t5_encoder_bucket(int distance, int buckets, int max_distance);

#endif
