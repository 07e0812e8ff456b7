#include "models/flux_transformer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/component.h"
#include "models/flux_blocks.h"

enum { SINUSOIDS = 256, NODES_A_DOUBLE_BLOCK = 64, NODES_A_SINGLE_BLOCK = 32, OTHER_NODES = 64 };

/* Far over what any machine holds, far under where sums of sizes overflow. */
static const size_t max_activation_bytes = (size_t)1 << 48;

/* Linear, SiLU, Linear: TimestepEmbedding and PixArtAlphaTextProjection. */
typedef struct embedder {
    flux_linear first, second;
} embedder;

struct flux_transformer {
    component part;
    flux_config config;
    flux_dims dims;
    flux_linear image_in, text_in, norm_out, out;
    embedder time, guidance, pooled; /* guidance only where the config has it */
    flux_double_block *doubles;
    flux_single_block *singles;
};

struct flux_step {
    flux_transformer *transformer;
    flux_step_shape shape;
    graph *graph;
    struct ggml_tensor *latents, *hidden, *pooled, *time, *guidance, *rotation, *velocity;
};

/* ── config.json ── */

static bool read_int(json root, const char *key, int low, int high, int *value, error *e) {
    int64_t wide = *value;
    if (!json_int(root, key, low, high, &wide, e)) return false;
    *value = (int)wide;
    return true;
}

static bool read_axes(json root, flux_config *c, error *e) {
    json list = {0};
    if (!json_array(root, "axes_dims_rope", &list, e)) return false;
    int sum = 0;
    for (size_t i = 0; i < FLUX_AXES; i++) {
        if (list.value != NULL) {
            yyjson_val *item = yyjson_arr_get(list.value, i);
            if (yyjson_arr_size(list.value) != FLUX_AXES || !yyjson_is_uint(item) || yyjson_get_uint(item) > 4096 ||
                yyjson_get_uint(item) % 2 != 0)
                return json_complain(root, "axes_dims_rope", e, "must be %d even whole numbers of at most 4096", FLUX_AXES);
            c->axes_dims_rope[i] = (int)yyjson_get_uint(item);
        }
        sum += c->axes_dims_rope[i];
    }
    return sum == c->attention_head_dim ||
           json_complain(root, "axes_dims_rope", e, "has the sum %d, which must be 'attention_head_dim', %d", sum, c->attention_head_dim);
}

static bool read_config(json root, flux_config *c, error *e) {
    *c = (flux_config){.in_channels = 64, .num_layers = 19, .num_single_layers = 38, .attention_head_dim = 128, .num_attention_heads = 24,
                       .joint_attention_dim = 4096, .pooled_projection_dim = 768, .axes_dims_rope = {16, 56, 56}};
    const char *class_name = "FluxTransformer2DModel";
    int patch = 1;
    if (!json_text(root, "_class_name", 128, &class_name, e)) return false;
    if (strcmp(class_name, "FluxTransformer2DModel") != 0)
        return error_set(e, ERROR_UNSUPPORTED, "%s: '_class_name' is \"%s\": only FluxTransformer2DModel is supported", root.source,
                         class_name);
    if (!read_int(root, "in_channels", 1, 1 << 16, &c->in_channels, e)) return false;
    c->out_channels = c->in_channels;
    if (!read_int(root, "out_channels", 1, 1 << 16, &c->out_channels, e) || !read_int(root, "patch_size", 1, 16, &patch, e) ||
        !read_int(root, "num_layers", 0, 1024, &c->num_layers, e) ||
        !read_int(root, "num_single_layers", 0, 1024, &c->num_single_layers, e) ||
        !read_int(root, "attention_head_dim", 2, 4096, &c->attention_head_dim, e) ||
        !read_int(root, "num_attention_heads", 1, 1024, &c->num_attention_heads, e) ||
        !read_int(root, "joint_attention_dim", 1, 1 << 17, &c->joint_attention_dim, e) ||
        !read_int(root, "pooled_projection_dim", 1, 1 << 17, &c->pooled_projection_dim, e) ||
        !json_bool(root, "guidance_embeds", &c->guidance_embeds, e))
        return false;
    c->out_channels *= patch * patch;
    return read_axes(root, c, e);
}

