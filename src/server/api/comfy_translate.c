/* What a graph that was found right asks for: from the outputs back over decoder and sampler to texts, latents and pictures. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/flux_original.h"
#include "server/api/comfy_graph_internal.h"

enum { MOST_STEPS = 1000, DETAIL_BYTES = 256 };

/* A graph that ComfyUI runs, and this server does not. */
static bool cannot(comfy_graph *g, const comfy_node *n, const char *details) {
    return comfy_problem(g, n, "unsupported_graph", "This server cannot run this", details, NULL, NULL);
}

/* --- texts --- */

typedef struct conditioning {
    const char *text;
    double guidance; /* below 0: not said */
} conditioning;

static bool read_conditioning(comfy_graph *g, const comfy_node *n, int slot, conditioning *out);

static bool read_linked_conditioning(comfy_graph *g, const comfy_node *n, const char *input, conditioning *out) {
    int slot = 0;
    const comfy_node *from = comfy_source_of(g, n, input, &slot);
    return from != NULL && read_conditioning(g, from, slot, out);
}

static const char *either(const char *text, const char *other) { return text[0] != '\0' ? text : other; }

static bool read_conditioning(comfy_graph *g, const comfy_node *n, int slot, conditioning *out) {
    switch (n->class->kind) {
    case KIND_TEXT: *out = (conditioning){comfy_value_of(g, n, "text").text, -1}; return true;
    case KIND_TEXT_FLUX:
        *out = (conditioning){either(comfy_value_of(g, n, "t5xxl").text, comfy_value_of(g, n, "clip_l").text),
                              comfy_value_of(g, n, "guidance").number};
        return true;
    case KIND_TEXT_SDXL:
        *out = (conditioning){either(comfy_value_of(g, n, "text_g").text, comfy_value_of(g, n, "text_l").text), -1};
        return true;
    case KIND_GUIDANCE:
        if (!read_linked_conditioning(g, n, "conditioning", out)) return false;
        out->guidance = comfy_value_of(g, n, "guidance").number;
        return true;
    case KIND_ZERO_OUT:
        if (!read_linked_conditioning(g, n, "conditioning", out)) return false;
        out->text = "";
        return true;
    case KIND_INPAINT_CONDITIONING: return read_linked_conditioning(g, n, slot == 0 ? "positive" : "negative", out);
    default: return cannot(g, n, "it makes no conditioning");
    }
}

/* --- the model --- */

static bool read_model(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    int slot = 0;
    const comfy_node *from = comfy_source_of(g, n, "model", &slot);
    while (from != NULL && from->class->kind == KIND_MODEL_PASS) from = comfy_source_of(g, from, "model", &slot);
    if (from == NULL) return cannot(g, n, "its model comes from no loader");
    out->model = g->world->model(g->world->context,
                                 comfy_value_of(g, from, from->class->kind == KIND_UNET ? "unet_name" : "ckpt_name").text);
    return out->model != NULL || cannot(g, from, "there is no such model any more");
}

/* --- pictures and masks --- */

typedef struct pixels {
    comfy_picture picture;
    int width, height; /* after scaling */
} pixels;

static bool read_pixels(comfy_graph *g, const comfy_node *n, const char *input, pixels *out);

static int scaled_side(double side) { return side < 1 ? 1 : side > MODEL_MAX_SIDE ? MODEL_MAX_SIDE : (int)(side + 0.5); }

/* A side of 0 follows the other, both of 0 leave the picture as it is. */
static void scale(pixels *p, double width, double height) {
    double ratio = (double)p->width / p->height;
    if (width == 0 && height == 0) return;
    p->width = scaled_side(width != 0 ? width : height * ratio);
    p->height = scaled_side(height != 0 ? height : width / ratio);
}

static bool read_picture_node(comfy_graph *g, const comfy_node *n, pixels *out) {
    switch (n->class->kind) {
    case KIND_LOAD_IMAGE:
        if (!g->world->picture(g->world->context, comfy_value_of(g, n, "image").text, &out->picture))
            return cannot(g, n, "there is no such picture any more");
        out->width = out->picture.width;
        out->height = out->picture.height;
        return true;
    case KIND_SCALE:
        if (!read_pixels(g, n, "image", out)) return false;
        scale(out, comfy_value_of(g, n, "width").number, comfy_value_of(g, n, "height").number);
        return true;
    case KIND_SCALE_BY:
        if (!read_pixels(g, n, "image", out)) return false;
        scale(out, out->width * comfy_value_of(g, n, "scale_by").number, out->height * comfy_value_of(g, n, "scale_by").number);
        return true;
    case KIND_VAE_DECODE:
        return cannot(g, n, "a picture that was made in the same graph cannot be worked on further: save it, and load it in another");
    default: return cannot(g, n, "it makes no picture");
    }
}

