#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/tokenizer_parts.h"

enum { SETTINGS_CAP = 8 * 1024 * 1024, PATH_BYTES = 4096, SANE_LENGTH = 1000000 };

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

bool token_describe(yyjson_val *v, bool special, token_description *out) {
    bool is_text = yyjson_is_str(v);
    yyjson_val *text = is_text ? v : yyjson_obj_get(v, "content"), *normalized = yyjson_obj_get(v, "normalized");
    if (!yyjson_is_str(text)) return false;
    *out = (token_description){
        .text = yyjson_get_str(text),
        .size = yyjson_get_len(text),
        .is_text = is_text,
        .strip_left = yyjson_get_bool(yyjson_obj_get(v, "lstrip")),
        .strip_right = yyjson_get_bool(yyjson_obj_get(v, "rstrip")),
        .single_word = yyjson_get_bool(yyjson_obj_get(v, "single_word")),
        .normalized = yyjson_is_bool(normalized) ? yyjson_get_bool(normalized) : !is_text && !special,
    };
    return true;
}

yyjson_val *tokenizer_settings_decoder(const tokenizer_settings *s) {
    yyjson_val *v = s->config.doc != NULL ? json_get(json_root(&s->config), "added_tokens_decoder").value : NULL;
    return yyjson_is_obj(v) ? v : NULL;
}

bool tokenizer_settings_special(const tokenizer_settings *s, const char *name, const char *fallback, token_description *out) {
    bool use_map = s->map.doc != NULL && tokenizer_settings_decoder(s) == NULL;
    if (use_map && token_describe(json_get(json_root(&s->map), name).value, true, out)) return true;
    yyjson_val *v = s->config.doc != NULL ? json_get(json_root(&s->config), name).value : NULL;
    if (token_describe(v, yyjson_get_bool(yyjson_obj_get(v, "special")), out)) return true;
    if (fallback != NULL) *out = (token_description){.text = fallback, .size = strlen(fallback), .is_text = true};
    return fallback != NULL;
}

size_t tokenizer_settings_max_length(const tokenizer_settings *s) {
    yyjson_val *v = s->config.doc != NULL ? json_get(json_root(&s->config), "model_max_length").value : NULL;
    double n = yyjson_is_num(v) ? yyjson_get_num(v) : 0;
    return n >= 1 && n <= SANE_LENGTH ? (size_t)n : 0;
}
