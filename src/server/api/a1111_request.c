#include "server/api/a1111_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "server/api/a1111_body.h"
#include "server/api/a1111_models.h"
#include "server/requests/request_fields.h"
#include "server/requests/services.h"

/* FluxPipeline's own guidance. A1111's clients send 7 unless told otherwise, which suits Stable Diffusion; a flow-matching model's pictures
 * burn well below that. */
static const double max_true_cfg = 3.5;

enum { RANDOM_SEED_MAX = 0x7FFFFFFF, NAME_BYTES = 256 };

/* What is read, and what info will say of it. */
typedef struct reading {
    services *services;
    json body;
    bool img2img;
    a1111_request *out;
    const model_info *model;
    int batch_size;
    yyjson_mut_doc *doc; /* of adapter_data */
    yyjson_mut_val *extra;
    buffer ignored; /* names, separated by commas */
} reading;

static void ignore(reading *r, const char *what) { buffer_printf(&r->ignored, "%s%s", r->ignored.size > 0 ? ", " : "", what); }
static void note(reading *r, const char *key, const char *text) { yyjson_mut_obj_add_strcpy(r->doc, r->extra, key, text); }

static bool keep_text(reading *r, const char *text, const char **out, error *e) {
    *out = arena_text(&r->out->memory, text, strlen(text));
    return *out != NULL || error_no_memory(e, "a request", strlen(text));
}

/* --- the model --- */

/* A name that nothing here has is passed over, as A1111 does it: clients send those of the server they were set up for. */
static bool read_model(reading *r, error *e) {
    json settings = {0};
    const char *name = NULL;
    if (!json_object(r->body, "override_settings", &settings, e)) return false;
    if (settings.value != NULL && !json_text(settings, "sd_model_checkpoint", 1024, &name, e)) return false;
    if (name != NULL && name[0] != '\0') {
        r->model = a1111_model_named(r->services, name);
        if (r->model == NULL) note(r, "Model asked for", name);
    }
    return r->model != NULL || a1111_model_chosen(r->services, &r->model, e);
}

/* --- size, number, seed --- */

static int nearest_side(int64_t asked, int multiple) {
    int64_t side = (asked + multiple / 2) / multiple * multiple;
    if (side > MODEL_MAX_SIDE) side = MODEL_MAX_SIDE / multiple * multiple;
    return side < multiple ? multiple : (int)side;
}

static bool read_size(reading *r, error *e) {
    task_request *t = &r->out->task;
    int64_t width = t->width, height = t->height;
    if (!a1111_int(r->body, "width", 1, MODEL_MAX_SIDE, &width, e) || !a1111_int(r->body, "height", 1, MODEL_MAX_SIDE, &height, e))
        return false;
    t->width = nearest_side(width, r->model->size_multiple);
    t->height = nearest_side(height, r->model->size_multiple);
    if ((int64_t)t->width * t->height > REQUEST_MAX_PIXELS)
        return json_complain(r->body, "width", e, "times 'height' is %lld pixels: at most %d are allowed", (long long)t->width * t->height,
                             REQUEST_MAX_PIXELS);
    if (t->width != width || t->height != height) {
        char text[32];
        snprintf(text, sizeof text, "%lldx%lld", (long long)width, (long long)height);
        note(r, "Size asked for", text);
    }
    return true;
}

static bool read_count(reading *r, error *e) {
    int64_t batch = 1, batches = 1;
    if (!a1111_int(r->body, "batch_size", 1, TASK_MAX_IMAGES, &batch, e) || !a1111_int(r->body, "n_iter", 1, TASK_MAX_IMAGES, &batches, e))
        return false;
    if (batch * batches > TASK_MAX_IMAGES)
        return json_complain(r->body, "n_iter", e, "times 'batch_size' is %lld pictures: at most %d are made at once",
                             (long long)(batch * batches), TASK_MAX_IMAGES);
    r->batch_size = (int)batch;
    r->out->task.count = (int)(batch * batches);
    return true;
}

/* Below zero: a random one, small enough for clients whose numbers are floating. */
static bool read_seed(reading *r, error *e) {
    uint64_t *seed = &r->out->task.seed;
    json v = json_get(r->body, "seed");
    *seed &= RANDOM_SEED_MAX;
    if (yyjson_is_uint(v.value)) {
        *seed = yyjson_get_uint(v.value);
        return true;
    }
    int64_t asked = -1;
    if (!a1111_int(r->body, "seed", INT64_MIN, INT64_MAX, &asked, e)) return false;
    if (asked >= 0) *seed = (uint64_t)asked;
    return true;
}

/* --- prompts and guidance --- */

static bool read_prompts(reading *r, error *e) {
    const char *prompt = "", *negative = "";
    task_request *t = &r->out->task;
    return json_text(r->body, "prompt", REQUEST_PROMPT_BYTES, &prompt, e) &&
           json_text(r->body, "negative_prompt", REQUEST_PROMPT_BYTES, &negative, e) && keep_text(r, prompt, &t->prompt, e) &&
           (negative[0] == '\0' || keep_text(r, negative, &t->negative_prompt, e));
}

