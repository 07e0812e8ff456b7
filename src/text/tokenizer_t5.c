/* Loading T5's tokenizer: tokenizer.json, or spiece.model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/spiece.h"
#include "text/tokenizer_parts.h"

enum { FILE_CAP = 64 * 1024 * 1024, PATH_BYTES = 4096, UNKNOWN = 2, MAX_EXTRA = 1000, DEFAULT_EXTRA = 100 };

/* --- tokenizer.json --- */

static bool load_pieces(json root, tokenizer *t, error *e) {
    json model = {0}, vocab = {0};
    if (!json_require(root, "model", e) || !json_object(root, "model", &model, e) || !json_require(model, "vocab", e) ||
        !json_array(model, "vocab", &vocab, e))
        return false;
    if (!unigram_init(&t->unigram, yyjson_arr_size(vocab.value), UNKNOWN, e)) return error_prefix(e, "%s: ", root.source);
    yyjson_arr_iter i = yyjson_arr_iter_with(vocab.value);
    for (yyjson_val *entry; (entry = yyjson_arr_iter_next(&i)) != NULL;) {
        yyjson_val *piece = yyjson_arr_get(entry, 0), *score = yyjson_arr_get(entry, 1);
        if (!yyjson_is_str(piece) || !yyjson_is_num(score))
            return error_set(e, ERROR_BAD_FILE, "%s: each entry of 'vocab' must be a piece and its score (a Unigram model)", root.source);
        if (!unigram_add(&t->unigram, yyjson_get_str(piece), yyjson_get_len(piece), yyjson_get_num(score), root.source, e)) return false;
    }
    return true;
}

/* Of the normaliser only a Precompiled charsmap counts, alone or in a Sequence: the reference's T5 class keeps nothing else. */
static bool load_normalizer(json root, tokenizer *t, error *e) {
    json normalizer = {0}, list = {0};
    const char *type = NULL, *map = NULL;
    if (!json_object(root, "normalizer", &normalizer, e) || !json_text(normalizer, "type", 64, &type, e)) return false;
    if (type != NULL && strcmp(type, "Sequence") == 0) {
        if (!json_array(normalizer, "normalizers", &list, e)) return false;
        yyjson_arr_iter i = yyjson_arr_iter_with(list.value);
        for (yyjson_val *v; (v = yyjson_arr_iter_next(&i)) != NULL;) {
            normalizer.value = v;
            type = yyjson_get_str(yyjson_obj_get(v, "type"));
            if (type != NULL && strcmp(type, "Precompiled") == 0) break;
        }
    }
    if (type == NULL || strcmp(type, "Precompiled") != 0) return true;
    if (!json_text(normalizer, "precompiled_charsmap", FILE_CAP, &map, e)) return false;
    return map == NULL || charsmap_init_base64(&t->charsmap, map, root.source, e);
}

static bool add_tokens(tokenizer *t, const tokenizer_settings *s, json added, int64_t extra, error *e) {
    return tokenizer_add_tokens(t, s, added, &(token_fallbacks){.end = "</s>", .unknown = "<unk>", .pad = "<pad>"}, (size_t)extra, e);
}

static bool load_json(const char *path, int64_t extra, const tokenizer_settings *s, tokenizer *t, error *e) {
    json_document d;
    json added = {0};
    bool ok = json_load(path, FILE_CAP, &d, e) && load_pieces(json_root(&d), t, e) && load_normalizer(json_root(&d), t, e) &&
              json_array(json_root(&d), "added_tokens", &added, e);
    t->vocabulary = (int32_t)t->unigram.count;
    ok = ok && add_tokens(t, s, added, extra, e);
    json_document_free(&d);
    return ok;
}

/* --- spiece.model --- */

typedef struct spiece_loading {
    tokenizer *t;
    const char *path;
    size_t pieces; /* counted on the first reading */
} spiece_loading;

static bool count_piece(void *context, const char *text, size_t size, float score, spiece_type type, error *e) {
    (void)text, (void)size, (void)score, (void)type, (void)e;
    ((spiece_loading *)context)->pieces++;
    return true;
}

static bool skip_charsmap(void *context, const void *bytes, size_t size, error *e) {
    (void)context, (void)bytes, (void)size, (void)e;
    return true;
}

