#include "models/autoencoder_encoder.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "models/autoencoder_blocks.h"

enum { NAME_BYTES = 128 };

typedef struct down_block {
    autoencoder_resnet *resnets; /* layers_per_block */
    autoencoder_pair downsample; /* weight NULL in the last block */
} down_block;

struct autoencoder_encoder {
    component part;
    autoencoder_kl_config config;
    autoencoder_resnet *resnets; /* of all down blocks */
    autoencoder_pair conv_in, norm_out, conv_out, quant; /* quant.weight NULL without */
    autoencoder_resnet mid[2];
    autoencoder_attention mid_attention;
    down_block down[AUTOENCODER_KL_MAX_BLOCKS]; /* finest first */
    /* the graph in `part` is for this shape */
    int width, height, batch;
    struct ggml_tensor *in_pixels, *out_mean;
};

static void take_down_block(autoencoder_encoder *m, weight_loader *l, int64_t i) {
    const autoencoder_kl_config *c = &m->config;
    down_block *block = &m->down[i];
    int64_t out = c->channels[i], in = i > 0 ? c->channels[i - 1] : out;
    char name[NAME_BYTES];
    block->resnets = m->resnets + i * c->layers_per_block;
    for (int64_t r = 0; r < c->layers_per_block; r++) {
        snprintf(name, sizeof name, "encoder.down_blocks.%d.resnets.%d", (int)i, (int)r);
        block->resnets[r] = autoencoder_take_resnet(l, name, out, r == 0 ? in : out);
    }
    if (i == c->blocks - 1) return;
    snprintf(name, sizeof name, "encoder.down_blocks.%d.downsamplers.0.conv", (int)i);
    block->downsample = autoencoder_take_conv(l, name, out, out, 3);
}

static void take_encoder(autoencoder_encoder *m, weight_loader *l) {
    const autoencoder_kl_config *c = &m->config;
    int64_t coarse = c->channels[c->blocks - 1], moments = 2 * c->latent_channels;
    m->conv_in = autoencoder_take_conv(l, "encoder.conv_in", c->channels[0], c->in_channels, 3);
    for (int64_t i = 0; i < c->blocks; i++) take_down_block(m, l, i);
    m->mid[0] = autoencoder_take_resnet(l, "encoder.mid_block.resnets.0", coarse, coarse);
    if (c->mid_attention) m->mid_attention = autoencoder_take_attention(l, "encoder.mid_block.attentions.0", coarse);
    m->mid[1] = autoencoder_take_resnet(l, "encoder.mid_block.resnets.1", coarse, coarse);
    m->norm_out = autoencoder_take_norm(l, "encoder.conv_norm_out", coarse);
    m->conv_out = autoencoder_take_conv(l, "encoder.conv_out", moments, coarse, 3);
    if (c->quant_conv) m->quant = autoencoder_take_conv(l, "quant_conv", moments, moments, 1);
}

static bool load(autoencoder_encoder *m, device *d, const char *folder, const load_options *o, error *e) {
    json_document config;
    bool ok = component_config(folder, &config, e) && autoencoder_config_read(json_root(&config), &m->config, e) &&
              autoencoder_config_blocks(json_root(&config), &m->config, "down_block_types", "DownEncoderBlock2D", e);
    json_document_free(&config);
    if (!ok) return false;
    size_t resnets = (size_t)(m->config.blocks * m->config.layers_per_block);
    m->resnets = calloc(resnets, sizeof *m->resnets);
    if (m->resnets == NULL) return error_no_memory(e, "an image encoder", resnets * sizeof *m->resnets);
    weight_loader *l;
    if (!component_open(&m->part, d, folder, o, &l, e)) return false;
    take_encoder(m, l);
    return component_finish(&m->part, l, o, e);
}

bool autoencoder_encoder_load(device *d, const char *folder, const load_options *o, autoencoder_encoder **out, error *e) {
    *out = NULL;
    autoencoder_encoder *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "an image encoder", sizeof *m);
    load_options how = *o;
    /* On GPUs all of it is f32, as the decoder is. */
    if (how.precision == PRECISION_AUTO && !device_is_cpu(d)) how.precision = PRECISION_F32;
    if (!load(m, d, folder, &how, e)) {
        autoencoder_encoder_free(m);
        return false;
    }
    *out = m;
    return true;
}

void autoencoder_encoder_free(autoencoder_encoder *m) {
    if (m == NULL) return;
    component_free(&m->part);
    free(m->resnets);
    free(m);
}

const autoencoder_kl_config *autoencoder_encoder_config(const autoencoder_encoder *m) { return &m->config; }
component *autoencoder_encoder_component(autoencoder_encoder *m) { return &m->part; }

int autoencoder_encoder_factor(const autoencoder_encoder *m) { return 1 << (m->config.blocks - 1); }

