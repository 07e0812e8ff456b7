#include "models/part_pool.h"

#include <stdlib.h>
#include <string.h>

struct model_part {
    model_part *next;
    part_kind kind;
    int holders;
    /* the key: kind, these and `files` */
    precision precision;
    bool copied;
    size_t resident_bytes;
    buffer identity;
    uint64_t file_bytes;
    union {
        clip_text *clip_text;
        t5_encoder *t5_encoder;
        flux_transformer *flux_transformer;
        autoencoder_kl *autoencoder_kl;
        autoencoder_encoder *image_encoder;
    };
};

struct part_pool {
    device *device;
    model_part *parts;
};

bool part_pool_new(device *d, part_pool **out, error *e) {
    part_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return error_no_memory(e, "the models' parts", sizeof *pool);
    pool->device = d;
    *out = pool;
    return true;
}

void part_pool_free(part_pool *pool) { free(pool); }
device *part_pool_device(const part_pool *pool) { return pool->device; }

/* Only the transformer is ever loaded in part. */
static size_t resident_bytes(part_kind kind, const load_options *o) { return kind == PART_FLUX_TRANSFORMER ? o->resident_bytes : SIZE_MAX; }

static bool is_wanted(const model_part *p, part_kind kind, const part_files *files, const load_options *o) {
    return p->kind == kind && p->precision == o->precision && p->copied == o->copied && p->resident_bytes == resident_bytes(kind, o) &&
           p->identity.size == files->identity.size &&
           memcmp(buffer_text(&p->identity), buffer_text(&files->identity), p->identity.size) == 0;
}

model_part *part_pool_find(part_pool *pool, part_kind kind, const part_files *files, const load_options *o) {
    for (model_part *p = pool->parts; p != NULL; p = p->next) {
        if (!is_wanted(p, kind, files, o)) continue;
        p->holders++;
        return p;
    }
    return NULL;
}

static bool load(model_part *p, device *d, const char *folder, const load_options *o, error *e) {
    switch (p->kind) {
    case PART_CLIP_TEXT: return clip_text_load(d, folder, o, &p->clip_text, e);
    case PART_T5_ENCODER: return t5_encoder_load(d, folder, o, &p->t5_encoder, e);
    case PART_FLUX_TRANSFORMER: return flux_transformer_load(d, folder, o, &p->flux_transformer, e);
    case PART_AUTOENCODER_KL: return autoencoder_kl_load(d, folder, o, &p->autoencoder_kl, e);
    case PART_IMAGE_ENCODER: return autoencoder_encoder_load(d, folder, o, &p->image_encoder, e);
    case PART_KINDS: break;
    }
    return error_set(e, ERROR_INTERNAL, "there is no such part of a model");
}

static void free_part(model_part *p) {
    switch (p->kind) {
    case PART_CLIP_TEXT: clip_text_free(p->clip_text); break;
    case PART_T5_ENCODER: t5_encoder_free(p->t5_encoder); break;
    case PART_FLUX_TRANSFORMER: flux_transformer_free(p->flux_transformer); break;
    case PART_AUTOENCODER_KL: autoencoder_kl_free(p->autoencoder_kl); break;
    case PART_IMAGE_ENCODER: autoencoder_encoder_free(p->image_encoder); break;
    case PART_KINDS: break;
    }
    buffer_free(&p->identity);
    free(p);
}

