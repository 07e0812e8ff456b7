#include "models/model_folder.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"

enum {
    SMALL_FILE_CAP = 4 * 1024 * 1024, /* a config of a pipeline's part is a few kilobytes */
    MAX_SEQUENCE = 512,               /* FluxPipeline's own limit */
    MAX_MODELS = 1000,
};

static bool load_config(const char *folder, const char *name, json_document *out, error *e) {
    char path[MODEL_PATH_BYTES];
    *out = (json_document){0};
    if (!file_join(path, sizeof path, folder, name, e) || !json_load(path, SMALL_FILE_CAP, out, e)) return false;
    if (!yyjson_is_obj(json_root(out).value)) return error_set(e, ERROR_BAD_FILE, "%s: must hold a JSON object", path);
    return true;
}

static bool read_class(model_info *m, error *e) {
    json_document d;
    const char *class_name = NULL;
    bool ok = load_config(m->folder, "model_index.json", &d, e) && json_require(json_root(&d), "_class_name", e) &&
              json_text(json_root(&d), "_class_name", sizeof m->class_name - 1, &class_name, e);
    if (ok && strcmp(class_name, "FluxPipeline") != 0)
        ok = error_set(e, ERROR_UNSUPPORTED, "%s/model_index.json names a %s: only FluxPipeline is known so far", m->folder, class_name);
    if (ok) snprintf(m->class_name, sizeof m->class_name, "%s", class_name);
    json_document_free(&d);
    return ok;
}

/* Each block but the last halves the picture: the factor is 2^(blocks − 1). */
static bool read_vae(model_info *m, error *e) {
    json_document d;
    json blocks = {0};
    int64_t channels = 4; /* AutoencoderKL's default */
    bool ok = load_config(m->folder, "vae/config.json", &d, e) && json_require(json_root(&d), "block_out_channels", e) &&
              json_array(json_root(&d), "block_out_channels", &blocks, e) &&
              json_int(json_root(&d), "latent_channels", 1, 1024, &channels, e);
    if (ok) {
        size_t count = yyjson_arr_size(blocks.value);
        if (count < 1 || count > 6) ok = json_complain(json_root(&d), "block_out_channels", e, "must list 1 to 6 blocks");
        else m->vae_factor = 1 << (count - 1);
    }
    m->size_multiple = 2 * m->vae_factor;
    m->latent_channels = (int)channels;
    m->latent_rgb = latent_rgb_known(m->latent_channels);
    json_document_free(&d);
    return ok;
}

static bool read_guidance(model_info *m, error *e) {
    json_document d;
    bool ok = load_config(m->folder, "transformer/config.json", &d, e) &&
              json_bool(json_root(&d), "guidance_embeds", &m->guidance_embedded, e);
    json_document_free(&d);
    return ok;
}

/* transformers writes 1e30 where a tokenizer has no limit: anything over FluxPipeline's own limit means that limit. */
static bool read_sequence_length(model_info *m, error *e) {
    json_document d;
    double length = 0;
    error fault = {0};
    bool ok = load_config(m->folder, "tokenizer_2/tokenizer_config.json", &d, &fault);
    m->max_sequence_length = MAX_SEQUENCE;
    if (ok) {
        ok = json_number(json_root(&d), "model_max_length", -HUGE_VAL, HUGE_VAL, &length, e);
        if (length >= 1 && length <= MAX_SEQUENCE) m->max_sequence_length = (int)length;
    } else if (fault.code == ERROR_OUT_OF_MEMORY) {
        if (e != NULL) *e = fault;
    } else {
        ok = true; /* the tokenizer itself will say so if it cannot be loaded */
    }
    json_document_free(&d);
    return ok;
}

static bool read_own_defaults(model_info *m, error *e) {
    char path[MODEL_PATH_BYTES];
    if (!file_join(path, sizeof path, m->folder, "imagined.json", e)) return false;
    if (!file_exists(path)) return true;
    json_document d;
    bool ok = load_config(m->folder, "imagined.json", &d, e);
    json root = ok ? json_root(&d) : (json){0};
    int64_t width = m->width, height = m->height, steps = m->steps, length = m->max_sequence_length;
    ok = ok && json_int(root, "width", m->size_multiple, MODEL_MAX_SIDE, &width, e) &&
         json_int(root, "height", m->size_multiple, MODEL_MAX_SIDE, &height, e) && json_int(root, "steps", 1, 1000, &steps, e) &&
         json_int(root, "max_sequence_length", 1, MAX_SEQUENCE, &length, e) && json_number(root, "guidance", 0, 100, &m->guidance, e) &&
         latent_rgb_read(root, m->latent_channels, &m->latent_rgb, e);
    if (ok && (width % m->size_multiple != 0 || height % m->size_multiple != 0))
        ok = error_set(e, ERROR_BAD_FILE, "%s: 'width' and 'height' must be multiples of %d", path, m->size_multiple);
    if (ok) {
        m->width = (int)width;
        m->height = (int)height;
        m->steps = (int)steps;
        m->max_sequence_length = (int)length;
    }
    json_document_free(&d);
    return ok;
}