static bool read_pixels(comfy_graph *g, const comfy_node *n, const char *input, pixels *out) {
    int slot = 0;
    const comfy_node *from = comfy_source_of(g, n, input, &slot);
    return from != NULL && read_picture_node(g, from, out);
}

static bool read_mask(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    int slot = 0;
    const comfy_node *from = comfy_source_of(g, n, "mask", &slot);
    if (from == NULL || (from->class->kind != KIND_LOAD_IMAGE && from->class->kind != KIND_LOAD_MASK))
        return cannot(g, n, "its mask must come from a picture that is loaded");
    if (!g->world->picture(g->world->context, comfy_value_of(g, from, "image").text, &out->mask))
        return cannot(g, from, "there is no such picture any more");
    out->mask_is_alpha = from->class->kind == KIND_LOAD_IMAGE || strcmp(comfy_value_of(g, from, "channel").text, "alpha") == 0;
    if (out->mask_is_alpha) memcpy(out->mask.image, out->mask.mask, sizeof out->mask.image);
    return true;
}

/* --- latents --- */

static bool read_latent(comfy_graph *g, const comfy_node *n, const char *input, comfy_plan *out);

/* What is encoded decides the size; it is cut to what the model takes. */
static bool encode(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    pixels p = {0};
    if (!read_pixels(g, n, "pixels", &p)) return false;
    int multiple = out->model->size_multiple;
    out->picture = p.picture;
    out->width = p.width / multiple * multiple;
    out->height = p.height / multiple * multiple;
    out->count = 1;
    return (out->width > 0 && out->height > 0) || cannot(g, n, "the picture is smaller than the smallest that the model makes");
}

static bool read_latent_node(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    switch (n->class->kind) {
    case KIND_EMPTY_LATENT:
        out->width = (int)comfy_value_of(g, n, "width").number;
        out->height = (int)comfy_value_of(g, n, "height").number;
        out->count = (int)comfy_value_of(g, n, "batch_size").number;
        return true;
    case KIND_LATENT_REPEAT:
        if (!read_latent(g, n, "samples", out)) return false;
        out->count *= (int)comfy_value_of(g, n, "amount").number; /* at most 4096 · 64, and again only through as many nodes: see the cap */
        if (out->count > TASK_MAX_IMAGES) out->count = TASK_MAX_IMAGES + 1;
        return true;
    case KIND_LATENT_BATCH: {
        if (!read_latent(g, n, "samples", out)) return false;
        int from = (int)comfy_value_of(g, n, "batch_index").number, length = (int)comfy_value_of(g, n, "length").number;
        if (from >= out->count) from = out->count - 1;
        out->seed += (uint64_t)from; /* picture i has seed + i */
        out->count = length < out->count - from ? length : out->count - from;
        return true;
    }
    case KIND_VAE_ENCODE: return encode(g, n, out);
    case KIND_NOISE_MASK: return read_latent(g, n, "samples", out) && read_mask(g, n, out);
    case KIND_VAE_INPAINT: return encode(g, n, out) && read_mask(g, n, out);
    case KIND_INPAINT_CONDITIONING: return encode(g, n, out) && read_mask(g, n, out);
    case KIND_KSAMPLER:
    case KIND_KSAMPLER_ADVANCED:
    case KIND_SAMPLER_CUSTOM:
    case KIND_SAMPLER_ADVANCED: return cannot(g, n, "a second sampler cannot go on with the latent of a first");
    default: return cannot(g, n, "it makes no latent");
    }
}

static bool read_latent(comfy_graph *g, const comfy_node *n, const char *input, comfy_plan *out) {
    int slot = 0;
    const comfy_node *from = comfy_source_of(g, n, input, &slot);
    if (from == NULL || !read_latent_node(g, from, out)) return false;
    if (out->count <= TASK_MAX_IMAGES) return true;
    char details[DETAIL_BYTES];
    snprintf(details, sizeof details, "at most %d pictures at once", TASK_MAX_IMAGES);
    return cannot(g, from, details);
}