static bool load_new(part_pool *pool, part_kind kind, const char *folder, const part_files *files, const load_options *o, model_part **out,
                     error *e) {
    model_part *p = calloc(1, sizeof *p);
    if (p == NULL) return error_no_memory(e, "a part of a model", sizeof *p);
    p->kind = kind;
    p->holders = 1;
    p->precision = o->precision;
    p->copied = o->copied;
    p->resident_bytes = resident_bytes(kind, o);
    p->file_bytes = kind == PART_IMAGE_ENCODER ? 0 : files->weight_bytes;
    buffer_append(&p->identity, files->identity.data, files->identity.size);
    bool ok = (buffer_ok(&p->identity) || error_no_memory(e, "a part of a model", files->identity.size)) &&
              load(p, pool->device, folder, o, e);
    const char *changed = ok ? file_watch_changed(&files->watch) : NULL;
    if (changed != NULL) ok = error_set(e, ERROR_BUSY, "%s changed while it was loaded; try again", changed);
    if (!ok) {
        free_part(p);
        return false;
    }
    p->next = pool->parts;
    *out = pool->parts = p;
    return true;
}

bool part_pool_take(part_pool *pool, part_kind kind, const char *folder, const part_files *files, const load_options *o, model_part **out,
                    error *e) {
    const char *changed = file_watch_changed(&files->watch);
    *out = NULL;
    if (changed != NULL) return error_set(e, ERROR_BUSY, "%s changed while its model was in use; try again", changed);
    *out = part_pool_find(pool, kind, files, o);
    return *out != NULL || load_new(pool, kind, folder, files, o, out, e);
}

void part_pool_give_back(part_pool *pool, model_part *p) {
    if (p == NULL || --p->holders > 0) return;
    for (model_part **at = &pool->parts; *at != NULL; at = &(*at)->next) {
        if (*at != p) continue;
        *at = p->next;
        break;
    }
    free_part(p);
}

clip_text *model_part_clip_text(const model_part *p) { return p->clip_text; }
t5_encoder *model_part_t5_encoder(const model_part *p) { return p->t5_encoder; }
flux_transformer *model_part_flux_transformer(const model_part *p) { return p->flux_transformer; }
autoencoder_kl *model_part_autoencoder_kl(const model_part *p) { return p->autoencoder_kl; }
autoencoder_encoder *model_part_image_encoder(const model_part *p) { return p->image_encoder; }
int model_part_holders(const model_part *p) { return p->holders; }

static component *component_of(const model_part *p) {
    switch (p->kind) {
    case PART_CLIP_TEXT: return clip_text_component(p->clip_text);
    case PART_T5_ENCODER: return t5_encoder_component(p->t5_encoder);
    case PART_FLUX_TRANSFORMER: return flux_transformer_component(p->flux_transformer);
    case PART_AUTOENCODER_KL: return autoencoder_kl_component(p->autoencoder_kl);
    case PART_IMAGE_ENCODER: return autoencoder_encoder_component(p->image_encoder);
    case PART_KINDS: break;
    }
    return NULL;
}

void model_part_release_graph(model_part *p) { component_release(component_of(p)); }
bool model_part_prefetch(const model_part *p, size_t *at, size_t bytes) { return component_prefetch(component_of(p), at, bytes); }

part_figures model_part_figures(const model_part *p) {
    const component *c = component_of(p);
    part_figures f = {.mapped = component_mapped_bytes(c), .private = component_private_bytes(c), .device = component_device_bytes(c),
                      .compute = component_compute_bytes(c)};
    if (p->kind == PART_FLUX_TRANSFORMER) { /* it knows of streamed blocks too */
        f.private = flux_transformer_private_bytes(p->flux_transformer);
        f.device = flux_transformer_device_bytes(p->flux_transformer);
    }
    size_t made = f.private + f.device;
    f.weights = made > p->file_bytes ? made : (size_t)p->file_bytes;
    return f;
}

part_figures part_pool_figures(const part_pool *pool) {
    part_figures sum = {0};
    for (const model_part *p = pool->parts; p != NULL; p = p->next) {
        part_figures f = model_part_figures(p);
        part_figures_add(&sum, &f);
    }
    return sum;
}

void part_figures_add(part_figures *sum, const part_figures *f) {
    sum->weights += f->weights;
    sum->mapped += f->mapped;
    sum->private += f->private;
    sum->device += f->device;
    sum->compute += f->compute;
}