/* On models with embedded guidance cfg_scale is that guidance. Where distilled_cfg_scale is sent too, as Forge's clients do, that is the
 * guidance and cfg_scale the weight of the negative prompt, as it always is on models without. */
static bool read_guidance(reading *r, error *e) {
    task_request *t = &r->out->task;
    double cfg = -1, distilled = -1;
    if (!a1111_number(r->body, "cfg_scale", 0, 100, &cfg, e) || !a1111_number(r->body, "distilled_cfg_scale", 0, 100, &distilled, e))
        return false;
    bool is_weight = !r->model->guidance_embedded || distilled >= 0;
    if (r->model->guidance_embedded && (distilled >= 0 || cfg >= 0)) t->guidance_scale = distilled >= 0 ? distilled : cfg;
    if (is_weight && cfg > 1 && t->negative_prompt != NULL) t->true_cfg_scale = cfg < max_true_cfg ? cfg : max_true_cfg;
    if (is_weight && cfg > 1 && t->true_cfg_scale != cfg) yyjson_mut_obj_add_real(r->doc, r->extra, "CFG scale asked for", cfg);
    if (t->negative_prompt != NULL && t->true_cfg_scale <= 1) ignore(r, "negative_prompt");
    return true;
}

/* --- the sampler --- */

static bool is_one_of(const char *name, const char *const *names) {
    for (; *names != NULL; names++)
        if (strcasecmp(name, *names) == 0) return true;
    return false;
}

static bool read_sampler(reading *r, error *e) {
    static const char *const euler[] = {"", "Euler", "k_euler", NULL}, *const simple[] = {"",       "automatic",          "simple",
                                                                                          "normal", "Use same scheduler", NULL};
    const char *sampler = NULL, *scheduler = "";
    if (!json_text(r->body, "sampler_name", NAME_BYTES, &sampler, e) || !json_text(r->body, "scheduler", NAME_BYTES, &scheduler, e))
        return false;
    if (sampler == NULL && yyjson_is_str(json_get(r->body, "sampler_index").value) &&
        !json_text(r->body, "sampler_index", NAME_BYTES, &sampler, e))
        return false;
    if (sampler != NULL && !is_one_of(sampler, euler)) note(r, "Sampler asked for", sampler);
    if (!is_one_of(scheduler, simple)) note(r, "Scheduler asked for", scheduler);
    return true;
}

/* --- the picture --- */

static bool read_text(json v, const char *key, a1111_text *out, error *e) {
    if (v.value == NULL) return true;
    if (!yyjson_is_str(v.value)) return error_field(e, ERROR_INVALID, key, "%s: '%s' must be a picture in base 64", v.source, key);
    *out = (a1111_text){yyjson_get_str(v.value), yyjson_get_len(v.value)};
    return true;
}

static bool read_picture(reading *r, error *e) {
    static const char *const pages[] = {"http://", "https://"};
    a1111_request *out = r->out;
    json pictures = {0};
    double strength = 0.75; /* A1111's own */
    int64_t invert = 0;
    if (!json_array(r->body, "init_images", &pictures, e)) return false;
    yyjson_val *first = yyjson_arr_get_first(pictures.value);
    if (first == NULL || yyjson_is_null(first)) return error_set(e, ERROR_NOT_FOUND, "Init image not found");
    if (!read_text((json){first, r->body.source, false}, "init_images", &out->picture, e) ||
        !read_text(json_get(r->body, "mask"), "mask", &out->mask, e) || !a1111_number(r->body, "denoising_strength", 0, 1, &strength, e) ||
        !a1111_int(r->body, "inpainting_mask_invert", 0, 1, &invert, e))
        return false;
    for (size_t i = 0; i < 2; i++)
        if (strncasecmp(out->picture.text, pages[i], strlen(pages[i])) == 0)
            return json_complain(r->body, "init_images", e, "is an address: send the picture itself, in base 64");
    /* A mask that is "" is none. */
    if (out->mask.size == 0) out->mask = (a1111_text){0};
    out->mask_inverted = invert == 1;
    out->has_size = json_get(r->body, "width").value != NULL || json_get(r->body, "height").value != NULL;
    /* At 0 the picture would be given back as it came, after a way through the autoencoder: one step is the least that is run. */
    double least = 1.0 / out->task.steps;
    out->task.strength = strength > least ? strength : least;
    return true;
}

/* --- what means nothing here --- */

static bool is_on(json v) {
    if (yyjson_is_bool(v.value)) return yyjson_get_bool(v.value);
    if (yyjson_is_num(v.value)) return yyjson_get_num(v.value) > 0;
    if (yyjson_is_str(v.value)) return yyjson_get_len(v.value) > 0;
    return yyjson_is_ctn(v.value) && yyjson_get_len(v.value) > 0;
}