/* --- samplers --- */

/* The last `steps` of a schedule of `whole` run, a share of it that the pipeline takes as its strength. */
static bool set_schedule(comfy_graph *g, const comfy_node *n, comfy_plan *out, double steps, double whole, double share) {
    char details[DETAIL_BYTES];
    if (whole < 1 || whole > MOST_STEPS) {
        snprintf(details, sizeof details, "%.0f steps with a denoise of %g are %.0f: at most %d are run", steps, share, whole, MOST_STEPS);
        return cannot(g, n, details);
    }
    out->steps = (int)whole;
    out->shown_steps = (int)steps;
    out->strength = share;
    /* It leaves out whole steps, so that a share a hair too large would run one more: in the middle of that step it says the same, and no
     * rounding matters. */
    if (out->steps - flux_original_first_step(out->steps, share) != out->shown_steps) out->strength = (steps - 0.5) / whole;
    return true;
}

/* With `denoise` below 1, ComfyUI runs `steps` steps at the end of a longer schedule. Of noise alone there is nothing to keep. */
static bool set_steps(comfy_graph *g, const comfy_node *n, comfy_plan *out, double steps, double denoise) {
    if (out->picture.image[0] == '\0') return set_schedule(g, n, out, steps, steps, 1);
    if (denoise <= 0) return cannot(g, n, "a denoise of 0 changes nothing: it must be above 0");
    return set_schedule(g, n, out, steps, floor(steps / denoise), denoise);
}

/* The pair of texts, and how much the second one counts. */
static bool set_texts(comfy_graph *g, const comfy_node *n, comfy_plan *out, const char *positive, const char *negative, double cfg) {
    conditioning wanted, unwanted = {"", -1};
    if (!read_linked_conditioning(g, n, positive, &wanted)) return false;
    if (negative != NULL && !read_linked_conditioning(g, n, negative, &unwanted)) return false;
    out->prompt = wanted.text;
    out->guidance_scale = wanted.guidance;
    bool both = cfg > 1 && unwanted.text[0] != '\0';
    out->negative_prompt = unwanted.text[0] != '\0' ? unwanted.text : NULL;
    out->true_cfg_scale = both ? cfg : 1;
    return true;
}

static bool read_ksampler(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    out->seed = comfy_value_of(g, n, "seed").whole;
    return read_model(g, n, out) && set_texts(g, n, out, "positive", "negative", comfy_value_of(g, n, "cfg").number) &&
           read_latent(g, n, "latent_image", out) &&
           set_steps(g, n, out, comfy_value_of(g, n, "steps").number, comfy_value_of(g, n, "denoise").number);
}

static bool read_ksampler_advanced(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    double steps = comfy_value_of(g, n, "steps").number, from = comfy_value_of(g, n, "start_at_step").number,
           to = comfy_value_of(g, n, "end_at_step").number;
    if (strcmp(comfy_value_of(g, n, "add_noise").text, "enable") != 0)
        return cannot(g, n, "add_noise must be enable: no sampler stands before it");
    if (to < steps || strcmp(comfy_value_of(g, n, "return_with_leftover_noise").text, "enable") == 0)
        return cannot(g, n, "it must run to the last step and leave no noise: no sampler follows it");
    if (from >= steps) return cannot(g, n, "start_at_step leaves no step to run");
    out->seed = comfy_value_of(g, n, "noise_seed").whole;
    if (!read_model(g, n, out) || !set_texts(g, n, out, "positive", "negative", comfy_value_of(g, n, "cfg").number) ||
        !read_latent(g, n, "latent_image", out))
        return false;
    double left = out->picture.image[0] != '\0' ? steps - from : steps;
    return set_schedule(g, n, out, left, steps, left / steps);
}

static bool read_sigmas(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    int slot = 0;
    const comfy_node *from = comfy_source_of(g, n, "sigmas", &slot);
    if (from == NULL || from->class->kind != KIND_SCHEDULER) return cannot(g, n, "its sigmas must come from a BasicScheduler");
    return set_steps(g, from, out, comfy_value_of(g, from, "steps").number, comfy_value_of(g, from, "denoise").number);
}

