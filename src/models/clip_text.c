#include "models/clip_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct layer_norm {
    struct ggml_tensor *weight, *bias;
} layer_norm;

typedef struct linear {
    struct ggml_tensor *weight, *bias;
} linear;

typedef struct clip_layer {
    layer_norm norm1, norm2;
    linear query, key, value, out, up, down;
} clip_layer;

struct clip_text {
    component part;
    clip_text_config config;
    struct ggml_tensor *tokens, *positions;
    clip_layer *layers;
    layer_norm final_norm;
    /* the graph in `part` is for this shape */
    int count, batch;
    struct ggml_tensor *in_ids, *in_positions, *in_mask, *out_hidden;
};

static bool read_config(json root, clip_text_config *c, error *e) {
    *c = (clip_text_config){.vocab_size = 49408, .hidden_size = 512, .intermediate_size = 2048, .num_hidden_layers = 12,
                            .num_attention_heads = 8, .max_position_embeddings = 77, .eos_token_id = 49407, .layer_norm_eps = 1e-5};
    const char *act = "quick_gelu";
    if (!json_int(root, "vocab_size", 1, 1 << 24, &c->vocab_size, e) || !json_int(root, "hidden_size", 1, 1 << 16, &c->hidden_size, e) ||
        !json_int(root, "intermediate_size", 1, 1 << 18, &c->intermediate_size, e) ||
        !json_int(root, "num_hidden_layers", 1, 1024, &c->num_hidden_layers, e) ||
        !json_int(root, "num_attention_heads", 1, 1024, &c->num_attention_heads, e) ||
        !json_int(root, "max_position_embeddings", 1, 1 << 14, &c->max_position_embeddings, e) ||
        !json_int(root, "eos_token_id", 0, 1 << 24, &c->eos_token_id, e) ||
        !json_number(root, "layer_norm_eps", 0, 1, &c->layer_norm_eps, e) || !json_text(root, "hidden_act", 64, &act, e))
        return false;
    if (!activation_parse(act, &c->hidden_act)) return json_complain(root, "hidden_act", e, "is \"%s\", which is not supported", act);
    if (c->hidden_size % c->num_attention_heads != 0)
        return json_complain(root, "hidden_size", e, "is %lld: it must be a multiple of 'num_attention_heads', %lld",
                             (long long)c->hidden_size, (long long)c->num_attention_heads);
    return true;
}

static layer_norm take_norm(weight_loader *l, const char *name, int64_t size) {
    return (layer_norm){weight_take(l, 1, &size, "%s.weight", name), weight_take(l, 1, &size, "%s.bias", name)};
}

static linear take_linear(weight_loader *l, int64_t layer, const char *name, int64_t out, int64_t in) {
    int64_t shape[2] = {out, in};
    return (linear){weight_take(l, 2, shape, "encoder.layers.%d.%s.weight", (int)layer, name),
                    weight_take_bias(l, out, "encoder.layers.%d.%s.bias", (int)layer, name)};
}

static layer_norm take_layer_norm(weight_loader *l, int64_t layer, const char *name, int64_t size) {
    return (layer_norm){weight_take(l, 1, &size, "encoder.layers.%d.%s.weight", (int)layer, name),
                        weight_take(l, 1, &size, "encoder.layers.%d.%s.bias", (int)layer, name)};
}

static void take_weights(clip_text *m, weight_loader *l) {
    const clip_text_config *c = &m->config;
    if (weight_has(l, "text_model.embeddings.token_embedding.weight")) weight_loader_prefix(l, "text_model.");
    m->tokens = weight_take(l, 2, (int64_t[]){c->vocab_size, c->hidden_size}, "embeddings.token_embedding.weight");
    m->positions = weight_take(l, 2, (int64_t[]){c->max_position_embeddings, c->hidden_size}, "embeddings.position_embedding.weight");
    for (int64_t i = 0; i < c->num_hidden_layers; i++) {
        clip_layer *layer = &m->layers[i];
        layer->norm1 = take_layer_norm(l, i, "layer_norm1", c->hidden_size);
        layer->query = take_linear(l, i, "self_attn.q_proj", c->hidden_size, c->hidden_size);
        layer->key = take_linear(l, i, "self_attn.k_proj", c->hidden_size, c->hidden_size);
        layer->value = take_linear(l, i, "self_attn.v_proj", c->hidden_size, c->hidden_size);
        layer->out = take_linear(l, i, "self_attn.out_proj", c->hidden_size, c->hidden_size);
        layer->norm2 = take_layer_norm(l, i, "layer_norm2", c->hidden_size);
        layer->up = take_linear(l, i, "mlp.fc1", c->intermediate_size, c->hidden_size);
        layer->down = take_linear(l, i, "mlp.fc2", c->hidden_size, c->intermediate_size);
    }
    m->final_norm = take_norm(l, "final_layer_norm", c->hidden_size);
}