static uint64_t safetensors_bytes(const char *folder) {
    uint64_t total = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL) return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t n = strlen(entry->d_name);
        struct stat info;
        if (n < 12 || strcmp(entry->d_name + n - 12, ".safetensors") != 0) continue;
        if (fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode)) total += (uint64_t)info.st_size;
    }
    closedir(dir);
    return total;
}

static uint64_t weight_bytes(const char *folder) {
    static const char *const parts[] = {"transformer", "text_encoder", "text_encoder_2", "vae"};
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char path[MODEL_PATH_BYTES];
        if (file_join(path, sizeof path, folder, parts[i], NULL)) total += safetensors_bytes(path);
    }
    return total;
}

bool model_folder_read(const char *folder, const char *name, model_info *out, error *e) {
    *out = (model_info){.vae_factor = 8, .size_multiple = 16};
    if (strlen(folder) >= sizeof out->folder - 64 || strlen(name) >= sizeof out->name)
        return error_set(e, ERROR_TOO_LARGE, "the path of the model '%s' is too long", name);
    snprintf(out->folder, sizeof out->folder, "%s", folder);
    snprintf(out->name, sizeof out->name, "%s", name);
    if (!file_exists(folder)) return error_set(e, ERROR_NOT_FOUND, "there is no model folder %s", folder);
    char index[MODEL_PATH_BYTES];
    if (!file_join(index, sizeof index, folder, "model_index.json", e)) return false;
    if (!file_exists(index))
        return error_set(e, ERROR_NOT_FOUND, "%s is no model folder in diffusers layout: it has no model_index.json", folder);
    if (!read_class(out, e) || !read_vae(out, e) || !read_guidance(out, e) || !read_sequence_length(out, e)) return false;
    /* FluxPipeline's own defaults, for dev and for schnell. */
    out->width = out->height = 128 * out->vae_factor;
    out->steps = out->guidance_embedded ? 28 : 4;
    out->guidance = out->guidance_embedded ? 3.5 : 0.0;
    if (!read_own_defaults(out, e)) return false;
    out->size_bytes = weight_bytes(folder);
    return true;
}

static int rounded(double side, int multiple) {
    int most = MODEL_MAX_SIDE / multiple, count = side / multiple > most ? most : (int)lround(side / multiple);
    return (count < 1 ? 1 : count) * multiple;
}

void model_size_for_picture(const model_info *m, int from_width, int from_height, int *width, int *height) {
    double pixels = (double)from_width * from_height, most = (double)m->width * m->height;
    double scale = pixels > most ? sqrt(most / pixels) : 1;
    *width = rounded(from_width * scale, m->size_multiple);
    *height = rounded(from_height * scale, m->size_multiple);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const model_info *)a)->name, ((const model_info *)b)->name);
}

/* Appends the model when its folder is usable; otherwise tells `complain`. False only when memory is short. */
static bool add_model(model_list *l, const char *folder, const char *name, void (*complain)(void *, const char *, const error *),
                      void *context, error *e) {
    model_info m;
    error why = {0};
    if (!model_folder_read(folder, name, &m, &why)) {
        if (complain != NULL) complain(context, folder, &why);
        return true;
    }
    model_info *grown = realloc(l->models, (l->count + 1) * sizeof *grown);
    if (grown == NULL) return error_no_memory(e, "the model list", (l->count + 1) * sizeof *grown);
    l->models = grown;
    l->models[l->count++] = m;
    return true;
}

static bool add_folder(model_list *l, const char *models_folder, void (*complain)(void *, const char *, const error *), void *context,
                       error *e) {
    DIR *dir = opendir(models_folder);
    if (dir == NULL) {
        if (errno == ENOENT) return true;
        error why = {0};
        error_system(&why, "read the models folder", models_folder);
        if (complain != NULL) complain(context, models_folder, &why);
        return true;
    }
    bool ok = true;
    for (struct dirent *entry; ok && l->count < MAX_MODELS && (entry = readdir(dir)) != NULL;) {
        char folder[MODEL_PATH_BYTES], index[MODEL_PATH_BYTES];
        if (entry->d_name[0] == '.' || !file_join(folder, sizeof folder, models_folder, entry->d_name, NULL)) continue;
        if (!file_join(index, sizeof index, folder, "model_index.json", NULL) || !file_exists(index)) continue;
        ok = add_model(l, folder, entry->d_name, complain, context, e);
    }
    closedir(dir);
    return ok;
}

bool model_list_read(const char *demo_folder, const char *models_folder,
                     void (*complain)(void *context, const char *folder, const error *e), void *context, model_list *out, error *e) {
    *out = (model_list){0};
    if (demo_folder[0] != '\0' && !add_model(out, demo_folder, "demo", complain, context, e)) return false;
    size_t first = out->count;
    if (!add_folder(out, models_folder, complain, context, e)) {
        model_list_free(out);
        return false;
    }
    if (out->count > first) qsort(out->models + first, out->count - first, sizeof *out->models, by_name);
    return true;
}

void model_list_free(model_list *l) {
    free(l->models);
    *l = (model_list){0};
}

const model_info *model_list_find(const model_list *l, const char *name) {
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->models[i].name, name) == 0) return &l->models[i];
    return NULL;
}
