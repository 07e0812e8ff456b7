#include "server/resources/model_document.h"

#include <string.h>

#include "base/clock.h"
#include "server/resources/seconds.h"

static const char *state_name(engine_model_state s) {
    switch (s) {
    case MODEL_LOADING: return "loading";
    case MODEL_CACHED: return "cached";
    case MODEL_IN_USE: return "in_use";
    }
    return "";
}

static void add_time(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, int64_t unix_ms) {
    char text[CLOCK_TEXT_BYTES];
    if (unix_ms == 0) yyjson_mut_obj_add_null(doc, o, key);
    else yyjson_mut_obj_add_strcpy(doc, o, key, clock_format(unix_ms, text));
}

yyjson_mut_val *model_row_document(yyjson_mut_doc *doc, const engine_model_row *m, const char *device) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "id", m->name);
    yyjson_mut_obj_add_str(doc, o, "state", state_name(m->state));
    yyjson_mut_obj_add_strcpy(doc, o, "device", device);
    yyjson_mut_obj_add_strcpy(doc, o, "precision", m->precision);
    yyjson_mut_obj_add_uint(doc, o, "size_bytes", m->size_bytes);
    yyjson_mut_obj_add_uint(doc, o, "mapped_bytes", m->mapped_bytes);
    yyjson_mut_obj_add_uint(doc, o, "private_bytes", m->private_bytes);
    yyjson_mut_obj_add_uint(doc, o, "vram_bytes", m->vram_bytes);
    yyjson_mut_obj_add_uint(doc, o, "compute_bytes", m->compute_bytes);
    yyjson_mut_obj_add_int(doc, o, "leases", m->leases);
    yyjson_mut_obj_add_uint(doc, o, "loads", m->loads);
    seconds_add(doc, o, "load_seconds", m->load_seconds);
    add_time(doc, o, "last_used", m->last_used_ms);
    yyjson_mut_obj_add_uint(doc, o, "peak_bytes", m->peak_bytes);
    yyjson_mut_obj_add_uint(doc, o, "resident_blocks", m->resident_blocks);
    yyjson_mut_obj_add_uint(doc, o, "streamed_blocks", m->streamed_blocks);
    return o;
}

/* What the engine has of it, the furthest of its rows deciding. */
static void add_rows(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *name, const engine_view *v) {
    const char *state = "available";
    engine_model_state furthest = MODEL_LOADING;
    int64_t used = 0;
    yyjson_mut_val *rows = yyjson_mut_arr(doc);
    for (const engine_model_row *m = NULL; (m = engine_view_model(v, name, m)) != NULL;) {
        if (m->state >= furthest) furthest = m->state;
        state = state_name(furthest);
        if (m->last_used_ms > used) used = m->last_used_ms;
        yyjson_mut_arr_append(rows, model_row_document(doc, m, engine_view_device_kind(v)));
    }
    yyjson_mut_obj_add_str(doc, o, "state", state);
    add_time(doc, o, "last_used", used);
    yyjson_mut_obj_add_val(doc, o, "cached", rows);
}

yyjson_mut_val *model_profile_document(yyjson_mut_doc *doc, const engine_profile *p) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "model", p->model);
    yyjson_mut_obj_add_strcpy(doc, o, "precision", p->precision);
    yyjson_mut_obj_add_int(doc, o, "width", p->width);
    yyjson_mut_obj_add_int(doc, o, "height", p->height);
    yyjson_mut_obj_add_int(doc, o, "text_tokens", p->text_tokens);
    yyjson_mut_obj_add_bool(doc, o, "guidance_pair", p->guidance_pair);
    yyjson_mut_obj_add_int(doc, o, "batch", p->batch);
    yyjson_mut_obj_add_uint(doc, o, "peak_bytes", p->peak_bytes);
    yyjson_mut_obj_add_uint(doc, o, "reserve_bytes", p->reserve_bytes);
    seconds_add(doc, o, "step_seconds", p->step_seconds);
    seconds_add(doc, o, "load_seconds", p->load_seconds);
    seconds_add(doc, o, "encode_seconds", p->encode_seconds);
    seconds_add(doc, o, "decode_seconds", p->decode_seconds);
    return o;
}

static void add_profiles(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *name, const engine_profiles *profiles) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, o, "profiles");
    for (size_t i = 0; i < engine_profiles_count(profiles); i++) {
        const engine_profile *p = engine_profiles_at(profiles, i);
        if (strcmp(p->model, name) == 0) yyjson_mut_arr_append(list, model_profile_document(doc, p));
    }
}

yyjson_mut_val *model_document(yyjson_mut_doc *doc, const model_info *m, bool is_default, const engine_view *v,
                               const engine_profiles *profiles) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, o, "id", m->name);
    yyjson_mut_obj_add_strcpy(doc, o, "class", m->class_name);
    yyjson_mut_obj_add_bool(doc, o, "default", is_default);
    yyjson_mut_obj_add_uint(doc, o, "size_bytes", m->size_bytes);
    yyjson_mut_obj_add_int(doc, o, "size_multiple", m->size_multiple);
    yyjson_mut_obj_add_bool(doc, o, "guidance_embedded", m->guidance_embedded);
    yyjson_mut_val *defaults = yyjson_mut_obj_add_obj(doc, o, "defaults");
    yyjson_mut_obj_add_int(doc, defaults, "width", m->width);
    yyjson_mut_obj_add_int(doc, defaults, "height", m->height);
    yyjson_mut_obj_add_int(doc, defaults, "num_inference_steps", m->steps);
    yyjson_mut_obj_add_real(doc, defaults, "guidance_scale", m->guidance);
    yyjson_mut_obj_add_int(doc, defaults, "max_sequence_length", m->max_sequence_length);
    add_rows(doc, o, m->name, v);
    add_profiles(doc, o, m->name, profiles);
    return o;
}
