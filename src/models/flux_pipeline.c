#include "models/flux_pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/flux_latents.h"
#include "models/flux_transformer.h"
#include "models/t5_encoder.h"
#include "sampling/flow_match_euler.h"
#include "sampling/torch_random.h"

enum { CLIP_TOKENS = 77 }; /* where the tokenizer names no sane length */

struct flux_pipeline {
    flux_parts parts;
    /* The parts that are here; NULL while they are not. */
    clip_text *clip;
    t5_encoder *t5;
    flux_transformer *transformer;
    autoencoder_kl *vae;
    /* The transformer's graph for the last shape used. Denoisings take turns on it: `step_owner` is the one whose conditioning it holds. */
    flux_step *step;
    const flux_denoise *step_owner;
};

struct flux_denoise {
    flux_pipeline *pipeline;
    flux_denoise_request request;
    int rows, columns; /* tokens of the picture */
    int next;          /* step to run */
    size_t values;     /* of the latent */
    float *latent;     /* tokens [rows·columns][in_channels] */
    float *velocity;   /* twice as many with a guidance pair: positive, then negative */
    float *doubled;    /* the latent twice, for a guidance pair; else NULL */
    float *sigmas, *timesteps;
};

/* After parts came or went. */
static void look_at_parts(flux_pipeline *p) {
    model_part *const *parts = p->parts.parts;
    p->clip = parts[PART_CLIP_TEXT] != NULL ? model_part_clip_text(parts[PART_CLIP_TEXT]) : NULL;
    p->t5 = parts[PART_T5_ENCODER] != NULL ? model_part_t5_encoder(parts[PART_T5_ENCODER]) : NULL;
    p->transformer = parts[PART_FLUX_TRANSFORMER] != NULL ? model_part_flux_transformer(parts[PART_FLUX_TRANSFORMER]) : NULL;
    p->vae = parts[PART_AUTOENCODER_KL] != NULL ? model_part_autoencoder_kl(parts[PART_AUTOENCODER_KL]) : NULL;
}

bool flux_pipeline_load_begin(part_pool *pool, const char *folder, const load_options *o, flux_pipeline **out, error *e) {
    *out = NULL;
    flux_pipeline *p = calloc(1, sizeof *p);
    if (p == NULL) return error_no_memory(e, "a pipeline", sizeof *p);
    if (!flux_parts_begin(&p->parts, pool, folder, o, e)) {
        flux_pipeline_free(p);
        return false;
    }
    look_at_parts(p);
    *out = p;
    return true;
}

bool flux_pipeline_load_next(flux_pipeline *p, bool *more, error *e) {
    bool ok = flux_parts_next(&p->parts, more, e);
    look_at_parts(p);
    return ok;
}

bool flux_pipeline_load(part_pool *pool, const char *folder, const load_options *o, flux_pipeline **out, error *e) {
    if (!flux_pipeline_load_begin(pool, folder, o, out, e)) return false;
    for (bool more = true; more;) {
        if (flux_pipeline_load_next(*out, &more, e)) continue;
        flux_pipeline_free(*out);
        *out = NULL;
        return false;
    }
    return true;
}

static void release_steps(flux_pipeline *p) {
    flux_step_free(p->step);
    p->step = NULL;
    p->step_owner = NULL;
}

void flux_pipeline_free(flux_pipeline *p) {
    if (p == NULL) return;
    release_steps(p);
    flux_parts_free(&p->parts);
    free(p);
}

bool flux_pipeline_ensure(flux_pipeline *p, unsigned parts, error *e) {
    bool ok = flux_parts_ensure(&p->parts, parts, e);
    look_at_parts(p);
    return ok;
}

void flux_pipeline_drop(flux_pipeline *p, unsigned parts) {
    if ((parts & FLUX_TRANSFORMER) != 0) release_steps(p);
    flux_parts_drop(&p->parts, parts);
    look_at_parts(p);
}

