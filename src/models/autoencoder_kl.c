#include "models/autoencoder_kl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/autoencoder_blocks.h"

enum { NAME_BYTES = 128 };

typedef struct up_block {
    autoencoder_resnet *resnets;  /* layers_per_block + 1 */
    autoencoder_pair upsample;    /* weight NULL in the last block */
} up_block;

typedef struct decoder {
    autoencoder_pair post_quant, conv_in, norm_out, conv_out; /* post_quant.weight NULL without */
    autoencoder_resnet mid[2];
    autoencoder_attention mid_attention;
    up_block up[AUTOENCODER_KL_MAX_BLOCKS]; /* coarsest first */
} decoder;

struct autoencoder_kl {
    component part;
    autoencoder_kl_config config;
    autoencoder_resnet *resnets; /* of all up blocks */
    decoder decoder;
    /* the graph in `part` is for this shape */
    int width, height, batch;
    struct ggml_tensor *in_latents, *out_pixels;
};

static void take_up_block(autoencoder_kl *m, weight_loader *l, int64_t i) {
    const autoencoder_kl_config *c = &m->config;
    up_block *block = &m->decoder.up[i];
    int64_t out = c->channels[c->blocks - 1 - i], in = i > 0 ? c->channels[c->blocks - i] : out;
    char name[NAME_BYTES];
    block->resnets = m->resnets + i * (c->layers_per_block + 1);
    for (int64_t r = 0; r <= c->layers_per_block; r++) {
        snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", (int)i, (int)r);
        block->resnets[r] = autoencoder_take_resnet(l, name, out, r == 0 ? in : out);
    }
    if (i == c->blocks - 1) return;
    snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv", (int)i);
    block->upsample = autoencoder_take_conv(l, name, out, out, 3);
}

static void take_decoder(autoencoder_kl *m, weight_loader *l) {
    const autoencoder_kl_config *c = &m->config;
    decoder *d = &m->decoder;
    int64_t coarse = c->channels[c->blocks - 1];
    if (c->post_quant_conv) d->post_quant = autoencoder_take_conv(l, "post_quant_conv", c->latent_channels, c->latent_channels, 1);
    d->conv_in = autoencoder_take_conv(l, "decoder.conv_in", coarse, c->latent_channels, 3);
    d->mid[0] = autoencoder_take_resnet(l, "decoder.mid_block.resnets.0", coarse, coarse);
    if (c->mid_attention) d->mid_attention = autoencoder_take_attention(l, "decoder.mid_block.attentions.0", coarse);
    d->mid[1] = autoencoder_take_resnet(l, "decoder.mid_block.resnets.1", coarse, coarse);
    for (int64_t i = 0; i < c->blocks; i++) take_up_block(m, l, i);
    d->norm_out = autoencoder_take_norm(l, "decoder.conv_norm_out", c->channels[0]);
    d->conv_out = autoencoder_take_conv(l, "decoder.conv_out", c->out_channels, c->channels[0], 3);
}

static bool load(autoencoder_kl *m, device *d, const char *folder, const load_options *o, error *e) {
    json_document config;
    bool ok = component_config(folder, &config, e) && autoencoder_config_read(json_root(&config), &m->config, e) &&
              autoencoder_config_blocks(json_root(&config), &m->config, "up_block_types", "UpDecoderBlock2D", e);
    json_document_free(&config);
    if (!ok) return false;
    size_t resnets = (size_t)(m->config.blocks * (m->config.layers_per_block + 1));
    m->resnets = calloc(resnets, sizeof *m->resnets);
    if (m->resnets == NULL) return error_no_memory(e, "an image decoder", resnets * sizeof *m->resnets);
    weight_loader *l;
    if (!component_open(&m->part, d, folder, o, &l, e)) return false;
    take_decoder(m, l);
    return component_finish(&m->part, l, o, e);
}

bool autoencoder_kl_load(device *d, const char *folder, const load_options *o, autoencoder_kl **out, error *e) {
    *out = NULL;
    autoencoder_kl *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "an image decoder", sizeof *m);
    load_options how = *o;
    /* On GPUs all of it is f32, as its convolutions are: the few matrices weigh nothing. */
    if (how.precision == PRECISION_AUTO && !device_is_cpu(d)) how.precision = PRECISION_F32;
    if (!load(m, d, folder, &how, e)) {
        autoencoder_kl_free(m);
        return false;
    }
    *out = m;
    return true;
}

void autoencoder_kl_free(autoencoder_kl *m) {
    if (m == NULL) return;
    component_free(&m->part);
    free(m->resnets);
    free(m);
}

const autoencoder_kl_config *autoencoder_kl_config_of(const autoencoder_kl *m) { return &m->config; }
component *autoencoder_kl_component(autoencoder_kl *m) { return &m->part; }
int autoencoder_kl_factor(const autoencoder_kl *m) { return 1 << (m->config.blocks - 1); }

