#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/tokenizer_parts.h"

enum { SETTINGS_CAP = 8 * 1024 * 1024, PATH_BYTES = 4096, MAX_ID = 1 << 22, SANE_LENGTH = 1000000 };

static bool load_optional(const char *folder, const char *name, json_document *out, error *e) {
    char path[PATH_BYTES];
    *out = (json_document){0};
    if (!file_join(path, sizeof path, folder, name, e)) return false;
    return !file_exists(path) || json_load(path, SETTINGS_CAP, out, e);
}

bool tokenizer_settings_load(const char *folder, tokenizer_settings *s, error *e) {
    *s = (tokenizer_settings){0};
    return load_optional(folder, "tokenizer_config.json", &s->config, e) && load_optional(folder, "special_tokens_map.json", &s->map, e);
}

void tokenizer_settings_free(tokenizer_settings *s) {
    json_document_free(&s->config);
    json_document_free(&s->map);
}

static const char *special(const json_document *d, const char *name) {
    yyjson_val *v = d->doc != NULL ? json_get(json_root(d), name).value : NULL;
    if (yyjson_is_obj(v)) v = yyjson_obj_get(v, "content");
    return yyjson_get_str(v);
}

const char *tokenizer_settings_special(const tokenizer_settings *s, const char *name, const char *fallback) {
    const char *text = special(&s->config, name);
    if (text == NULL) text = special(&s->map, name);
    return text != NULL ? text : fallback;
}

size_t tokenizer_settings_max_length(const tokenizer_settings *s) {
    yyjson_val *v = s->config.doc != NULL ? json_get(json_root(&s->config), "model_max_length").value : NULL;
    double n = yyjson_is_num(v) ? yyjson_get_num(v) : 0;
    return n >= 1 && n <= SANE_LENGTH ? (size_t)n : 0;
}

static bool add_one(yyjson_val *entry, int64_t id, const char *source, tokenizer *t, error *e) {
    yyjson_val *text = yyjson_obj_get(entry, "content");
    if (!yyjson_is_str(text) || id < 0 || id >= MAX_ID)
        return error_set(e, ERROR_BAD_FILE, "%s: an added token needs a 'content' and an id below %d", source, MAX_ID);
    const added_token token = {
        .text = yyjson_get_str(text),
        .size = yyjson_get_len(text),
        .id = (int32_t)id,
        .strip_left = yyjson_get_bool(yyjson_obj_get(entry, "lstrip")),
        .strip_right = yyjson_get_bool(yyjson_obj_get(entry, "rstrip")),
    };
    if (id >= t->vocabulary) t->vocabulary = (int32_t)id + 1;
    return added_tokens_add(&t->added, &token, e);
}

bool tokenizer_settings_add_tokens(const tokenizer_settings *s, json added, tokenizer *t, error *e) {
    yyjson_val *decoder = s->config.doc != NULL ? json_get(json_root(&s->config), "added_tokens_decoder").value : NULL;
    yyjson_obj_iter i = yyjson_obj_iter_with(decoder);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&i)) != NULL;) {
        char *end;
        long id = strtol(yyjson_get_str(key), &end, 10);
        if (!add_one(yyjson_obj_iter_get_val(key), *end == '\0' ? id : -1, s->config.source, t, e)) return false;
    }
    yyjson_arr_iter k = yyjson_arr_iter_with(added.value);
    for (yyjson_val *entry; (entry = yyjson_arr_iter_next(&k)) != NULL;) {
        yyjson_val *id = yyjson_obj_get(entry, "id");
        if (!add_one(entry, yyjson_is_uint(id) ? (int64_t)(yyjson_get_uint(id) & INT64_MAX) : -1, added.source, t, e)) return false;
    }
    return true;
}
