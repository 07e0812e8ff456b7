#include "models/t5_encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct t5_layer {
    struct ggml_tensor *attention_norm, *query, *key, *value, *out;
    struct ggml_tensor *feed_forward_norm, *gate, *up, *down; /* gate NULL unless gated */
} t5_layer;

struct t5_encoder {
    component part;
    t5_encoder_config config;
    struct ggml_tensor *tokens, *position_bias, *final_norm;
    t5_layer *layers;
    /* the graph in `part` is for this shape */
    int count, batch;
    struct ggml_tensor *in_ids, *in_buckets, *out_hidden;
};

/* "relu", "gelu", "gated-gelu" (which means the tanh approximation), "gated-silu", … */
static bool read_feed_forward(json root, t5_encoder_config *c, error *e) {
    const char *name = "relu";
    if (!json_text(root, "feed_forward_proj", 64, &name, e)) return false;
    c->gated = strncmp(name, "gated-", 6) == 0;
    const char *act = c->gated ? name + 6 : name;
    if (c->gated && strcmp(act, "gelu") == 0) act = "gelu_new";
    return activation_parse(act, &c->act) || json_complain(root, "feed_forward_proj", e, "is \"%s\", which is not supported", name);
}

static bool read_config(json root, t5_encoder_config *c, error *e) {
    *c = (t5_encoder_config){.vocab_size = 32128, .d_model = 512, .d_kv = 64, .d_ff = 2048, .num_layers = 6, .num_heads = 8,
                             .relative_attention_num_buckets = 32, .relative_attention_max_distance = 128, .layer_norm_epsilon = 1e-6};
    if (!json_int(root, "vocab_size", 1, 1 << 24, &c->vocab_size, e) || !json_int(root, "d_model", 1, 1 << 16, &c->d_model, e) ||
        !json_int(root, "d_kv", 1, 1 << 12, &c->d_kv, e) || !json_int(root, "d_ff", 1, 1 << 18, &c->d_ff, e) ||
        !json_int(root, "num_layers", 1, 1024, &c->num_layers, e) || !json_int(root, "num_heads", 1, 1024, &c->num_heads, e) ||
        !json_int(root, "relative_attention_num_buckets", 4, 1 << 16, &c->relative_attention_num_buckets, e) ||
        !json_int(root, "relative_attention_max_distance", 2, 1 << 20, &c->relative_attention_max_distance, e) ||
        !json_number(root, "layer_norm_epsilon", 0, 1, &c->layer_norm_epsilon, e))
        return false;
    if (c->relative_attention_num_buckets % 2 != 0) return json_complain(root, "relative_attention_num_buckets", e, "is odd");
    if (c->relative_attention_max_distance <= c->relative_attention_num_buckets / 4)
        return json_complain(root, "relative_attention_max_distance", e,
                             "must be greater than a quarter of 'relative_attention_num_buckets'");
    return read_feed_forward(root, c, e);
}

static struct ggml_tensor *take(weight_loader *l, int64_t layer, const char *name, int64_t out, int64_t in) {
    int64_t shape[2] = {out, in};
    return weight_take(l, 2, shape, "encoder.block.%d.%s.weight", (int)layer, name);
}

static void take_layer(t5_encoder *m, weight_loader *l, int64_t i) {
    const t5_encoder_config *c = &m->config;
    t5_layer *layer = &m->layers[i];
    int64_t inner = c->num_heads * c->d_kv;
    layer->attention_norm = weight_take(l, 1, &c->d_model, "encoder.block.%d.layer.0.layer_norm.weight", (int)i);
    layer->query = take(l, i, "layer.0.SelfAttention.q", inner, c->d_model);
    layer->key = take(l, i, "layer.0.SelfAttention.k", inner, c->d_model);
    layer->value = take(l, i, "layer.0.SelfAttention.v", inner, c->d_model);
    layer->out = take(l, i, "layer.0.SelfAttention.o", c->d_model, inner);
    layer->feed_forward_norm = weight_take(l, 1, &c->d_model, "encoder.block.%d.layer.1.layer_norm.weight", (int)i);
    if (c->gated) {
        layer->gate = take(l, i, "layer.1.DenseReluDense.wi_0", c->d_ff, c->d_model);
        layer->up = take(l, i, "layer.1.DenseReluDense.wi_1", c->d_ff, c->d_model);
    } else {
        layer->up = take(l, i, "layer.1.DenseReluDense.wi", c->d_ff, c->d_model);
    }
    layer->down = take(l, i, "layer.1.DenseReluDense.wo", c->d_model, c->d_ff);
}