static struct ggml_tensor *apply_decoder(const autoencoder_kl *m, graph *g, struct ggml_tensor *x) {
    const autoencoder_kl_config *c = &m->config;
    const decoder *d = &m->decoder;
    autoencoder_style style = {.groups = (int)c->groups, .act = c->act};
    if (c->post_quant_conv) x = autoencoder_conv(g, x, d->post_quant);
    x = autoencoder_conv(g, x, d->conv_in);
    x = autoencoder_apply_resnet(g, x, &d->mid[0], style);
    if (c->mid_attention) x = autoencoder_apply_attention(g, x, &d->mid_attention, style.groups);
    x = autoencoder_apply_resnet(g, x, &d->mid[1], style);
    for (int64_t i = 0; i < c->blocks; i++) {
        for (int64_t r = 0; r <= c->layers_per_block; r++) x = autoencoder_apply_resnet(g, x, &d->up[i].resnets[r], style);
        if (d->up[i].upsample.weight != NULL) x = autoencoder_conv(g, compute_upsample2x(g, x), d->up[i].upsample);
    }
    x = compute_activation(g, autoencoder_norm(g, x, d->norm_out, style.groups), ACTIVATION_SILU);
    return autoencoder_conv(g, x, d->conv_out);
}

static bool new_graph(const autoencoder_kl *m, graph **out, error *e) {
    size_t resnets = (size_t)(m->config.blocks * (m->config.layers_per_block + 1)) + 2;
    return component_new_graph(&m->part, 512 + 64 * resnets, 1, out, e);
}

static bool is_built(const autoencoder_kl *m, int width, int height, int batch) {
    return m->part.graph != NULL && m->width == width && m->height == height && m->batch == batch;
}

static bool build(autoencoder_kl *m, int width, int height, int batch, error *e) {
    if (is_built(m, width, height, batch)) return true;
    component_release(&m->part);
    if (!new_graph(m, &m->part.graph, e)) return false;
    graph *g = m->part.graph;
    m->width = width;
    m->height = height;
    m->batch = batch;
    m->in_latents = graph_input(g, GGML_TYPE_F32, width, height, m->config.latent_channels, batch);
    m->out_pixels = graph_output(g, apply_decoder(m, g, m->in_latents));
    if (graph_reserve(g, e)) return true;
    component_release(&m->part);
    return false;
}

/* latents / scaling_factor + shift_factor, each operation rounded to f32, as FluxPipeline does it; set as the graph's input. */
static bool set_latents(autoencoder_kl *m, const float *latents, size_t count, error *e) {
    float *scaled = malloc(count * sizeof *scaled); /* the caller checked the product */
    if (scaled == NULL) return error_no_memory(e, "latents", count * sizeof *scaled);
    float scaling = (float)m->config.scaling_factor, shift = (float)m->config.shift_factor;
    for (size_t i = 0; i < count; i++) scaled[i] = latents[i] / scaling + shift;
    graph_set(m->in_latents, scaled);
    free(scaled);
    return true;
}

static bool check_shape(const autoencoder_kl *m, int width, int height, int batch, size_t *count, error *e) {
    int most = AUTOENCODER_KL_MAX_SIDE / autoencoder_kl_factor(m);
    if (width < 1 || height < 1 || width > most || height > most || batch < 1 || batch > AUTOENCODER_KL_MAX_BATCH)
        return error_set(e, ERROR_INVALID, "%d latents of %d × %d: an image decoder takes 1 to %d, of sides from 1 to %d", batch, width,
                         height, AUTOENCODER_KL_MAX_BATCH, most);
    size_t bytes;
    if (!checked_mul((size_t)width * (size_t)height, (size_t)(m->config.latent_channels * batch), count) ||
        !checked_mul(*count, sizeof(float), &bytes))
        return error_set(e, ERROR_TOO_LARGE, "%d latents of %d × %d do not fit in memory", batch, width, height);
    return true;
}

bool autoencoder_kl_measure(const autoencoder_kl *m, int width, int height, int batch, size_t *bytes, error *e) {
    size_t count;
    graph *g = NULL;
    *bytes = 0;
    if (!check_shape(m, width, height, batch, &count, e) || !new_graph(m, &g, e)) return false;
    graph_output(g, apply_decoder(m, g, graph_input(g, GGML_TYPE_F32, width, height, m->config.latent_channels, batch)));
    return component_measured(g, true, bytes, e);
}

bool autoencoder_kl_fits(const autoencoder_kl *m, int width, int height, int batch, error *e) {
    size_t bytes;
    if (is_built(m, width, height, batch)) return true;
    return autoencoder_kl_measure(m, width, height, batch, &bytes, e) && device_could_claim(m->part.device, DEVICE_COMPUTE, bytes, e);
}

bool autoencoder_kl_decode(autoencoder_kl *m, const float *latents, int width, int height, int batch, float *pixels, error *e) {
    size_t count = 0;
    if (!check_shape(m, width, height, batch, &count, e) || !build(m, width, height, batch, e) || !set_latents(m, latents, count, e) ||
        !graph_run(m->part.graph, e))
        return false;
    graph_get(m->out_pixels, pixels);
    return true;
}

void autoencoder_kl_to_rgb8(const float *planes, int width, int height, uint8_t *rgb) {
    size_t count = (size_t)width * (size_t)height;
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < 3; c++) {
            float x = planes[c * count + i] * 0.5f + 0.5f;
            x = x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
            rgb[i * 3 + c] = (uint8_t)nearbyintf(x * 255.0f);
        }
    }
}
