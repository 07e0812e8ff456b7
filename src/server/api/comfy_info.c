/* What ComfyUI's clients ask of the server itself: its nodes, models, memory and abilities. */
#include <stdio.h>
#include <string.h>

#include "build_config.h"
#include "server/api/comfy.h"
#include "server/http/answer.h"
#include "server/requests/primary_device.h"
#include "server/requests/services.h"

/* --- models --- */

const model_info *comfy_model(services *s, const char *file_name) {
    static const char *const extensions[] = {".safetensors", ".sft", ".ckpt", ".gguf", NULL};
    const model_list *list = catalog_list(s->catalog);
    const model_info *found = model_list_find(list, file_name);
    char name[MODEL_NAME_BYTES];
    for (int i = 0; found == NULL && extensions[i] != NULL; i++) {
        size_t size = strlen(file_name), tail = strlen(extensions[i]);
        if (size <= tail || size - tail >= sizeof name || strcmp(file_name + size - tail, extensions[i]) != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(size - tail), file_name);
        found = model_list_find(list, name);
    }
    return found;
}

/* Models under the names of the files that ComfyUI would have. */
static void list_models(services *s, yyjson_mut_doc *doc, yyjson_mut_val *list) {
    const model_list *models = catalog_list(s->catalog);
    for (size_t i = 0; i < models->count; i++) {
        char name[MODEL_NAME_BYTES + 16];
        snprintf(name, sizeof name, "%s.safetensors", models->models[i].name);
        yyjson_mut_arr_add_strcpy(doc, list, name);
    }
}

/* Of what every model brings along, the names that graphs usually have: clients look for theirs in the list before they send it. */
static void list_usual(comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *list) {
    static const char *const encoders[] = {"clip_l.safetensors", "clip_g.safetensors", "t5xxl_fp16.safetensors", "t5xxl_fp8_e4m3fn.safetensors",
                                           "t5xxl_fp8_e4m3fn_scaled.safetensors", NULL};
    static const char *const autoencoders[] = {"ae.safetensors", "sdxl_vae.safetensors", NULL};
    for (const char *const *name = c == CHOOSE_CLIP ? encoders : autoencoders; *name != NULL; name++)
        yyjson_mut_arr_add_str(doc, list, *name);
}

void comfy_list_choices(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *list) {
    const comfy_view *v = context;
    const comfy_inputs *inputs = v->services->comfy->inputs;
    if (c == CHOOSE_MODEL || c == CHOOSE_CLIP || c == CHOOSE_VAE) list_models(v->services, doc, list);
    if (c == CHOOSE_CLIP || c == CHOOSE_VAE) list_usual(c, doc, list);
    for (size_t i = 0; c == CHOOSE_PICTURE && i < comfy_inputs_count(inputs); i++) {
        const comfy_input_name *one = comfy_inputs_at(inputs, i);
        if (strcmp(one->owner, v->owner) == 0) yyjson_mut_arr_add_strcpy(doc, list, one->name);
    }
}

static const char *const folders[] = {"checkpoints", "diffusion_models", "unet",       "text_encoders",  "clip", "vae",
                                      "loras",       "embeddings",       "controlnet", "upscale_models", NULL};

void comfy_get_models(services *s, http_exchange *x, const char *id) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    (void)s, (void)id;
    for (int i = 0; folders[i] != NULL; i++) yyjson_mut_arr_add_str(doc, list, folders[i]);
    yyjson_mut_doc_set_root(doc, list);
    answer_json(x, 200, NULL, doc);
}

void comfy_get_model_folder(services *s, http_exchange *x, const char *id) {
    int i = 0;
    error why;
    while (folders[i] != NULL && strcmp(folders[i], id) != 0) i++;
    if (folders[i] == NULL) {
        error_set(&why, ERROR_NOT_FOUND, "there is no folder of models '%.64s'", id);
        comfy_answer_error(x, 0, &why);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    if (i < 6) list_models(s, doc, list); /* each model brings its own of all of these; of the others there is none */
    yyjson_mut_doc_set_root(doc, list);
    answer_json(x, 200, NULL, doc);
}

void comfy_get_empty_list(services *s, http_exchange *x, const char *id) {
    (void)s, (void)id;
    answer_text(x, 200, "application/json", "[]");
}

/* --- nodes --- */

void comfy_get_object_info(services *s, http_exchange *x, const char *id) {
    comfy_view view = {s, comfy_owner(x)};
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    for (size_t i = 0; i < comfy_class_count(); i++) {
        const comfy_class *c = comfy_class_at(i);
        if (id[0] == '\0' || strcmp(id, c->name) == 0)
            yyjson_mut_obj_add_val(doc, root, c->name, comfy_class_document(doc, c, comfy_list_choices, &view));
    }
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

/* --- the machine --- */

static void add_system(yyjson_mut_doc *doc, yyjson_mut_val *root, const device_figures *memory) {
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "system");
    yyjson_mut_obj_add_str(doc, o, "os", "linux");
    yyjson_mut_obj_add_uint(doc, o, "ram_total", memory->total);
    yyjson_mut_obj_add_uint(doc, o, "ram_free", memory->free);
    yyjson_mut_obj_add_str(doc, o, "comfyui_version", "imagined " IMAGINED_VERSION);
    yyjson_mut_obj_add_str(doc, o, "python_version", "none");
    yyjson_mut_obj_add_str(doc, o, "pytorch_version", "none");
    yyjson_mut_obj_add_bool(doc, o, "embedded_python", false);
    yyjson_mut_arr_add_str(doc, yyjson_mut_obj_add_arr(doc, o, "argv"), "imagined");
}

void comfy_get_stats(services *s, http_exchange *x, const char *id) {
    device_figures memory, whole;
    (void)id;
    machine_figures_main_memory(&memory);
    vram_stats v = primary_device_read(s, &whole);
    const char *kind = primary_device_kind(s);
    char name[sizeof whole.name + 32];
    snprintf(name, sizeof name, "%s%s%s", kind, whole.name[0] != '\0' ? " " : "", whole.name);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    add_system(doc, root, &memory);
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, yyjson_mut_obj_add_arr(doc, root, "devices"));
    uint64_t ours = v.figures.weights + v.figures.compute + v.figures.staging + v.figures.cache;
    yyjson_mut_obj_add_strcpy(doc, o, "name", name);
    yyjson_mut_obj_add_strcpy(doc, o, "type", kind);
    if (strcmp(kind, "cpu") == 0) yyjson_mut_obj_add_null(doc, o, "index");
    else yyjson_mut_obj_add_int(doc, o, "index", whole.index);
    yyjson_mut_obj_add_uint(doc, o, "vram_total", v.bound);
    yyjson_mut_obj_add_uint(doc, o, "vram_free", v.bound_free);
    yyjson_mut_obj_add_uint(doc, o, "torch_vram_total", ours); /* what this program holds of it; the name is ComfyUI's */
    yyjson_mut_obj_add_uint(doc, o, "torch_vram_free", 0);
    answer_json(x, 200, NULL, doc);
}

void comfy_get_features(services *s, http_exchange *x, const char *id) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    (void)s, (void)id;
    yyjson_mut_doc_set_root(doc, comfy_features_document(doc));
    answer_json(x, 200, NULL, doc);
}