static bool read_sampler_custom(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    if (!comfy_value_of(g, n, "add_noise").flag) return cannot(g, n, "add_noise must be true: no sampler stands before it");
    out->seed = comfy_value_of(g, n, "noise_seed").whole;
    return read_model(g, n, out) && set_texts(g, n, out, "positive", "negative", comfy_value_of(g, n, "cfg").number) &&
           read_latent(g, n, "latent_image", out) && read_sigmas(g, n, out);
}

static bool read_guider(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    int slot = 0;
    const comfy_node *guider = comfy_source_of(g, n, "guider", &slot);
    if (guider == NULL) return cannot(g, n, "it has no guider");
    bool pair = guider->class->kind == KIND_CFG_GUIDER;
    return read_model(g, guider, out) && set_texts(g, guider, out, pair ? "positive" : "conditioning", pair ? "negative" : NULL,
                                                   pair ? comfy_value_of(g, guider, "cfg").number : 1);
}

static bool read_sampler_advanced(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    int slot = 0;
    const comfy_node *noise = comfy_source_of(g, n, "noise", &slot);
    if (noise == NULL || noise->class->kind != KIND_NOISE) return cannot(g, n, "its noise must come from a RandomNoise");
    out->seed = comfy_value_of(g, noise, "noise_seed").whole;
    return read_guider(g, n, out) && read_latent(g, n, "latent_image", out) && read_sigmas(g, n, out);
}

static bool read_sampler(comfy_graph *g, const comfy_node *n, comfy_plan *out) {
    switch (n->class->kind) {
    case KIND_KSAMPLER: return read_ksampler(g, n, out);
    case KIND_KSAMPLER_ADVANCED: return read_ksampler_advanced(g, n, out);
    case KIND_SAMPLER_CUSTOM: return read_sampler_custom(g, n, out);
    case KIND_SAMPLER_ADVANCED: return read_sampler_advanced(g, n, out);
    default: return cannot(g, n, "what is decoded must come from a sampler");
    }
}

/* --- outputs --- */

/* The sampler whose pictures an output shows. */
static const comfy_node *sampler_of(comfy_graph *g, const comfy_node *output) {
    int slot = 0;
    const comfy_node *decoder = comfy_source_of(g, output, "images", &slot);
    if (decoder == NULL || decoder->class->kind != KIND_VAE_DECODE) {
        cannot(g, output, "only pictures that a VAEDecode or VAEDecodeTiled makes can be saved");
        return NULL;
    }
    const comfy_node *sampler = comfy_source_of(g, decoder, "samples", &slot);
    if (sampler == NULL || sampler->class->stage != STAGE_SAMPLE) {
        cannot(g, decoder, "what is decoded must come from a sampler");
        return NULL;
    }
    return sampler;
}

/* The walked nodes in the order in which this server does their work. */
static void list_nodes(comfy_graph *g, comfy_plan *out, const comfy_node *sampler) {
    for (int stage = STAGE_LOAD; stage <= STAGE_OUTPUT; stage++) {
        for (int i = 0; i < g->walked; i++) {
            const comfy_node *n = &g->nodes[g->order[i]];
            if ((int)n->class->stage != stage) continue;
            if (n == sampler) out->sampler = out->node_count;
            if (n->class->kind == KIND_SAVE) out->prefixes[out->node_count] = comfy_value_of(g, n, "filename_prefix").text;
            comfy_step *step = &out->nodes[out->node_count++];
            *step = (comfy_step){.id = n->id, .class = n->class};
            memcpy(step->signature, n->signature, sizeof step->signature);
        }
    }
}

bool comfy_translate(comfy_graph *g, comfy_plan *out) {
    const comfy_node *sampler = NULL;
    for (int i = 0; i < g->count; i++) {
        if (!g->nodes[i].class->is_output) continue;
        g->output = i;
        const comfy_node *its = sampler_of(g, &g->nodes[i]);
        if (its == NULL) return false;
        if (sampler != NULL && its != sampler)
            return cannot(g, &g->nodes[i], "all outputs must show the pictures of one sampler: send the others as prompts of their own");
        sampler = its;
    }
    if (sampler == NULL || !read_sampler(g, sampler, out)) return false;
    list_nodes(g, out, sampler);
    return true;
}
