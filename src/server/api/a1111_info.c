#include "server/api/a1111_info.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "build_config.h"
#include "server/tasks/task_parameters.h"

void a1111_data_read(const task *t, a1111_data *out) {
    const char *text = t->request.adapter_data;
    *out = (a1111_data){.send_images = true, .batch_size = 1, .doc = text != NULL ? yyjson_read(text, strlen(text), 0) : NULL};
    yyjson_val *root = yyjson_doc_get_root(out->doc), *send = yyjson_obj_get(root, "send_images"),
               *batch = yyjson_obj_get(root, "batch_size");
    if (yyjson_is_bool(send)) out->send_images = yyjson_get_bool(send);
    if (yyjson_is_int(batch)) out->batch_size = yyjson_get_int(batch);
    out->extra = yyjson_obj_get(root, "extra");
    out->parameters = yyjson_obj_get(root, "parameters");
}

void a1111_data_free(a1111_data *d) {
    yyjson_doc_free(d->doc);
    *d = (a1111_data){0};
}

const char *a1111_time(int64_t unix_ms, char text[A1111_TIME_BYTES]) {
    char date[CLOCK_TEXT_BYTES];
    size_t n = 0;
    clock_format(unix_ms, date);
    for (const char *c = date; *c != '\0' && *c != '.' && n + 1 < A1111_TIME_BYTES; c++)
        if (*c >= '0' && *c <= '9') text[n++] = *c;
    text[n] = '\0';
    return text;
}

static void add_each(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, int count, const char *text) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, o, key);
    for (int i = 0; i < count; i++) yyjson_mut_arr_add_strcpy(doc, list, text);
}

static void add_prompts(yyjson_mut_doc *doc, yyjson_mut_val *o, const task_request *r) {
    const char *negative = r->negative_prompt != NULL ? r->negative_prompt : "";
    yyjson_mut_obj_add_strcpy(doc, o, "prompt", r->prompt);
    add_each(doc, o, "all_prompts", r->count, r->prompt);
    yyjson_mut_obj_add_strcpy(doc, o, "negative_prompt", negative);
    add_each(doc, o, "all_negative_prompts", r->count, negative);
}

static void add_seeds(yyjson_mut_doc *doc, yyjson_mut_val *o, const task *t) {
    int count = t->request.count;
    yyjson_mut_obj_add_uint(doc, o, "seed", t->images[0].seed);
    yyjson_mut_val *all = yyjson_mut_obj_add_arr(doc, o, "all_seeds");
    for (int i = 0; i < count; i++) yyjson_mut_arr_add_uint(doc, all, t->images[i].seed);
    yyjson_mut_obj_add_int(doc, o, "subseed", -1);
    all = yyjson_mut_obj_add_arr(doc, o, "all_subseeds");
    for (int i = 0; i < count; i++) yyjson_mut_arr_add_int(doc, all, -1);
    yyjson_mut_obj_add_real(doc, o, "subseed_strength", 0);
}

/* The weight of the negative prompt where it has one, else the guidance fed to the model. */
static double cfg_scale(const task_request *r) { return r->true_cfg_scale > 1 ? r->true_cfg_scale : r->guidance_scale; }

static void add_settings(yyjson_mut_doc *doc, yyjson_mut_val *o, const task_request *r, int batch_size) {
    yyjson_mut_obj_add_int(doc, o, "width", r->width);
    yyjson_mut_obj_add_int(doc, o, "height", r->height);
    yyjson_mut_obj_add_str(doc, o, "sampler_name", "Euler");
    yyjson_mut_obj_add_real(doc, o, "cfg_scale", cfg_scale(r));
    yyjson_mut_obj_add_int(doc, o, "steps", r->steps);
    yyjson_mut_obj_add_int(doc, o, "batch_size", batch_size);
    yyjson_mut_obj_add_bool(doc, o, "restore_faces", false);
    yyjson_mut_obj_add_null(doc, o, "face_restoration_model");
    yyjson_mut_obj_add_strcpy(doc, o, "sd_model_name", r->model);
    yyjson_mut_obj_add_str(doc, o, "sd_model_hash", "");
    yyjson_mut_obj_add_null(doc, o, "sd_vae_name");
    yyjson_mut_obj_add_null(doc, o, "sd_vae_hash");
    yyjson_mut_obj_add_int(doc, o, "seed_resize_from_w", -1);
    yyjson_mut_obj_add_int(doc, o, "seed_resize_from_h", -1);
    if (r->image != NULL) yyjson_mut_obj_add_real(doc, o, "denoising_strength", r->strength);
    else yyjson_mut_obj_add_null(doc, o, "denoising_strength");
}

/* Of the pictures that there are. */
static bool add_texts(yyjson_mut_doc *doc, yyjson_mut_val *o, const task *t) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, o, "infotexts");
    buffer text = {0};
    for (int i = 0; i < t->request.count; i++) {
        if (!t->images[i].stored) continue;
        buffer_clear(&text);
        task_parameters_write(t, i, &text);
        if (!buffer_ok(&text)) break;
        yyjson_mut_arr_add_strcpy(doc, list, buffer_text(&text));
    }
    bool ok = buffer_ok(&text);
    buffer_free(&text);
    return ok;
}

bool a1111_info_write(const task *t, const a1111_data *d, buffer *out) {
    char time[A1111_TIME_BYTES];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    add_prompts(doc, o, &t->request);
    add_seeds(doc, o, t);
    add_settings(doc, o, &t->request, d->batch_size);
    yyjson_mut_obj_add_val(doc, o, "extra_generation_params", d->extra != NULL ? yyjson_val_mut_copy(doc, d->extra) : yyjson_mut_obj(doc));
    yyjson_mut_obj_add_int(doc, o, "index_of_first_image", 0);
    bool ok = add_texts(doc, o, t);
    yyjson_mut_obj_add_arr(doc, o, "styles");
    yyjson_mut_obj_add_strcpy(doc, o, "job_timestamp", a1111_time(t->created_ms, time));
    yyjson_mut_obj_add_int(doc, o, "clip_skip", 1);
    yyjson_mut_obj_add_bool(doc, o, "is_using_inpainting_conditioning", false);
    yyjson_mut_obj_add_str(doc, o, "version", "imagined " IMAGINED_VERSION);
    char *text = ok ? yyjson_mut_val_write(o, 0, NULL) : NULL;
    ok = text != NULL;
    if (ok) buffer_append_text(out, text);
    free(text);
    yyjson_mut_doc_free(doc);
    return ok && buffer_ok(out);
}