static void take_weights(t5_encoder *m, weight_loader *l) {
    const t5_encoder_config *c = &m->config;
    const char *table = weight_has(l, "shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
    m->tokens = weight_take(l, 2, (int64_t[]){c->vocab_size, c->d_model}, "%s", table);
    m->position_bias = weight_take(l, 2, (int64_t[]){c->relative_attention_num_buckets, c->num_heads}, "%s",
                                   "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    for (int64_t i = 0; i < c->num_layers; i++) take_layer(m, l, i);
    m->final_norm = weight_take(l, 1, &c->d_model, "encoder.final_layer_norm.weight");
}

static bool load(t5_encoder *m, device *d, const char *folder, const load_options *o, error *e) {
    json_document config;
    bool ok = component_config(folder, &config, e) && read_config(json_root(&config), &m->config, e);
    json_document_free(&config);
    if (!ok) return false;
    m->layers = calloc((size_t)m->config.num_layers, sizeof *m->layers);
    if (m->layers == NULL) return error_no_memory(e, "a text encoder", (size_t)m->config.num_layers * sizeof *m->layers);
    weight_loader *l;
    if (!component_open(&m->part, d, folder, o, &l, e)) return false;
    take_weights(m, l);
    return component_finish(&m->part, l, o, e);
}

bool t5_encoder_load(device *d, const char *folder, const load_options *o, t5_encoder **out, error *e) {
    *out = NULL;
    t5_encoder *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "a text encoder", sizeof *m);
    if (!load(m, d, folder, o, e)) {
        t5_encoder_free(m);
        return false;
    }
    *out = m;
    return true;
}

void t5_encoder_free(t5_encoder *m) {
    if (m == NULL) return;
    component_free(&m->part);
    free(m->layers);
    free(m);
}

const t5_encoder_config *t5_encoder_config_of(const t5_encoder *m) { return &m->config; }
component *t5_encoder_component(t5_encoder *m) { return &m->part; }

/* Half of the buckets for each direction; of these, half for one distance each, the rest for ranges that grow geometrically up to
 * max_distance. The logarithm is taken in float32, as the reference takes it: that decides where a range begins. */
int t5_encoder_bucket(int distance, int buckets, int max_distance) {
    int half = buckets / 2, exact = half / 2;
    int base = distance > 0 ? half : 0;
    distance = abs(distance);
    if (distance < exact) return base + distance;
    float range = (float)log((double)max_distance / exact);
    int bucket = exact + (int)(logf((float)distance / (float)exact) / range * (float)(half - exact));
    return base + (bucket < half - 1 ? bucket : half - 1);
}

static struct ggml_tensor *attention(t5_encoder *m, graph *g, struct ggml_tensor *x, const t5_layer *layer, struct ggml_tensor *bias) {
    struct ggml_context *ctx = graph_context(g);
    const t5_encoder_config *c = &m->config;
    struct ggml_tensor *h = compute_rms_norm(g, x, layer->attention_norm, (float)c->layer_norm_epsilon);
    struct ggml_tensor *q = ggml_reshape_4d(ctx, compute_linear(g, h, layer->query, NULL), c->d_kv, c->num_heads, m->count, m->batch);
    struct ggml_tensor *k = ggml_reshape_4d(ctx, compute_linear(g, h, layer->key, NULL), c->d_kv, c->num_heads, m->count, m->batch);
    struct ggml_tensor *v = ggml_reshape_4d(ctx, compute_linear(g, h, layer->value, NULL), c->d_kv, c->num_heads, m->count, m->batch);
    h = compute_attention(g, q, k, v, 1.0f, bias);
    return ggml_add(ctx, x, compute_linear(g, h, layer->out, NULL));
}

static struct ggml_tensor *feed_forward(t5_encoder *m, graph *g, struct ggml_tensor *x, const t5_layer *layer) {
    struct ggml_context *ctx = graph_context(g);
    struct ggml_tensor *h = compute_rms_norm(g, x, layer->feed_forward_norm, (float)m->config.layer_norm_epsilon), *up;
    up = compute_linear(g, h, layer->up, NULL);
    if (m->config.gated) h = ggml_mul(ctx, compute_activation(g, compute_linear(g, h, layer->gate, NULL), m->config.act), up);
    else h = compute_activation(g, up, m->config.act);
    return ggml_add(ctx, x, compute_linear(g, h, layer->down, NULL));
}

/* The bias of every (key, query) pair: [keys, queries, heads]. Each block adds the same one. */
static struct ggml_tensor *expand_bias(t5_encoder *m, graph *g) {
    struct ggml_context *ctx = graph_context(g);
    struct ggml_tensor *rows = compute_embedding(g, m->position_bias, m->in_buckets); /* [heads, keys · queries] */
    rows = ggml_reshape_3d(ctx, rows, m->config.num_heads, m->count, m->count);
    return ggml_cont(ctx, ggml_permute(ctx, rows, 2, 0, 1, 3));
}

static bool set_buckets(t5_encoder *m, error *e) {
    size_t count = (size_t)m->count;
    int32_t *buckets = malloc(count * count * sizeof *buckets);
    if (buckets == NULL) return error_no_memory(e, "position buckets", count * count * sizeof *buckets);
    /* one row a query; only the difference matters, so the first row and column give all the others */
    int n = m->count, total = (int)m->config.relative_attention_num_buckets, far = (int)m->config.relative_attention_max_distance;
    for (int key = 0; key < n; key++) buckets[key] = t5_encoder_bucket(key, total, far);
    for (int query = 1; query < n; query++) {
        int32_t *row = buckets + (size_t)query * count;
        row[0] = t5_encoder_bucket(-query, total, far);
        memcpy(row + 1, row - count, (count - 1) * sizeof *row);
    }
    graph_set(m->in_buckets, buckets);
    free(buckets);
    return true;
}

/* The graph for a shape, without memory. */
static bool describe(t5_encoder *m, int count, int batch, error *e) {
    size_t layers = (size_t)m->config.num_layers;
    if (!component_new_graph(&m->part, 256 + 64 * layers, layers, &m->part.graph, e)) return false;
    graph *g = m->part.graph;
    m->count = count;
    m->batch = batch;
    m->in_ids = graph_input(g, GGML_TYPE_I32, count, batch, 1, 1);
    m->in_buckets = graph_input(g, GGML_TYPE_I32, (int64_t)count * count, 1, 1, 1);
    struct ggml_tensor *bias = expand_bias(m, g), *x = compute_embedding(g, m->tokens, m->in_ids);
    for (int64_t i = 0; i < m->config.num_layers; i++) x = feed_forward(m, g, attention(m, g, x, &m->layers[i], bias), &m->layers[i]);
    m->out_hidden = graph_output(g, compute_rms_norm(g, x, m->final_norm, (float)m->config.layer_norm_epsilon));
    return true;
}

static bool build(t5_encoder *m, int count, int batch, error *e) {
    if (m->part.graph != NULL && m->count == count && m->batch == batch) return true;
    component_release(&m->part);
    if (describe(m, count, batch, e) && graph_reserve(m->part.graph, e) && set_buckets(m, e)) return true;
    component_release(&m->part);
    return false;
}

static bool check_shape(const t5_encoder *m, int count, int batch, error *e) {
    if (count < 1 || count > T5_ENCODER_MAX_TOKENS)
        return error_set(e, ERROR_INVALID, "a text of %d tokens: the text encoder takes 1 to %d", count, T5_ENCODER_MAX_TOKENS);
    if (batch < 1 || batch > T5_ENCODER_MAX_BATCH)
        return error_set(e, ERROR_INVALID, "%d texts at once: the text encoder takes 1 to %d", batch, T5_ENCODER_MAX_BATCH);
    return true;
}

static bool check_request(const t5_encoder *m, const int32_t *ids, int count, int batch, error *e) {
    return check_shape(m, count, batch, e) && component_check_ids(ids, (size_t)count * (size_t)batch, m->config.vocab_size, e);
}

bool t5_encoder_measure(const t5_encoder *m, int tokens, int batch, size_t *bytes, error *e) {
    t5_encoder shape = *m; /* the model keeps the graph it has */
    shape.part.graph = NULL;
    *bytes = 0;
    if (!check_shape(m, tokens, batch, e)) return false;
    bool described = describe(&shape, tokens, batch, e);
    return component_measured(shape.part.graph, described, bytes, e);
}

bool t5_encoder_encode(t5_encoder *m, const int32_t *ids, int count, int batch, float *hidden_states, error *e) {
    if (!check_request(m, ids, count, batch, e) || !build(m, count, batch, e)) return false;
    graph_set(m->in_ids, ids);
    if (!graph_run(m->part.graph, e)) return false;
    graph_get(m->out_hidden, hidden_states);
    return true;
}