/* Only what asks for another picture; who sends a default is not told. */
static bool read_ignored(reading *r, error *e) {
    static const char *const always[] = {
        "enable_hr",          "restore_faces", "tiling",           "subseed_strength",   "seed_resize_from_w",
        "seed_resize_from_h", "styles",        "alwayson_scripts", "refiner_checkpoint", "infotext"};
    static const char *const of_pictures[] = {"resize_mode", "mask_blur", "inpaint_full_res"};
    const char *script = NULL;
    if (!json_text(r->body, "script_name", NAME_BYTES, &script, e)) return false;
    if (script != NULL && script[0] != '\0' && strcasecmp(script, "None") != 0)
        return json_complain(r->body, "script_name", e, "is '%s': there are no scripts here", script);
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (is_on(json_get(r->body, always[i]))) ignore(r, always[i]);
    if (!r->img2img) return true;
    for (size_t i = 0; i < sizeof of_pictures / sizeof *of_pictures; i++)
        if ((i == 0 || r->out->mask.text != NULL) && is_on(json_get(r->body, of_pictures[i]))) ignore(r, of_pictures[i]);
    json fill = json_get(r->body, "inpainting_fill");
    if (r->out->mask.text != NULL && yyjson_is_num(fill.value) && yyjson_get_num(fill.value) != 1) ignore(r, "inpainting_fill");
    if (yyjson_arr_size(json_get(r->body, "init_images").value) > 1) ignore(r, "init_images after the first");
    return true;
}

/* --- what is told back --- */

/* About what the value takes as text, counted until that is over `most`. A container's values lie behind it, one after the other, however
 * deep (yyjson.h). */
static size_t text_size(yyjson_val *value, size_t most) {
    size_t size = 0;
    for (yyjson_val *v = value, *end = unsafe_yyjson_get_next(value); v < end && size <= most; v++)
        size += 8 + (yyjson_is_str(v) ? yyjson_get_len(v) : 0);
    return size;
}

/* The request's own fields; null for pictures, as A1111 does it, and for whatever else is large. */
static yyjson_mut_val *echo(reading *r) {
    yyjson_mut_val *o = yyjson_mut_obj(r->doc);
    yyjson_obj_iter members = yyjson_obj_iter_with(r->body.value);
    size_t room = A1111_ECHO_BYTES;
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&members)) != NULL;) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        const char *name = yyjson_get_str(key);
        size_t size = text_size(value, A1111_ECHO_MEMBER_BYTES);
        bool told = size <= A1111_ECHO_MEMBER_BYTES && strcmp(name, "init_images") != 0 && strcmp(name, "mask") != 0;
        size = yyjson_get_len(key) + (told ? size : 8);
        if (size > room) break;
        room -= size;
        yyjson_mut_obj_add(o, yyjson_val_mut_copy(r->doc, key), told ? yyjson_val_mut_copy(r->doc, value) : yyjson_mut_null(r->doc));
    }
    return o;
}

static bool write_data(reading *r, error *e) {
    bool send = true;
    size_t size = 0;
    if (!a1111_bool(r->body, "send_images", &send, e)) return false;
    if (r->ignored.size > 0) note(r, "Not applied", buffer_text(&r->ignored));
    yyjson_mut_val *root = yyjson_mut_obj(r->doc);
    yyjson_mut_obj_add_bool(r->doc, root, "send_images", send);
    yyjson_mut_obj_add_int(r->doc, root, "batch_size", r->batch_size);
    yyjson_mut_obj_add_val(r->doc, root, "extra", r->extra);
    yyjson_mut_obj_add_val(r->doc, root, "parameters", echo(r));
    char *text = buffer_ok(&r->ignored) ? yyjson_mut_val_write(root, 0, &size) : NULL;
    r->out->task.adapter = "a1111";
    r->out->task.adapter_data = text != NULL ? arena_text(&r->out->memory, text, size) : NULL;
    free(text);
    return r->out->task.adapter_data != NULL || error_no_memory(e, "a request", size);
}

static bool read_all(reading *r, error *e) {
    task_request *t = &r->out->task;
    int64_t steps;
    if (!read_model(r, e) || !request_fields_defaults(r->model, t, e) || !keep_text(r, r->model->name, &t->model, e)) return false;
    steps = t->steps;
    if (!a1111_int(r->body, "steps", 1, REQUEST_MAX_STEPS, &steps, e)) return false;
    t->steps = (int)steps;
    return read_prompts(r, e) && read_size(r, e) && read_count(r, e) && read_seed(r, e) && read_guidance(r, e) && read_sampler(r, e) &&
           (!r->img2img || read_picture(r, e)) && read_ignored(r, e) && write_data(r, e);
}

bool a1111_request_read(services *s, json body, bool img2img, a1111_request *out, error *e) {
    reading r = {.services = s, .body = body, .img2img = img2img, .out = out, .doc = yyjson_mut_doc_new(NULL)};
    *out = (a1111_request){0};
    if (r.doc == NULL) return error_no_memory(e, "a request", 0);
    r.extra = yyjson_mut_obj(r.doc);
    bool ok = read_all(&r, e);
    yyjson_mut_doc_free(r.doc);
    buffer_free(&r.ignored);
    if (!ok) a1111_request_free(out);
    return ok;
}

void a1111_request_free(a1111_request *r) {
    arena_free(&r->memory);
    *r = (a1111_request){0};
}
