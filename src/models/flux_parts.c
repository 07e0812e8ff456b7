#include "models/flux_parts.h"

#include <string.h>

#include "base/file.h"

/* Where each part lies in the model's folder. */
static const char *const folders[PART_KINDS] = {
    [PART_CLIP_TEXT] = "text_encoder",
    [PART_T5_ENCODER] = "text_encoder_2",
    [PART_FLUX_TRANSFORMER] = "transformer",
    [PART_AUTOENCODER_KL] = "vae",
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

bool flux_parts_begin(flux_parts *p, part_pool *pool, const char *folder, const load_options *o, error *e) {
    char path[MODEL_PATH_BYTES];
    *p = (flux_parts){.pool = pool, .options = *o};
    if (!watch_small_files(p, folder, e) || !model_folder_read(folder, "model", &p->info, e) ||
        !path_of(p, "scheduler/scheduler_config.json", path, e) || !flow_match_load(path, &p->schedule, e))
        return false;
    for (int i = 0; i < PART_KINDS; i++) {
        if (!path_of(p, folders[i], path, e) || !part_files_read(path, &p->files[i], e)) return false;
        p->parts[i] = part_pool_find(pool, (part_kind)i, &p->files[i], o);
    }
    return true;
}

static bool load_tokenizers(flux_parts *p, error *e) {
    char path[MODEL_PATH_BYTES];
    return path_of(p, "tokenizer", path, e) && (p->clip_tokenizer != NULL || tokenizer_load_clip(path, &p->clip_tokenizer, e)) &&
           path_of(p, "tokenizer_2", path, e) && (p->t5_tokenizer != NULL || tokenizer_load_t5(path, &p->t5_tokenizer, e));
}

static bool load_part(flux_parts *p, int kind, error *e) {
    char path[MODEL_PATH_BYTES];
    return path_of(p, folders[kind], path, e) &&
           part_pool_take(p->pool, (part_kind)kind, path, &p->files[kind], &p->options, &p->parts[kind], e);
}

/* Parts that were trained apart can be put into one folder by mistake: say so before a graph asserts on it. */
static bool check_parts_fit(const flux_parts *p, error *e) {
    const flux_config *f = flux_transformer_config(model_part_flux_transformer(p->parts[PART_FLUX_TRANSFORMER]));
    const clip_text_config *clip_config = clip_text_config_of(model_part_clip_text(p->parts[PART_CLIP_TEXT]));
    const autoencoder_kl *vae = model_part_autoencoder_kl(p->parts[PART_AUTOENCODER_KL]);
    int clip = (int)clip_config->hidden_size, t5 = (int)t5_encoder_config_of(model_part_t5_encoder(p->parts[PART_T5_ENCODER]))->d_model;
    int latent = (int)autoencoder_kl_config_of(vae)->latent_channels;
    const char *folder = p->info.folder;
    if (f->pooled_projection_dim != clip)
        return error_set(e, ERROR_BAD_FILE, "%s: the transformer's pooled_projection_dim is %d but text_encoder's hidden_size is %d", folder,
                         f->pooled_projection_dim, clip);
    if (f->joint_attention_dim != t5)
        return error_set(e, ERROR_BAD_FILE, "%s: the transformer's joint_attention_dim is %d but text_encoder_2's d_model is %d", folder,
                         f->joint_attention_dim, t5);
    if (f->in_channels != 4 * latent || f->out_channels != f->in_channels)
        return error_set(e, ERROR_BAD_FILE,
                         "%s: the transformer's in_channels %d and out_channels %d must both be four times the VAE's latent_channels %d", folder,
                         f->in_channels, f->out_channels, latent);
    if (autoencoder_kl_factor(vae) != p->info.vae_factor) /* the file changed between two looks at it */
        return error_set(e, ERROR_BAD_FILE, "%s: the VAE's block_out_channels changed while the model was loaded", folder);
    if (tokenizer_vocabulary(p->clip_tokenizer) > (size_t)clip_config->vocab_size)
        return error_set(e, ERROR_BAD_FILE, "%s: tokenizer has more tokens than text_encoder's vocab_size", folder);
    return true;
}

bool flux_parts_next(flux_parts *p, bool *more, error *e) {
    *more = true;
    if (p->clip_tokenizer == NULL || p->t5_tokenizer == NULL) return load_tokenizers(p, e);
    for (int i = 0; i < PART_KINDS; i++)
        if (p->parts[i] == NULL) return load_part(p, i, e);
    *more = false;
    return p->complete || (p->complete = check_parts_fit(p, e));
}

bool flux_parts_ensure(flux_parts *p, unsigned parts, error *e) {
    for (int i = 0; i < PART_KINDS; i++)
        if ((parts & 1U << i) != 0 && p->parts[i] == NULL && !load_part(p, i, e)) return false;
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
    if (p->pool != NULL) flux_parts_drop(p, FLUX_ALL_PARTS);
    for (int i = 0; i < PART_KINDS; i++) part_files_free(&p->files[i]);
    file_watch_free(&p->watch);
    tokenizer_free(p->clip_tokenizer);
    tokenizer_free(p->t5_tokenizer);
    *p = (flux_parts){0};
}

uint64_t flux_parts_bytes(const flux_parts *p) {
    uint64_t sum = 0;
    for (int i = 0; i < PART_KINDS; i++) sum += p->files[i].weight_bytes;
    return sum;
}

uint64_t flux_parts_bytes_here(const flux_parts *p) {
    uint64_t sum = 0;
    for (int i = 0; i < PART_KINDS; i++) sum += p->parts[i] != NULL ? p->files[i].weight_bytes : 0;
    return sum;
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