static bool take_piece(void *context, const char *text, size_t size, float score, spiece_type type, error *e) {
    const spiece_loading *l = context;
    int32_t id = (int32_t)l->t->unigram.count;
    if ((type == SPIECE_CONTROL || type == SPIECE_USER_DEFINED) &&
        !added_tokens_add(&l->t->added, &(added_token){.text = text, .size = size, .id = id}, e))
        return false;
    return unigram_add(&l->t->unigram, text, size, (double)score, l->path, e);
}

static bool take_charsmap(void *context, const void *bytes, size_t size, error *e) {
    const spiece_loading *l = context;
    charsmap_free(&l->t->charsmap);
    return charsmap_init(&l->t->charsmap, bytes, size, l->path, e);
}

/* The file has no <extra_id_N>: they follow its pieces, the last one first, with score 0. */
static bool append_extra_pieces(tokenizer *t, int64_t extra, const char *path, error *e) {
    for (int64_t i = extra - 1; i >= 0; i--) {
        char name[32];
        int n = snprintf(name, sizeof name, "<extra_id_%d>", (int)i);
        if (!unigram_add(&t->unigram, name, (size_t)n, 0, path, e)) return false;
    }
    return true;
}

static bool load_spiece(const char *path, int64_t extra, const tokenizer_settings *s, tokenizer *t, error *e) {
    buffer bytes = {0};
    spiece_loading l = {t, path, 0};
    const spiece_visitor count = {&l, count_piece, skip_charsmap}, take = {&l, take_piece, take_charsmap};
    bool ok = file_read(path, FILE_CAP, &bytes, e) && spiece_read(buffer_text(&bytes), bytes.size, path, &count, e);
    if (ok && !unigram_init(&t->unigram, l.pieces + (l.pieces > 0 ? (size_t)extra : 0), UNKNOWN, e)) ok = error_prefix(e, "%s: ", path);
    ok = ok && spiece_read(buffer_text(&bytes), bytes.size, path, &take, e) && append_extra_pieces(t, extra, path, e);
    buffer_free(&bytes);
    t->vocabulary = (int32_t)t->unigram.count;
    return ok && add_tokens(t, s, (json){0}, extra, e);
}

/* --- both --- */

static bool find_special(const tokenizer_settings *s, const char *folder, const char *name, const char *fallback, const tokenizer *t,
                         int32_t *id, error *e) {
    token_description d;
    tokenizer_settings_special(s, name, fallback, &d);
    *id = vocabulary_find(&t->unigram.pieces, d.text, d.size);
    return *id >= 0 || error_set(e, ERROR_BAD_FILE, "%s: the vocabulary lacks the %s '%.64s'", folder, name, d.text);
}

static bool load(const char *folder, tokenizer *t, tokenizer_settings *s, error *e) {
    char whole[PATH_BYTES], model[PATH_BYTES];
    int32_t unknown;
    int64_t extra = DEFAULT_EXTRA;
    if (!tokenizer_settings_load(folder, s, e) || !file_join(whole, sizeof whole, folder, "tokenizer.json", e) ||
        !file_join(model, sizeof model, folder, "spiece.model", e))
        return false;
    if (s->config.doc != NULL && !json_int(json_root(&s->config), "extra_ids", 0, MAX_EXTRA, &extra, e)) return false;
    if (file_exists(whole)) {
        if (!load_json(whole, extra, s, t, e)) return false;
    } else {
        if (!file_exists(model))
            return error_set(e, ERROR_NOT_FOUND, "%s holds no tokenizer: it needs tokenizer.json or spiece.model", folder);
        if (!load_spiece(model, extra, s, t, e)) return false;
    }
    if (t->unigram.count <= UNKNOWN)
        return error_set(e, ERROR_BAD_FILE, "%s: the vocabulary has no unknown token (id %d)", folder, UNKNOWN);
    t->max_length = tokenizer_settings_max_length(s);
    return find_special(s, folder, "pad_token", "<pad>", t, &t->pad, e) && find_special(s, folder, "eos_token", "</s>", t, &t->end, e) &&
           find_special(s, folder, "unk_token", "<unk>", t, &unknown, e);
}

bool tokenizer_load_t5(const char *folder, tokenizer **out, error *e) {
    tokenizer_settings s = {0};
    tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a tokenizer", sizeof *t);
    t->kind = TOKENIZER_T5;
    bool ok = load(folder, t, &s, e);
    tokenizer_settings_free(&s);
    if (ok) *out = t;
    else tokenizer_free(t);
    return ok;
}