/* The moments, [W, H, 2·latent_channels, N]: the means first, then the logarithms of the variances. */
static struct ggml_tensor *apply_encoder(const autoencoder_encoder *m, graph *g, struct ggml_tensor *x) {
    const autoencoder_kl_config *c = &m->config;
    autoencoder_style style = {.groups = (int)c->groups, .act = c->act};
    x = autoencoder_conv(g, x, m->conv_in);
    for (int64_t i = 0; i < c->blocks; i++) {
        const down_block *block = &m->down[i];
        for (int64_t r = 0; r < c->layers_per_block; r++) x = autoencoder_apply_resnet(g, x, &block->resnets[r], style);
        if (block->downsample.weight != NULL) x = compute_conv2d(g, x, block->downsample.weight, block->downsample.bias, 2, 1, true);
    }
    x = autoencoder_apply_resnet(g, x, &m->mid[0], style);
    if (c->mid_attention) x = autoencoder_apply_attention(g, x, &m->mid_attention, style.groups);
    x = autoencoder_apply_resnet(g, x, &m->mid[1], style);
    x = compute_activation(g, autoencoder_norm(g, x, m->norm_out, style.groups), ACTIVATION_SILU);
    x = autoencoder_conv(g, x, m->conv_out);
    return c->quant_conv ? autoencoder_conv(g, x, m->quant) : x;
}

/* Pixels to means, in f32, contiguous. */
static struct ggml_tensor *describe(const autoencoder_encoder *m, graph *g, struct ggml_tensor *pixels) {
    struct ggml_context *ctx = graph_context(g);
    struct ggml_tensor *x = apply_encoder(m, g, pixels);
    x = ggml_view_4d(ctx, x, x->ne[0], x->ne[1], m->config.latent_channels, x->ne[3], x->nb[1], x->nb[2], x->nb[3], 0);
    return graph_output(g, ggml_cont(ctx, x));
}

static bool new_graph(const autoencoder_encoder *m, graph **out, error *e) {
    size_t resnets = (size_t)(m->config.blocks * m->config.layers_per_block) + 2;
    return component_new_graph(&m->part, 512 + 64 * resnets, 1, out, e);
}

static bool build(autoencoder_encoder *m, int width, int height, int batch, error *e) {
    if (m->part.graph != NULL && m->width == width && m->height == height && m->batch == batch) return true;
    component_release(&m->part);
    if (!new_graph(m, &m->part.graph, e)) return false;
    graph *g = m->part.graph;
    m->width = width;
    m->height = height;
    m->batch = batch;
    m->in_pixels = graph_input(g, GGML_TYPE_F32, width, height, m->config.in_channels, batch);
    m->out_mean = describe(m, g, m->in_pixels);
    if (graph_reserve(g, e)) return true;
    component_release(&m->part);
    return false;
}

/* *count: how many numbers the latents are. */
static bool check_shape(const autoencoder_encoder *m, int width, int height, int batch, size_t *count, error *e) {
    int factor = autoencoder_encoder_factor(m);
    if (width < 1 || height < 1 || width > AUTOENCODER_KL_MAX_SIDE || height > AUTOENCODER_KL_MAX_SIDE || batch < 1 ||
        batch > AUTOENCODER_KL_MAX_BATCH)
        return error_set(e, ERROR_INVALID, "%d pictures of %d × %d: an image encoder takes 1 to %d, of sides from 1 to %d", batch, width,
                         height, AUTOENCODER_KL_MAX_BATCH, AUTOENCODER_KL_MAX_SIDE);
    if (width % factor != 0 || height % factor != 0)
        return error_set(e, ERROR_INVALID, "a picture of %d × %d: this image encoder takes sides that are multiples of %d", width, height,
                         factor);
    size_t values, bytes;
    if (!checked_mul((size_t)width * (size_t)height, (size_t)(m->config.in_channels * batch), &values) ||
        !checked_mul(values, sizeof(float), &bytes) ||
        !checked_mul((size_t)(width / factor) * (size_t)(height / factor), (size_t)(m->config.latent_channels * batch), count))
        return error_set(e, ERROR_TOO_LARGE, "%d pictures of %d × %d do not fit in memory", batch, width, height);
    return true;
}

bool autoencoder_encoder_measure(const autoencoder_encoder *m, int width, int height, int batch, size_t *bytes, error *e) {
    size_t count;
    graph *g = NULL;
    *bytes = 0;
    if (!check_shape(m, width, height, batch, &count, e) || !new_graph(m, &g, e)) return false;
    describe(m, g, graph_input(g, GGML_TYPE_F32, width, height, m->config.in_channels, batch));
    return component_measured(g, true, bytes, e);
}

bool autoencoder_encoder_encode(autoencoder_encoder *m, const float *pixels, int width, int height, int batch, float *latents, error *e) {
    size_t count = 0;
    if (!check_shape(m, width, height, batch, &count, e) || !build(m, width, height, batch, e)) return false;
    graph_set(m->in_pixels, pixels);
    if (!graph_run(m->part.graph, e)) return false;
    graph_get(m->out_mean, latents);
    float scaling = (float)m->config.scaling_factor, shift = (float)m->config.shift_factor;
    for (size_t i = 0; i < count; i++) latents[i] = (latents[i] - shift) * scaling; /* each operation rounded to f32 */
    return true;
}

void autoencoder_encoder_from_rgb8(const uint8_t *rgb, int width, int height, float *planes) {
    size_t count = (size_t)width * (size_t)height;
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++) planes[c * count + i] = 2.0f * ((float)rgb[i * 3 + c] / 255.0f) - 1.0f;
}