/* ── weights ── */

static embedder take_embedder(weight_loader *l, const char *first, const char *second, int64_t inner, int64_t in) {
    return (embedder){flux_take_linear(l, first, inner, in), flux_take_linear(l, second, inner, inner)};
}

static void take_weights(flux_transformer *t, weight_loader *l) {
    const flux_config *c = &t->config;
    int64_t n = t->dims.inner;
    t->image_in = flux_take_linear(l, "x_embedder", n, c->in_channels);
    t->text_in = flux_take_linear(l, "context_embedder", n, c->joint_attention_dim);
    t->time = take_embedder(l, "time_text_embed.timestep_embedder.linear_1", "time_text_embed.timestep_embedder.linear_2", n, SINUSOIDS);
    if (c->guidance_embeds)
        t->guidance = take_embedder(l, "time_text_embed.guidance_embedder.linear_1", "time_text_embed.guidance_embedder.linear_2", n,
                                    SINUSOIDS);
    t->pooled =
        take_embedder(l, "time_text_embed.text_embedder.linear_1", "time_text_embed.text_embedder.linear_2", n, c->pooled_projection_dim);
    for (int i = 0; i < c->num_layers; i++) {
        weight_group(l, 1 + i);
        flux_take_double_block(&t->doubles[i], l, i, &t->dims);
    }
    for (int i = 0; i < c->num_single_layers; i++) {
        weight_group(l, 1 + c->num_layers + i);
        flux_take_single_block(&t->singles[i], l, i, &t->dims);
    }
    weight_group(l, 0);
    t->norm_out = flux_take_linear(l, "norm_out.linear", 2 * n, n);
    t->out = flux_take_linear(l, "proj_out", c->out_channels, n);
}

/* Reads the config and takes the weights, which are nowhere yet. The loader is yours. */
static bool open(flux_transformer *t, device *d, const char *folder, const load_options *o, weight_loader **out, error *e) {
    json_document config;
    *out = NULL;
    bool ok = component_config(folder, &config, e) && read_config(json_root(&config), &t->config, e);
    json_document_free(&config);
    if (!ok) return false;
    const flux_config *c = &t->config;
    t->dims = (flux_dims){c->num_attention_heads, c->attention_head_dim, (int64_t)c->num_attention_heads * c->attention_head_dim};
    t->doubles = calloc((size_t)c->num_layers + 1, sizeof *t->doubles);
    t->singles = calloc((size_t)c->num_single_layers + 1, sizeof *t->singles);
    if (t->doubles == NULL || t->singles == NULL) return error_no_memory(e, "a transformer", sizeof *t);
    if (!component_open(&t->part, d, folder, o, out, e)) return false;
    weight_loader_budget(*out, o->resident_bytes);
    take_weights(t, *out);
    return true;
}

static bool load(flux_transformer *t, device *d, const char *folder, const load_options *o, error *e) {
    weight_loader *l;
    return open(t, d, folder, o, &l, e) && component_finish(&t->part, l, o, e);
}

bool flux_transformer_load(device *d, const char *folder, const load_options *o, flux_transformer **out, error *e) {
    *out = NULL;
    flux_transformer *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a transformer", sizeof *t);
    if (!load(t, d, folder, o, e)) {
        flux_transformer_free(t);
        return false;
    }
    *out = t;
    return true;
}

void flux_transformer_free(flux_transformer *t) {
    if (t == NULL) return;
    component_free(&t->part);
    free(t->doubles);
    free(t->singles);
    free(t);
}

const flux_config *flux_transformer_config(const flux_transformer *t) { return &t->config; }
component *flux_transformer_component(flux_transformer *t) { return &t->part; }
bool flux_transformer_is_half(const flux_transformer *t) { return t->image_in.weight->type != GGML_TYPE_F32; }
size_t flux_transformer_mapped_bytes(const flux_transformer *t) { return component_mapped_bytes(&t->part); }
size_t flux_transformer_private_bytes(const flux_transformer *t) { return component_private_bytes(&t->part); }
size_t flux_transformer_device_bytes(const flux_transformer *t) { return component_device_bytes(&t->part); }
weight_residency flux_transformer_residency(const flux_transformer *t) { return weight_set_residency(t->part.weights); }

