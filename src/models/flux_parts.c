#include "models/flux_parts.h"

#include <string.h>

#include "base/file.h"

/* Where each part lies in the model's folder. */
static const char *const folders[PART_KINDS] = {
    [PART_CLIP_TEXT] = "text_encoder",
    [PART_T5_ENCODER] = "text_encoder_2",
    [PART_FLUX_TRANSFORMER] = "transformer",
    [PART_AUTOENCODER_KL] = "vae",
    [PART_IMAGE_ENCODER] = "vae",
};

static bool path_of(const flux_parts *p, const char *name, char path[MODEL_PATH_BYTES], error *e) {
    return file_join(path, MODEL_PATH_BYTES, p->info.folder, name, e);
}

/* Everything a pipeline reads beside its parts' own files. */
static bool watch_small_files(flux_parts *p, const char *folder, error *e) {
    static const char *const names[] = {
        "model_index.json", "imagined.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
        "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json", "tokenizer_2/tokenizer.json", "tokenizer_2/spiece.model",
        "tokenizer_2/tokenizer_config.json", "tokenizer_2/special_tokens_map.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!file_watch_add_in(&p->watch, folder, names[i], e)) return false;
    return true;
}

static void note_progress(void *context, size_t bytes) {
    flux_parts *p = context;
    p->bytes_coming += bytes;
    if (p->options.progress != NULL) p->options.progress(p->options.context, bytes);
}

static load_options options_for_part(flux_parts *p) {
    load_options o = p->options;
    o.progress = note_progress;
    o.context = p;
    return o;
}

/* Parts that were trained apart can be put into one folder by mistake: say so before a graph asserts on it. */
static bool check_fit(const flux_parts *p, error *e) {
    const flux_fit *f = &p->fit;
    const char *folder = p->info.folder;
    bool transformer = (p->seen & FLUX_TRANSFORMER) != 0, vae = (p->seen & FLUX_DECODER) != 0;
    if (transformer && f->clip_hidden > 0 && f->pooled != f->clip_hidden)
        return error_set(e, ERROR_BAD_FILE, "%s: the transformer's pooled_projection_dim is %d but text_encoder's hidden_size is %d",
                         folder, (int)f->pooled, (int)f->clip_hidden);
    if (transformer && f->t5_model > 0 && f->joint != f->t5_model)
        return error_set(e, ERROR_BAD_FILE, "%s: the transformer's joint_attention_dim is %d but text_encoder_2's d_model is %d", folder,
                         (int)f->joint, (int)f->t5_model);
    if (transformer && vae && (f->in_channels != 4 * f->latent_channels || f->out_channels != f->in_channels))
        return error_set(e, ERROR_BAD_FILE,
                         "%s: the transformer's in_channels %d and out_channels %d must both be four times the VAE's latent_channels %d",
                         folder, (int)f->in_channels, (int)f->out_channels, (int)f->latent_channels);
    if (vae && f->vae_factor != p->info.vae_factor) /* the file changed between two looks at it */
        return error_set(e, ERROR_BAD_FILE, "%s: the VAE's block_out_channels changed while the model was loaded", folder);
    if (f->clip_vocabulary > 0 && p->clip_tokenizer != NULL && tokenizer_vocabulary(p->clip_tokenizer) > (size_t)f->clip_vocabulary)
        return error_set(e, ERROR_BAD_FILE, "%s: tokenizer has more tokens than text_encoder's vocab_size", folder);
    return true;
}

/* What a part that has come says of itself. */
static void note_part(flux_parts *p, part_kind kind) {
    const model_part *part = p->parts[kind];
    flux_fit *f = &p->fit;
    p->seen |= 1U << kind;
    switch (kind) {
    case PART_CLIP_TEXT:
        f->clip_hidden = clip_text_config_of(model_part_clip_text(part))->hidden_size;
        f->clip_vocabulary = clip_text_config_of(model_part_clip_text(part))->vocab_size;
        break;
    case PART_T5_ENCODER: f->t5_model = t5_encoder_config_of(model_part_t5_encoder(part))->d_model; break;
    case PART_AUTOENCODER_KL:
        f->latent_channels = autoencoder_kl_config_of(model_part_autoencoder_kl(part))->latent_channels;
        f->vae_factor = autoencoder_kl_factor(model_part_autoencoder_kl(part));
        break;
    case PART_FLUX_TRANSFORMER: {
        const flux_config *c = flux_transformer_config(model_part_flux_transformer(part));
        f->pooled = c->pooled_projection_dim;
        f->joint = c->joint_attention_dim;
        f->in_channels = c->in_channels;
        f->out_channels = c->out_channels;
        break;
    }
    case PART_IMAGE_ENCODER: /* the decoder has spoken for the file */
    case PART_KINDS: break;
    }
}

bool flux_parts_begin(flux_parts *p, part_pool *pool, const char *folder, const load_options *o, error *e) {
    char path[MODEL_PATH_BYTES];
    *p = (flux_parts){.pool = pool, .options = *o};
    if (!watch_small_files(p, folder, e) || !model_folder_read(folder, "model", &p->info, e) ||
        !path_of(p, "scheduler/scheduler_config.json", path, e) || !flow_match_load(path, &p->schedule, e))
        return false;
    for (int i = 0; i < PART_KINDS; i++) {
        if (!path_of(p, folders[i], path, e) || !part_files_read(path, &p->files[i], e)) return false;
        if ((FLUX_ALL_PARTS & 1U << i) != 0) p->parts[i] = part_pool_find(pool, (part_kind)i, &p->files[i], o);
        if (p->parts[i] != NULL) note_part(p, (part_kind)i);
    }
    return check_fit(p, e);
}

static bool load_tokenizers(flux_parts *p, error *e) {
    char path[MODEL_PATH_BYTES];
    return path_of(p, "tokenizer", path, e) && (p->clip_tokenizer != NULL || tokenizer_load_clip(path, &p->clip_tokenizer, e)) &&
           path_of(p, "tokenizer_2", path, e) && (p->t5_tokenizer != NULL || tokenizer_load_t5(path, &p->t5_tokenizer, e));
}

static bool load_part(flux_parts *p, part_kind kind, error *e) {
    char path[MODEL_PATH_BYTES];
    load_options o = options_for_part(p);
    p->bytes_coming = 0;
    bool ok = path_of(p, folders[kind], path, e) && part_pool_take(p->pool, kind, path, &p->files[kind], &o, &p->parts[kind], e);
    p->bytes_coming = 0;
    if (!ok) return false;
    note_part(p, kind);
    return check_fit(p, e);
}

bool flux_parts_next(flux_parts *p, bool *more, error *e) {
    *more = true;
    if (p->clip_tokenizer == NULL || p->t5_tokenizer == NULL) return load_tokenizers(p, e);
    for (int i = 0; i < PART_KINDS; i++)
        if ((FLUX_ALL_PARTS & ~p->seen & 1U << i) != 0) return load_part(p, (part_kind)i, e);
    *more = false;
    return check_fit(p, e);
}

bool flux_parts_ensure(flux_parts *p, unsigned parts, error *e) {
    for (int i = 0; i < PART_KINDS; i++)
        if ((parts & 1U << i) != 0 && p->parts[i] == NULL && !load_part(p, (part_kind)i, e)) return false;
    return true;
}

void flux_parts_drop(flux_parts *p, unsigned parts) {
    for (int i = 0; i < PART_KINDS; i++) {
        if ((parts & 1U << i) == 0) continue;
        part_pool_give_back(p->pool, p->parts[i]);
        p->parts[i] = NULL;
    }
}

void flux_parts_free(flux_parts *p) {
    if (p->pool != NULL) flux_parts_drop(p, FLUX_ALL_PARTS | FLUX_IMAGE_ENCODER);
    for (int i = 0; i < PART_KINDS; i++) part_files_free(&p->files[i]);
    file_watch_free(&p->watch);
    tokenizer_free(p->clip_tokenizer);
    tokenizer_free(p->t5_tokenizer);
    *p = (flux_parts){0};
}

uint64_t flux_parts_bytes(const flux_parts *p, unsigned parts) {
    uint64_t sum = 0;
    for (int i = 0; i < PART_KINDS; i++) sum += (parts & 1U << i) != 0 ? p->files[i].weight_bytes : 0;
    return sum;
}

unsigned flux_parts_here(const flux_parts *p) {
    unsigned here = 0;
    for (int i = 0; i < PART_KINDS; i++) here |= p->parts[i] != NULL ? 1U << i : 0;
    return here;
}

uint64_t flux_parts_bytes_total(const flux_parts *p) { return flux_parts_bytes(p, FLUX_ALL_PARTS); }

uint64_t flux_parts_bytes_done(const flux_parts *p) {
    uint64_t done = flux_parts_bytes(p, p->seen & FLUX_ALL_PARTS) + p->bytes_coming, total = flux_parts_bytes_total(p);
    return done < total ? done : total;
}

const char *flux_parts_changed(const flux_parts *p) {
    const char *changed = file_watch_changed(&p->watch);
    for (int i = 0; i < PART_KINDS && changed == NULL; i++) changed = file_watch_changed(&p->files[i].watch);
    return changed;
}

part_figures flux_parts_figures(const flux_parts *p) {
    part_figures sum = {0};
    for (int i = 0; i < PART_KINDS; i++) {
        if (p->parts[i] == NULL) continue;
        part_figures f = model_part_figures(p->parts[i]);
        part_figures_add(&sum, &f);
    }
    return sum;
}
