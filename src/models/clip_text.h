/* CLIP's text encoder (Radford et al., 2021; transformers' CLIPTextModel): a causal transformer over token ids.
 *
 * One thread at a time. The device outlives the model. */
#ifndef IMAGINED_MODELS_CLIP_TEXT_H
#define IMAGINED_MODELS_CLIP_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "compute/ops.h"
#include "models/component.h"

enum { CLIP_TEXT_MAX_BATCH = 64 };

typedef struct clip_text_config {
    int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, max_position_embeddings;
    int64_t eos_token_id; /* 2 stands for "the largest id of the prompt", as published checkpoints mean it */
    activation hidden_act;
    double layer_norm_eps;
} clip_text_config;

typedef struct clip_text clip_text;

/* Loads folder/config.json and the weights beside it, whose names may or may not start with "text_model.". */
bool clip_text_load(device *d, const char *folder, const load_options *o, clip_text **out, error *e);
void clip_text_free(clip_text *m); /* NULL is fine */
const clip_text_config *clip_text_config_of(const clip_text *m);
component *clip_text_component(clip_text *m); /* for memory figures and component_release */

/* Encodes `batch` prompts of `count` ids each (ids[b·count + t], count ≤ max_position_embeddings). pooled gets [batch][hidden_size]: the
 * last hidden state, normed, at the prompt's end token. hidden_states (may be NULL) gets the whole of it: [batch][count][hidden_size]. */
bool clip_text_encode(clip_text *m, const int32_t *ids, int count, int batch, float *pooled, float *hidden_states, error *e);

/* Device memory that encoding `batch` prompts of `tokens` ids takes beside the weights. Nothing is allocated on the device. */
bool clip_text_measure(const clip_text *m, int tokens, int batch, size_t *bytes, error *e);

#endif
