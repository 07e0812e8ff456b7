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

/* An object with "content", or the text itself. A token is normalised where the file says so, or says nothing and the token is not special. */
static bool describe(yyjson_val *v, bool special, token_description *d) {
    yyjson_val *text = yyjson_is_obj(v) ? yyjson_obj_get(v, "content") : v, *normalized = yyjson_obj_get(v, "normalized");
    if (!yyjson_is_str(text)) return false;
    *d = (token_description){
        .text = yyjson_get_str(text),
        .size = yyjson_get_len(text),
        .strip_left = yyjson_get_bool(yyjson_obj_get(v, "lstrip")),
        .strip_right = yyjson_get_bool(yyjson_obj_get(v, "rstrip")),
        .normalized = yyjson_is_bool(normalized) ? yyjson_get_bool(normalized) : !special,
    };
    return true;
}

static bool find_special(const json_document *file, const char *name, token_description *d) {
    return file->doc != NULL && describe(json_get(json_root(file), name).value, true, d);
}

token_description tokenizer_settings_special(const tokenizer_settings *s, const char *name, const char *fallback) {
    token_description d;
    if (find_special(&s->config, name, &d) || find_special(&s->map, name, &d)) return d;
    return (token_description){.text = fallback, .size = strlen(fallback)};
}

bool tokenizer_add_token(tokenizer *t, const token_description *d, int32_t id, error *e) {
    added_token token = {.text = d->text, .size = d->size, .id = id, .strip_left = d->strip_left, .strip_right = d->strip_right};
    buffer normal = {0};
    if (d->normalized) {
        if (!tokenizer_normalize(t, d->text, d->size, &normal)) {
            buffer_free(&normal);
            return error_no_memory(e, "the added tokens", d->size);
        }
        token.normal = buffer_text(&normal);
        token.normal_size = normal.size;
    }
    bool ok = added_tokens_add(&t->added, &token, e);
    buffer_free(&normal);
    return ok;
}

size_t tokenizer_settings_max_length(const tokenizer_settings *s) {
    yyjson_val *v = s->config.doc != NULL ? json_get(json_root(&s->config), "model_max_length").value : NULL;
    double n = yyjson_is_num(v) ? yyjson_get_num(v) : 0;
    return n >= 1 && n <= SANE_LENGTH ? (size_t)n : 0;
}

static bool add_one(yyjson_val *entry, int64_t id, const char *source, tokenizer *t, error *e) {
    token_description d;
    if (!yyjson_is_obj(entry) || !describe(entry, yyjson_get_bool(yyjson_obj_get(entry, "special")), &d) || id < 0 || id >= MAX_ID)
        return error_set(e, ERROR_BAD_FILE, "%s: an added token needs a 'content' and an id below %d", source, MAX_ID);
    if (id >= t->vocabulary) t->vocabulary = (int32_t)id + 1;
    return tokenizer_add_token(t, &d, (int32_t)id, e);
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