/* ── one step ── */

static struct ggml_tensor *embed(graph *g, const embedder *m, struct ggml_tensor *x) {
    return flux_apply(g, &m->second, compute_activation(g, flux_apply(g, &m->first, x), ACTIVATION_SILU));
}

/* silu(temb): all that the blocks want of it. */
static struct ggml_tensor *condition_of(flux_step *s) {
    const flux_transformer *t = s->transformer;
    struct ggml_context *c = graph_context(s->graph);
    struct ggml_tensor *sum = embed(s->graph, &t->time, s->time);
    if (s->guidance != NULL) sum = ggml_add(c, sum, embed(s->graph, &t->guidance, s->guidance));
    sum = ggml_add(c, sum, embed(s->graph, &t->pooled, s->pooled));
    return compute_activation(s->graph, sum, ACTIVATION_SILU);
}

static void make_inputs(flux_step *s) {
    const flux_config *c = &s->transformer->config;
    graph *g = s->graph;
    int64_t image = (int64_t)s->shape.rows * s->shape.columns, text = s->shape.text_tokens, batch = s->shape.batch;
    s->latents = graph_input(g, GGML_TYPE_F32, c->in_channels, image, batch, 1);
    s->hidden = graph_input(g, GGML_TYPE_F32, c->joint_attention_dim, text, batch, 1);
    s->pooled = graph_input(g, GGML_TYPE_F32, c->pooled_projection_dim, 1, batch, 1);
    s->time = graph_input(g, GGML_TYPE_F32, SINUSOIDS, 1, batch, 1);
    if (c->guidance_embeds) s->guidance = graph_input(g, GGML_TYPE_F32, SINUSOIDS, 1, batch, 1);
    s->rotation = graph_input(g, GGML_TYPE_F32, 2, c->attention_head_dim / 2, text + image, 1);
}

static void build(flux_step *s) {
    const flux_transformer *t = s->transformer;
    graph *g = s->graph;
    int64_t n = t->dims.inner, image_tokens = (int64_t)s->shape.rows * s->shape.columns, text_tokens = s->shape.text_tokens;
    make_inputs(s);
    if (flux_transformer_is_half(t)) graph_allow_half(g);
    struct ggml_tensor *condition = condition_of(s);
    struct ggml_tensor *image = flux_apply(g, &t->image_in, s->latents), *text = flux_apply(g, &t->text_in, s->hidden);
    for (int i = 0; i < t->config.num_layers; i++) {
        flux_double_block_apply(g, &t->doubles[i], &t->dims, condition, s->rotation, &image, &text);
        graph_then(g, image);
        if (i + 1 < t->config.num_layers || t->config.num_single_layers > 0)
            graph_then(g, text); /* the last text is of use to single blocks only */
    }
    if (t->config.num_single_layers > 0) {
        struct ggml_tensor *all = compute_concat(g, text, image, 1);
        for (int i = 0; i < t->config.num_single_layers; i++) {
            all = flux_single_block_apply(g, &t->singles[i], &t->dims, condition, s->rotation, all);
            graph_then(g, all);
        }
        image = flux_tokens(g, all, text_tokens, image_tokens);
    }
    struct ggml_tensor *modulation = flux_apply(g, &t->norm_out, condition); /* AdaLayerNormContinuous: scale first */
    image = flux_modulated_norm(g, image, flux_vector(g, modulation, n, 0), flux_vector(g, modulation, n, 1));
    s->velocity = graph_output(g, flux_apply(g, &t->out, image));
}