static bool load(clip_text *m, device *d, const char *folder, const load_options *o, error *e) {
    json_document config;
    bool ok = component_config(folder, &config, e) && read_config(json_root(&config), &m->config, e);
    json_document_free(&config);
    if (!ok) return false;
    m->layers = calloc((size_t)m->config.num_hidden_layers, sizeof *m->layers);
    if (m->layers == NULL) return error_no_memory(e, "a text encoder", (size_t)m->config.num_hidden_layers * sizeof *m->layers);
    weight_loader *l;
    if (!component_open(&m->part, d, folder, o, &l, e)) return false;
    take_weights(m, l);
    return component_finish(&m->part, l, o, e);
}

bool clip_text_load(device *d, const char *folder, const load_options *o, clip_text **out, error *e) {
    *out = NULL;
    clip_text *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "a text encoder", sizeof *m);
    if (!load(m, d, folder, o, e)) {
        clip_text_free(m);
        return false;
    }
    *out = m;
    return true;
}

void clip_text_free(clip_text *m) {
    if (m == NULL) return;
    component_free(&m->part);
    free(m->layers);
    free(m);
}

const clip_text_config *clip_text_config_of(const clip_text *m) { return &m->config; }
component *clip_text_component(clip_text *m) { return &m->part; }

static struct ggml_tensor *apply_norm(graph *g, struct ggml_tensor *x, layer_norm n, double epsilon) {
    return compute_layer_norm(g, x, n.weight, n.bias, (float)epsilon);
}

static struct ggml_tensor *apply_linear(graph *g, struct ggml_tensor *x, linear l) { return compute_linear(g, x, l.weight, l.bias); }

/* [hidden, tokens, batch] → [head size, heads, tokens, batch] */
static struct ggml_tensor *split_heads(graph *g, struct ggml_tensor *x, int64_t heads) {
    return ggml_reshape_4d(graph_context(g), x, x->ne[0] / heads, heads, x->ne[1], x->ne[2]);
}

static struct ggml_tensor *apply_layer(clip_text *m, graph *g, struct ggml_tensor *x, const clip_layer *layer) {
    const clip_text_config *c = &m->config;
    struct ggml_tensor *h = apply_norm(g, x, layer->norm1, c->layer_norm_eps);
    struct ggml_tensor *q = split_heads(g, apply_linear(g, h, layer->query), c->num_attention_heads);
    struct ggml_tensor *k = split_heads(g, apply_linear(g, h, layer->key), c->num_attention_heads);
    struct ggml_tensor *v = split_heads(g, apply_linear(g, h, layer->value), c->num_attention_heads);
    h = compute_attention(g, q, k, v, 1.0f / sqrtf((float)(c->hidden_size / c->num_attention_heads)), m->in_mask);
    x = ggml_add(graph_context(g), x, apply_linear(g, h, layer->out));
    h = apply_norm(g, x, layer->norm2, c->layer_norm_eps);
    h = apply_linear(g, compute_activation(g, apply_linear(g, h, layer->up), c->hidden_act), layer->down);
    return ggml_add(graph_context(g), x, h);
}

/* Keys after the query's own position are out of sight. */
static bool set_constant_inputs(clip_text *m, error *e) {
    size_t count = (size_t)m->count;
    float *mask = malloc(count * count * sizeof *mask);
    int32_t *positions = malloc(count * sizeof *positions);
    bool ok = mask != NULL && positions != NULL;
    if (ok) {
        for (size_t query = 0; query < count; query++) {
            positions[query] = (int32_t)query;
            for (size_t key = 0; key < count; key++) mask[query * count + key] = key > query ? -INFINITY : 0.0f;
        }
        graph_set(m->in_mask, mask);
        graph_set(m->in_positions, positions);
    } else {
        error_no_memory(e, "a causal mask", count * count * sizeof *mask);
    }
    free(mask);
    free(positions);
    return ok;
}

