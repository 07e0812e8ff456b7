#include "models/flux_pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/flux_pipeline_internal.h"

enum { CLIP_TOKENS = 77 }; /* where the tokenizer names no sane length */

/* After parts came or went. */
static void look_at_parts(flux_pipeline *p) {
    model_part *const *parts = p->parts.parts;
    p->clip = parts[PART_CLIP_TEXT] != NULL ? model_part_clip_text(parts[PART_CLIP_TEXT]) : NULL;
    p->t5 = parts[PART_T5_ENCODER] != NULL ? model_part_t5_encoder(parts[PART_T5_ENCODER]) : NULL;
    p->transformer = parts[PART_FLUX_TRANSFORMER] != NULL ? model_part_flux_transformer(parts[PART_FLUX_TRANSFORMER]) : NULL;
    p->vae = parts[PART_AUTOENCODER_KL] != NULL ? model_part_autoencoder_kl(parts[PART_AUTOENCODER_KL]) : NULL;
    p->image_encoder = parts[PART_IMAGE_ENCODER] != NULL ? model_part_image_encoder(parts[PART_IMAGE_ENCODER]) : NULL;
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

void flux_pipeline_free(flux_pipeline *p) {
    if (p == NULL) return;
    flux_steps_release(&p->steps);
    flux_parts_free(&p->parts);
    free(p);
}

bool flux_pipeline_ensure(flux_pipeline *p, unsigned parts, error *e) {
    bool ok = flux_parts_ensure(&p->parts, parts, e);
    look_at_parts(p);
    return ok;
}

void flux_pipeline_drop(flux_pipeline *p, unsigned parts) {
    if ((parts & FLUX_TRANSFORMER) != 0) flux_steps_release(&p->steps);
    flux_parts_drop(&p->parts, parts);
    look_at_parts(p);
}

void flux_pipeline_set_resident_bytes(flux_pipeline *p, size_t bytes) {
    if (p->parts.options.resident_bytes == bytes) return;
    flux_pipeline_drop(p, FLUX_TRANSFORMER);
    p->parts.options.resident_bytes = bytes;
}

void flux_pipeline_release_compute(flux_pipeline *p) {
    flux_steps_release(&p->steps);
    for (int i = 0; i < PART_KINDS; i++)
        if (p->parts.parts[i] != NULL) model_part_release_graph(p->parts.parts[i]);
}

void flux_pipeline_shrink_compute(flux_pipeline *p, size_t keep) {
    while (flux_pipeline_figures(p).compute > keep) {
        size_t most = flux_pipeline_step_bytes(p);
        model_part *largest = NULL; /* NULL: the steps */
        for (int i = 0; i < PART_KINDS; i++) {
            if (p->parts.parts[i] == NULL || model_part_figures(p->parts.parts[i]).compute <= most) continue;
            largest = p->parts.parts[i];
            most = model_part_figures(largest).compute;
        }
        if (largest != NULL) model_part_release_graph(largest);
        else flux_steps_release(&p->steps);
    }
}

part_figures flux_pipeline_figures(const flux_pipeline *p) {
    part_figures f = flux_parts_figures(&p->parts);
    f.compute += flux_pipeline_step_bytes(p);
    return f;
}

size_t flux_pipeline_step_bytes(const flux_pipeline *p) { return flux_steps_bytes(&p->steps); }
flux_parts *flux_pipeline_parts(flux_pipeline *p) { return &p->parts; }
const model_info *flux_pipeline_info(const flux_pipeline *p) { return &p->parts.info; }

bool flux_pipeline_with_room(flux_pipeline *p, bool (*stage)(void *, error *), void *context, error *e) {
    error fault = {0};
    if (stage(context, &fault)) return true;
    if (fault.code == ERROR_OUT_OF_MEMORY) {
        flux_pipeline_release_compute(p);
        return stage(context, e);
    }
    if (e != NULL) *e = fault;
    return false;
}

int flux_pipeline_clip_tokens(const flux_pipeline *p) {
    size_t length = tokenizer_max_length(p->parts.clip_tokenizer);
    int64_t window = clip_text_config_of(p->clip)->max_position_embeddings;
    if (length == 0) length = CLIP_TOKENS;
    return (int64_t)length > window ? (int)window : (int)length;
}

/* CLIP reads at most its own window; T5 reads `tokens`. Both padded, neither masked, as FluxPipeline does it. */
static bool encode_pooled(flux_pipeline *p, const char *prompt, conditioning *c, error *e) {
    const clip_text_config *config = clip_text_config_of(p->clip);
    size_t length = (size_t)flux_pipeline_clip_tokens(p);
    int32_t *ids = calloc(length, sizeof *ids);
    c->pooled_count = (size_t)config->hidden_size;
    c->pooled = calloc(c->pooled_count, sizeof *c->pooled);
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
    c->hidden_count = values;
    c->hidden = calloc(values, sizeof *c->hidden);
    c->tokens = tokens;
    bool ok = (ids != NULL && c->hidden != NULL) || error_no_memory(e, "the prompt", values * sizeof *c->hidden);
    ok = ok && tokenizer_encode(p->parts.t5_tokenizer, prompt, strlen(prompt), (size_t)tokens, ids, NULL, e) &&
         t5_encoder_encode(p->t5, ids, tokens, 1, c->hidden, e);
    free(ids);
    return ok;
}

typedef struct encoding {
    flux_pipeline *pipeline;
    const char *prompt;
    int tokens;
    conditioning *out;
} encoding;

static bool encode(void *context, error *e) {
    const encoding *c = context;
    conditioning_free(c->out); /* of a first try */
    return flux_pipeline_ensure(c->pipeline, FLUX_ENCODERS, e) && encode_pooled(c->pipeline, c->prompt, c->out, e) &&
           encode_hidden(c->pipeline, c->prompt, c->tokens, c->out, e);
}

bool flux_pipeline_encode(flux_pipeline *p, const char *prompt, int tokens, conditioning *out, error *e) {
    encoding c = {p, prompt, tokens, out};
    *out = (conditioning){0};
    if (flux_pipeline_with_room(p, encode, &c, e)) return true;
    conditioning_free(out);
    return false;
}

void conditioning_free(conditioning *c) {
    free(c->pooled);
    free(c->hidden);
    *c = (conditioning){0};
}

size_t conditioning_bytes(const conditioning *c) { return (c->pooled_count + c->hidden_count) * sizeof(float); }

bool conditioning_copy(const conditioning *from, conditioning *out, error *e) {
    *out = *from;
    out->pooled = malloc(from->pooled_count * sizeof *out->pooled);
    out->hidden = malloc(from->hidden_count * sizeof *out->hidden);
    if (out->pooled == NULL || out->hidden == NULL) {
        conditioning_free(out);
        return error_no_memory(e, "the prompt", conditioning_bytes(from));
    }
    memcpy(out->pooled, from->pooled, from->pooled_count * sizeof *out->pooled);
    memcpy(out->hidden, from->hidden, from->hidden_count * sizeof *out->hidden);
    return true;
}

/* FNV-1a. */
static uint64_t stamp(uint64_t hash, const void *data, size_t size) {
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return hash;
}

uint64_t flux_pipeline_encoders_stamp(const flux_pipeline *p) {
    uint64_t hash = 14695981039346656037u;
    for (int kind = PART_CLIP_TEXT; kind <= PART_T5_ENCODER; kind++) {
        const buffer *identity = &p->parts.files[kind].identity;
        hash = stamp(hash, identity->data, identity->size);
    }
    for (size_t i = 0; i < p->parts.watch.count; i++) /* the tokenizers' files are among these */
        hash = stamp(hash, &p->parts.watch.files[i].stamp, sizeof p->parts.watch.files[i].stamp);
    return hash;
}