/* FluxPosEmbed: text tokens stand at (0, 0, 0), image tokens at (0, row, column); angles in double, as there. */
static bool set_rotation(flux_step *s, error *e) {
    const flux_config *c = &s->transformer->config;
    size_t pairs = (size_t)c->attention_head_dim / 2,
           tokens = (size_t)s->shape.text_tokens + (size_t)s->shape.rows * (size_t)s->shape.columns;
    float *table = malloc(tokens * pairs * 2 * sizeof *table), *at = table;
    if (table == NULL) return error_no_memory(e, "the tokens' places", tokens * pairs * 2 * sizeof *table);
    for (size_t token = 0; token < tokens; token++) {
        size_t place = token < (size_t)s->shape.text_tokens ? 0 : token - (size_t)s->shape.text_tokens;
        const double position[FLUX_AXES] = {0, (double)(place / (size_t)s->shape.columns), (double)(place % (size_t)s->shape.columns)};
        for (int axis = 0; axis < FLUX_AXES; axis++)
            for (int i = 0; i < c->axes_dims_rope[axis]; i += 2) {
                double angle = position[axis] / pow(10000.0, (double)i / c->axes_dims_rope[axis]);
                *at++ = (float)cos(angle);
                *at++ = (float)sin(angle);
            }
    }
    graph_set(s->rotation, table);
    free(table);
    return true;
}

static bool check_shape(const flux_transformer *t, const flux_step_shape *s, error *e) {
    if (s->rows < 1 || s->rows > FLUX_MAX_SIDE || s->columns < 1 || s->columns > FLUX_MAX_SIDE)
        return error_set(e, ERROR_INVALID, "a picture of %d × %d tokens: from 1 to %d are possible each way", s->columns, s->rows,
                         FLUX_MAX_SIDE);
    if (s->text_tokens < 1 || s->text_tokens > FLUX_MAX_TEXT_TOKENS)
        return error_set(e, ERROR_INVALID, "%d text tokens: from 1 to %d are possible", s->text_tokens, FLUX_MAX_TEXT_TOKENS);
    if (s->batch < 1 || s->batch > FLUX_MAX_BATCH)
        return error_set(e, ERROR_INVALID, "%d pictures at once: from 1 to %d are possible", s->batch, FLUX_MAX_BATCH);
    size_t tokens = (size_t)s->rows * (size_t)s->columns + (size_t)s->text_tokens, bytes;
    if (!checked_mul(tokens * (size_t)s->batch, (size_t)t->dims.inner * 32, &bytes) || bytes > max_activation_bytes)
        return error_set(e, ERROR_TOO_LARGE, "%d pictures of %d × %d tokens are more than any memory holds", s->batch, s->columns, s->rows);
    return true;
}

/* The graph for a shape, without memory. */
static bool describe(flux_transformer *t, const flux_step_shape *shape, flux_step **out, error *e) {
    *out = NULL;
    if (!check_shape(t, shape, e)) return false;
    flux_step *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "a denoising step", sizeof *s);
    s->transformer = t;
    s->shape = *shape;
    size_t nodes = (size_t)t->config.num_layers * NODES_A_DOUBLE_BLOCK + (size_t)t->config.num_single_layers * NODES_A_SINGLE_BLOCK +
                   OTHER_NODES;
    if (shape->attention_slice > 0) nodes += (size_t)(t->config.num_layers + t->config.num_single_layers) * ATTENTION_SLICE_NODES;
    if (!graph_new(t->part.device, nodes, &s->graph, e)) {
        flux_step_free(s);
        return false;
    }
    graph_set_attention_slice(s->graph, shape->attention_slice);
    graph_stream(s->graph, weight_set_streaming(t->part.weights));
    build(s);
    *out = s;
    return true;
}

bool flux_step_new(flux_transformer *t, const flux_step_shape *shape, flux_step **out, error *e) {
    if (!describe(t, shape, out, e)) return false;
    if (graph_reserve((*out)->graph, e) && set_rotation(*out, e)) return true;
    flux_step_free(*out);
    *out = NULL;
    return false;
}

bool flux_step_measure(flux_transformer *t, const flux_step_shape *shape, size_t *bytes, error *e) {
    flux_step *s;
    *bytes = 0;
    if (!describe(t, shape, &s, e)) return false;
    bool ok = graph_size(s->graph, e);
    if (ok) *bytes = graph_needed_bytes(s->graph);
    flux_step_free(s);
    return ok;
}