/* The graph for a shape, without memory. */
static bool describe(clip_text *m, int count, int batch, error *e) {
    if (!graph_new(m->part.device, 256 + 64 * (size_t)m->config.num_hidden_layers, &m->part.graph, e)) return false;
    graph *g = m->part.graph;
    m->count = count;
    m->batch = batch;
    m->in_ids = graph_input(g, GGML_TYPE_I32, count, batch, 1, 1);
    m->in_positions = graph_input(g, GGML_TYPE_I32, count, 1, 1, 1);
    m->in_mask = graph_input(g, GGML_TYPE_F32, count, count, 1, 1);
    struct ggml_tensor *x = ggml_add(graph_context(g), compute_embedding(g, m->tokens, m->in_ids),
                                     compute_embedding(g, m->positions, m->in_positions));
    for (int64_t i = 0; i < m->config.num_hidden_layers; i++) x = apply_layer(m, g, x, &m->layers[i]);
    m->out_hidden = graph_output(g, apply_norm(g, x, m->final_norm, m->config.layer_norm_eps));
    return true;
}

static bool build(clip_text *m, int count, int batch, error *e) {
    if (m->part.graph != NULL && m->count == count && m->batch == batch) return true;
    component_release(&m->part);
    if (describe(m, count, batch, e) && graph_reserve(m->part.graph, e) && set_constant_inputs(m, e)) return true;
    component_release(&m->part);
    return false;
}

static bool check_shape(const clip_text *m, int count, int batch, error *e) {
    if (count < 1 || count > m->config.max_position_embeddings)
        return error_set(e, ERROR_INVALID, "a text of %d tokens: this text encoder takes 1 to %lld", count,
                         (long long)m->config.max_position_embeddings);
    if (batch < 1 || batch > CLIP_TEXT_MAX_BATCH)
        return error_set(e, ERROR_INVALID, "%d texts at once: the text encoder takes 1 to %d", batch, CLIP_TEXT_MAX_BATCH);
    return true;
}

static bool check_request(const clip_text *m, const int32_t *ids, int count, int batch, error *e) {
    return check_shape(m, count, batch, e) && component_check_ids(ids, (size_t)count * (size_t)batch, m->config.vocab_size, e);
}

bool clip_text_measure(const clip_text *m, int tokens, int batch, size_t *bytes, error *e) {
    clip_text shape = *m; /* the model keeps the graph it has */
    shape.part.graph = NULL;
    *bytes = 0;
    if (!check_shape(m, tokens, batch, e)) return false;
    bool described = describe(&shape, tokens, batch, e);
    return component_measured(shape.part.graph, described, bytes, e);
}

/* Where the prompt ends: its first end token, or, for checkpoints that say 2, the first of its largest ids. 0 when there is none. */
static int end_position(const clip_text_config *c, const int32_t *ids, int count) {
    int best = 0;
    for (int t = 0; t < count; t++) {
        if (c->eos_token_id == 2 ? ids[t] > ids[best] : ids[t] == c->eos_token_id) {
            best = t;
            if (c->eos_token_id != 2) break;
        }
    }
    return best;
}

bool clip_text_encode(clip_text *m, const int32_t *ids, int count, int batch, float *pooled, float *hidden_states, error *e) {
    if (!check_request(m, ids, count, batch, e) || !build(m, count, batch, e)) return false;
    size_t width = (size_t)m->config.hidden_size, numbers = width * (size_t)count * (size_t)batch;
    float *states = hidden_states != NULL ? hidden_states : malloc(numbers * sizeof *states);
    if (states == NULL) return error_no_memory(e, "hidden states", numbers * sizeof *states);
    graph_set(m->in_ids, ids);
    bool ok = graph_run(m->part.graph, e);
    if (ok) {
        graph_get(m->out_hidden, states);
        for (int b = 0; b < batch; b++) {
            size_t row = (size_t)b * (size_t)count + (size_t)end_position(&m->config, ids + (size_t)b * (size_t)count, count);
            memcpy(pooled + (size_t)b * width, states + row * width, width * sizeof *pooled);
        }
    }
    if (states != hidden_states) free(states);
    return ok;
}