void flux_pipeline_set_resident_bytes(flux_pipeline *p, size_t bytes) {
    if (p->parts.options.resident_bytes == bytes) return;
    flux_pipeline_drop(p, FLUX_TRANSFORMER);
    p->parts.options.resident_bytes = bytes;
}

void flux_pipeline_release_compute(flux_pipeline *p) {
    release_steps(p);
    for (int i = 0; i < PART_KINDS; i++)
        if (p->parts.parts[i] != NULL) model_part_release_graph(p->parts.parts[i]);
}

part_figures flux_pipeline_figures(const flux_pipeline *p) {
    part_figures f = flux_parts_figures(&p->parts);
    f.compute += flux_pipeline_step_bytes(p);
    return f;
}

size_t flux_pipeline_step_bytes(const flux_pipeline *p) { return p->step != NULL ? flux_step_bytes(p->step) : 0; }
flux_parts *flux_pipeline_parts(flux_pipeline *p) { return &p->parts; }
const model_info *flux_pipeline_info(const flux_pipeline *p) { return &p->parts.info; }

/* CLIP reads at most its own window; T5 reads `tokens`. Both padded, neither masked, as FluxPipeline does it. */
static bool encode_pooled(flux_pipeline *p, const char *prompt, conditioning *c, error *e) {
    const clip_text_config *config = clip_text_config_of(p->clip);
    size_t length = tokenizer_max_length(p->parts.clip_tokenizer);
    if (length == 0) length = CLIP_TOKENS;
    if (length > (size_t)config->max_position_embeddings) length = (size_t)config->max_position_embeddings;
    int32_t *ids = calloc(length, sizeof *ids);
    c->pooled = calloc((size_t)config->hidden_size, sizeof *c->pooled);
    bool ok = (ids != NULL && c->pooled != NULL) || error_no_memory(e, "the prompt", length * sizeof *ids);
    ok = ok && tokenizer_encode(p->parts.clip_tokenizer, prompt, strlen(prompt), length, ids, NULL, e) &&
         clip_text_encode(p->clip, ids, (int)length, 1, c->pooled, NULL, e);
    free(ids);
    return ok;
}

static bool encode_hidden(flux_pipeline *p, const char *prompt, int tokens, conditioning *c, error *e) {
    size_t values;
    if (tokens < 1 || !checked_mul((size_t)tokens, (size_t)t5_encoder_config_of(p->t5)->d_model, &values))
        return error_field(e, ERROR_INVALID, "max_sequence_length", "%d tokens: from 1 to 512 are possible", tokens);
    int32_t *ids = calloc((size_t)tokens, sizeof *ids);
    c->hidden = calloc(values, sizeof *c->hidden);
    c->tokens = tokens;
    bool ok = (ids != NULL && c->hidden != NULL) || error_no_memory(e, "the prompt", values * sizeof *c->hidden);
    ok = ok && tokenizer_encode(p->parts.t5_tokenizer, prompt, strlen(prompt), (size_t)tokens, ids, NULL, e) &&
         t5_encoder_encode(p->t5, ids, tokens, 1, c->hidden, e);
    free(ids);
    return ok;
}

bool flux_pipeline_encode(flux_pipeline *p, const char *prompt, int tokens, conditioning *out, error *e) {
    *out = (conditioning){0};
    if (flux_pipeline_ensure(p, FLUX_ENCODERS, e) && encode_pooled(p, prompt, out, e) && encode_hidden(p, prompt, tokens, out, e)) return true;
    conditioning_free(out);
    return false;
}

void conditioning_free(conditioning *c) {
    free(c->pooled);
    free(c->hidden);
    *c = (conditioning){0};
}

/* torch.randn in the latent's own shape, then packed. */
static bool draw_noise(flux_denoise *d, int channels, error *e) {
    float *planes = malloc(d->values * sizeof *planes);
    if (planes == NULL) return error_no_memory(e, "the initial noise", d->values * sizeof *planes);
    torch_randn(d->request.seed, planes, d->values);
    flux_latents_pack(planes, channels, d->rows, d->columns, d->latent);
    free(planes);
    return true;
}