bool flux_transformer_measure(device *d, const char *folder, const load_options *o, const flux_step_shape *shape, flux_needs *out,
                              error *e) {
    const load_options mapped = {.precision = o->precision, .resident_bytes = SIZE_MAX};
    weight_loader *l = NULL;
    *out = (flux_needs){0};
    flux_transformer *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a transformer", sizeof *t);
    bool ok = open(t, d, folder, &mapped, &l, e);
    if (ok && !weight_loader_bounds(l, &out->weights, &out->least_weights, e)) ok = error_prefix(e, "%s: ", folder);
    ok = ok && (shape == NULL || flux_step_measure(t, shape, &out->step, e));
    weight_loader_free(l);
    flux_transformer_free(t);
    return ok;
}

bool flux_step_slice_for(flux_transformer *t, const flux_step_shape *shape, size_t available_bytes, size_t *slice, error *e) {
    flux_step_shape s = *shape;
    if (!check_shape(t, &s, e)) return false;
    size_t tokens = (size_t)s.rows * (size_t)s.columns + (size_t)s.text_tokens, bytes = 0, scores;
    if (!checked_mul(tokens, tokens * (size_t)t->dims.heads * (size_t)s.batch * sizeof(float), &scores))
        return error_set(e, ERROR_TOO_LARGE, "%d pictures of %d × %d tokens are more than any memory holds", s.batch, s.columns, s.rows);
    for (size_t parts = 1; parts <= ATTENTION_MAX_SLICES; parts *= 2) {
        *slice = s.attention_slice = parts == 1 ? 0 : scores / parts + 1;
        if (!flux_step_measure(t, &s, &bytes, e)) return false;
        if (bytes <= available_bytes) return true;
    }
    return error_set(e, ERROR_OUT_OF_MEMORY, "a denoising step needs %zu MiB even with attention in slices; %zu MiB are there", bytes >> 20,
                     available_bytes >> 20);
}

void flux_step_free(flux_step *s) {
    if (s == NULL) return;
    graph_free(s->graph);
    free(s);
}

bool flux_step_has_shape(const flux_step *s, const flux_step_shape *shape) {
    return s->shape.rows == shape->rows && s->shape.columns == shape->columns && s->shape.text_tokens == shape->text_tokens &&
           s->shape.batch == shape->batch && s->shape.attention_slice == shape->attention_slice;
}

size_t flux_step_bytes(const flux_step *s) { return graph_buffer_bytes(s->graph); }

void flux_step_condition(flux_step *s, const float *hidden, const float *pooled) {
    graph_set(s->hidden, hidden);
    graph_set(s->pooled, pooled);
}

void flux_step_condition_item(flux_step *s, int item, const float *hidden, const float *pooled) {
    size_t hidden_bytes = ggml_nbytes(s->hidden) / (size_t)s->shape.batch, pooled_bytes = ggml_nbytes(s->pooled) / (size_t)s->shape.batch;
    graph_set_part(s->hidden, hidden, (size_t)item * hidden_bytes, hidden_bytes);
    graph_set_part(s->pooled, pooled, (size_t)item * pooled_bytes, pooled_bytes);
}

/* Timesteps: cosines, then sines, of 128 frequencies from 1 down to 1/10000; frequencies and angles rounded to f32, as there. */
static void set_sinusoids(struct ggml_tensor *input, const float *values, int batch) {
    float table[SINUSOIDS];
    for (int item = 0; item < batch; item++) {
        float value = values[item] * 1000.0f;
        for (int i = 0; i < SINUSOIDS / 2; i++) {
            float frequency = (float)exp((double)((float)(-log(10000.0)) * (float)i / (SINUSOIDS / 2)));
            float angle = value * frequency;
            table[i] = (float)cos((double)angle);
            table[SINUSOIDS / 2 + i] = (float)sin((double)angle);
        }
        graph_set_part(input, table, (size_t)item * sizeof table, sizeof table);
    }
}

bool flux_step_run(flux_step *s, const float *latents, const float *timesteps, const float *guidance, float *velocity, error *e) {
    graph_set(s->latents, latents);
    set_sinusoids(s->time, timesteps, s->shape.batch);
    if (s->guidance != NULL) {
        if (guidance == NULL) return error_set(e, ERROR_INTERNAL, "this transformer wants a guidance scale");
        set_sinusoids(s->guidance, guidance, s->shape.batch);
    }
    if (!graph_run(s->graph, e)) return false;
    graph_get(s->velocity, velocity);
    return true;
}