/* A stage that finds too little memory gets what the others keep for next time. */
static bool with_room(flux_denoise *d, bool (*stage)(flux_denoise *, error *), error *e) {
    error fault = {0};
    if (stage(d, &fault)) return true;
    if (fault.code == ERROR_OUT_OF_MEMORY) {
        flux_pipeline_release_compute(d->pipeline);
        return stage(d, e);
    }
    if (e != NULL) *e = fault;
    return false;
}

static bool decoder_fits(flux_denoise *d, error *e) { return autoencoder_kl_fits(d->pipeline->vae, 2 * d->columns, 2 * d->rows, 1, e); }

bool flux_denoise_new(flux_pipeline *p, const flux_denoise_request *request, flux_denoise **out, error *e) {
    if (!flux_pipeline_ensure(p, FLUX_DECODER, e)) return false;
    int channels = autoencoder_kl_config_of(p->vae)->latent_channels, multiple = p->parts.info.size_multiple;
    if (request->positive->tokens < 1 || (request->negative != NULL && request->negative->tokens != request->positive->tokens))
        return error_set(e, ERROR_INTERNAL, "the prompt and the negative prompt were encoded to different lengths");
    flux_denoise *d = calloc(1, sizeof *d);
    if (d == NULL) return error_no_memory(e, "a picture", sizeof *d);
    d->pipeline = p;
    d->request = *request;
    d->rows = request->height / multiple;
    d->columns = request->width / multiple;
    int branches = request->negative != NULL ? 2 : 1;
    /* A picture that cannot be decoded is refused before its steps, which can take hours, not after. */
    bool ok = with_room(d, decoder_fits, e) &&
              ((checked_mul((size_t)d->rows * (size_t)d->columns, 4 * (size_t)channels, &d->values) && d->values < SIZE_MAX / 16) ||
               error_no_memory(e, "a picture of that size", SIZE_MAX));
    if (ok) {
        d->latent = malloc(d->values * sizeof *d->latent);
        d->velocity = malloc(d->values * (size_t)branches * sizeof *d->velocity);
        d->doubled = branches == 2 ? malloc(d->values * 2 * sizeof *d->doubled) : NULL;
        d->sigmas = malloc(((size_t)request->steps + 1) * sizeof *d->sigmas);
        d->timesteps = malloc((size_t)request->steps * sizeof *d->timesteps);
        ok = (d->latent != NULL && d->velocity != NULL && d->sigmas != NULL && d->timesteps != NULL && (branches == 1 || d->doubled != NULL)) ||
             error_no_memory(e, "a picture of that size", d->values * sizeof *d->latent);
    }
    if (ok) flow_match_sigmas(&p->parts.schedule, request->steps, (int64_t)d->rows * d->columns, d->sigmas, d->timesteps);
    if (!ok || !draw_noise(d, channels, e)) {
        flux_denoise_free(d);
        return false;
    }
    *out = d;
    return true;
}

void flux_denoise_free(flux_denoise *d) {
    if (d == NULL) return;
    if (d->pipeline->step_owner == d) d->pipeline->step_owner = NULL;
    free(d->latent);
    free(d->velocity);
    free(d->doubled);
    free(d->sigmas);
    free(d->timesteps);
    free(d);
}

/* Conditionings of the branches beside each other, as a batch. */
static bool set_conditioning(const flux_denoise *d, error *e) {
    const flux_denoise_request *r = &d->request;
    flux_pipeline *p = d->pipeline;
    if (r->negative == NULL) {
        flux_step_condition(p->step, r->positive->hidden, r->positive->pooled);
        return true;
    }
    const flux_config *f = flux_transformer_config(p->transformer);
    size_t hidden = (size_t)f->joint_attention_dim * (size_t)r->positive->tokens, pooled = (size_t)f->pooled_projection_dim;
    float *both = malloc(2 * (hidden + pooled) * sizeof *both);
    if (both == NULL) return error_no_memory(e, "the prompts", 2 * (hidden + pooled) * sizeof *both);
    memcpy(both, r->positive->hidden, hidden * sizeof *both);
    memcpy(both + hidden, r->negative->hidden, hidden * sizeof *both);
    memcpy(both + 2 * hidden, r->positive->pooled, pooled * sizeof *both);
    memcpy(both + 2 * hidden + pooled, r->negative->pooled, pooled * sizeof *both);
    flux_step_condition(p->step, both, both + 2 * hidden);
    free(both);
    return true;
}

/* The graph for this picture's shape, holding its conditioning. */
static bool take_step(flux_denoise *d, error *e) {
    flux_pipeline *p = d->pipeline;
    if (!flux_pipeline_ensure(p, FLUX_TRANSFORMER, e)) return false;
    const flux_step_shape shape = {d->rows, d->columns, d->request.positive->tokens, d->request.negative != NULL ? 2 : 1};
    if (p->step == NULL || !flux_step_has_shape(p->step, &shape)) {
        release_steps(p);
        if (!flux_step_new(p->transformer, &shape, &p->step, e)) return false;
    }
    if (p->step_owner != d) {
        if (!set_conditioning(d, e)) return false;
        p->step_owner = d;
    }
    return true;
}

bool flux_denoise_step(flux_denoise *d, bool *more, error *e) {
    const flux_denoise_request *r = &d->request;
    if (d->next >= r->steps) return error_set(e, ERROR_INTERNAL, "the picture has had all its steps");
    if (!with_room(d, take_step, e)) return false;
    /* FluxPipeline hands the transformer timestep / 1000, in float32. */
    float timestep = d->timesteps[d->next] / 1000.0f, guidance = (float)r->guidance_scale;
    const float *input = d->latent;
    if (d->doubled != NULL) {
        memcpy(d->doubled, d->latent, d->values * sizeof *d->latent);
        memcpy(d->doubled + d->values, d->latent, d->values * sizeof *d->latent);
        input = d->doubled;
    }
    if (!flux_step_run(d->pipeline->step, input, (float[]){timestep, timestep}, (float[]){guidance, guidance}, d->velocity, e)) return false;
    if (d->doubled != NULL) {
        float scale = (float)r->true_cfg_scale;
        for (size_t i = 0; i < d->values; i++) {
            float negative = d->velocity[d->values + i];
            d->velocity[i] = negative + scale * (d->velocity[i] - negative);
        }
    }
    flow_match_step(d->latent, d->velocity, (int64_t)d->values, d->sigmas[d->next], d->sigmas[d->next + 1]);
    d->next++;
    *more = d->next < r->steps;
    return true;
}

bool flux_denoise_decode(flux_denoise *d, uint8_t *rgb, error *e) {
    flux_pipeline *p = d->pipeline;
    if (!flux_pipeline_ensure(p, FLUX_DECODER, e)) return false;
    int channels = autoencoder_kl_config_of(p->vae)->latent_channels;
    size_t pixels = (size_t)d->request.width * (size_t)d->request.height;
    float *planes = malloc(d->values * sizeof *planes), *picture = malloc(3 * pixels * sizeof *picture);
    bool ok = (planes != NULL && picture != NULL) || error_no_memory(e, "decoding the picture", 3 * pixels * sizeof *picture);
    if (ok) {
        flux_latents_unpack(d->latent, channels, d->rows, d->columns, planes);
        ok = with_room(d, decoder_fits, e) && autoencoder_kl_decode(p->vae, planes, 2 * d->columns, 2 * d->rows, 1, picture, e);
    }
    if (ok) autoencoder_kl_to_rgb8(picture, d->request.width, d->request.height, rgb);
    free(planes);
    free(picture);
    return ok;
}
