/* Which tokens are found in a prompt's text, from what the files of a tokenizer say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_parts.h"

enum { MAX_LISTED = 4096, MAX_ID = 1 << 22, NAMES = 7 };

static int32_t id_of(const tokenizer *t, const token_description *d) {
    const vocabulary *pieces = t->kind == TOKENIZER_CLIP ? &t->bpe.pieces : &t->unigram.pieces;
    int32_t id = vocabulary_find(pieces, d->text, d->size);
    const added_token *known = id < 0 ? added_tokens_get(&t->added, d->text, d->size) : NULL;
    return known != NULL ? known->id : id;
}

static bool add(tokenizer *t, const token_description *d, bool listed, error *e) {
    added_token token = {.text = d->text, .size = d->size, .id = id_of(t, d)};
    token.strip_left = d->strip_left, token.strip_right = d->strip_right, token.single_word = d->single_word, token.listed = listed;
    if (d->size == 0) return true;
    if (token.id < 0) token.id = t->vocabulary++;
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

/* --- tokens listed with their ids: they are added in the order of those --- */

typedef struct listed_token {
    token_description d;
    uint64_t id;
} listed_token;

static int by_id(const void *a, const void *b) {
    uint64_t x = ((const listed_token *)a)->id, y = ((const listed_token *)b)->id;
    return (x > y) - (x < y);
}

static bool list_token(listed_token *out, yyjson_val *entry, uint64_t id, const char *source, error *e) {
    out->id = id;
    bool special = yyjson_get_bool(yyjson_obj_get(entry, "special"));
    if (yyjson_is_obj(entry) && id < MAX_ID && token_describe(entry, special, &out->d)) return true;
    return error_set(e, ERROR_BAD_FILE, "%s: an added token needs a 'content' and an id below %d", source, MAX_ID);
}

static uint64_t number(const char *text) {
    char *end;
    uint64_t n = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : UINT64_MAX;
    return n != UINT64_MAX && *end == '\0' ? n : UINT64_MAX;
}

static bool read_list(yyjson_val *decoder, json added, const char *config, listed_token *out, error *e) {
    size_t n = 0;
    if (decoder != NULL) {
        yyjson_obj_iter i = yyjson_obj_iter_with(decoder);
        for (yyjson_val *key; (key = yyjson_obj_iter_next(&i)) != NULL; n++)
            if (!list_token(&out[n], yyjson_obj_iter_get_val(key), number(yyjson_get_str(key)), config, e)) return false;
        return true;
    }
    yyjson_arr_iter i = yyjson_arr_iter_with(added.value);
    for (yyjson_val *entry; (entry = yyjson_arr_iter_next(&i)) != NULL; n++) {
        yyjson_val *id = yyjson_obj_get(entry, "id");
        if (!list_token(&out[n], entry, yyjson_is_uint(id) ? yyjson_get_uint(id) : UINT64_MAX, added.source, e)) return false;
    }
    return true;
}

static bool add_listed(tokenizer *t, const tokenizer_settings *s, json added, error *e) {
    yyjson_val *decoder = tokenizer_settings_decoder(s);
    size_t count = decoder != NULL ? yyjson_obj_size(decoder) : yyjson_arr_size(added.value);
    if (count == 0) return true;
    if (count > MAX_LISTED)
        return error_set(e, ERROR_BAD_FILE, "%s: more than %d added tokens", decoder != NULL ? s->config.source : added.source, MAX_LISTED);
    listed_token *list = calloc(count, sizeof *list);
    if (list == NULL) return error_no_memory(e, "the added tokens", count * sizeof *list);
    bool ok = read_list(decoder, added, s->config.source, list, e);
    if (ok) qsort(list, count, sizeof *list, by_id);
    for (size_t i = 0; ok && i < count; i++) ok = add(t, &list[i].d, true, e);
    free(list);
    return ok;
}

/* --- named and extra tokens --- */

static bool same(const token_description *a, const token_description *b) {
    return a->size == b->size && memcmp(a->text, b->text, a->size) == 0 && a->is_text == b->is_text && a->strip_left == b->strip_left &&
           a->strip_right == b->strip_right && a->single_word == b->single_word && a->normalized == b->normalized;
}

/* What a list says of a token stands. */
static bool add_unlisted(tokenizer *t, const token_description *d, error *e) {
    const added_token *known = added_tokens_get(&t->added, d->text, d->size);
    return (known != NULL && known->listed) || add(t, d, false, e);
}

static bool add_named(tokenizer *t, const tokenizer_settings *s, const token_fallbacks *f, error *e) {
    static const char *const names[NAMES] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    const char *const fallbacks[NAMES] = {f->start, f->end, f->unknown, NULL, f->pad, NULL, NULL};
    token_description seen[NAMES];
    size_t count = 0;
    for (size_t i = 0; i < NAMES; i++) {
        bool again = false;
        if (!tokenizer_settings_special(s, names[i], fallbacks[i], &seen[count])) continue;
        for (size_t k = 0; k < count; k++) again |= same(&seen[k], &seen[count]);
        if (!again && !add_unlisted(t, &seen[count++], e)) return false;
    }
    return true;
}

static yyjson_val *list_of(const json_document *file, const char *key) {
    yyjson_val *v = file->doc != NULL ? json_get(json_root(file), key).value : NULL;
    return yyjson_is_arr(v) ? v : NULL;
}

static bool add_each(tokenizer *t, yyjson_val *list, error *e) {
    yyjson_arr_iter i = yyjson_arr_iter_with(list);
    token_description d;
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&i)) != NULL;)
        if (token_describe(v, true, &d) && !add_unlisted(t, &d, e)) return false;
    return true;
}

/* A list in the config, even an empty one, takes the place of all others. */
static bool add_extra(tokenizer *t, const tokenizer_settings *s, size_t extra, error *e) {
    yyjson_val *list = list_of(&s->config, "extra_special_tokens"), *old = list_of(&s->config, "additional_special_tokens");
    if (yyjson_arr_size(list) == 0 && old != NULL) list = old;
    if (list != NULL) return add_each(t, list, e);
    if (tokenizer_settings_decoder(s) == NULL && !add_each(t, list_of(&s->map, "additional_special_tokens"), e)) return false;
    for (size_t i = 0; i < extra; i++) {
        char name[32];
        int n = snprintf(name, sizeof name, "<extra_id_%zu>", i);
        if (!add_unlisted(t, &(token_description){.text = name, .size = (size_t)n, .is_text = true}, e)) return false;
    }
    return true;
}

bool tokenizer_add_tokens(tokenizer *t, const tokenizer_settings *s, json added, const token_fallbacks *fallbacks, size_t extra, error *e) {
    return add_listed(t, s, added, e) && add_named(t, s, fallbacks, e) && add_extra(t, s, extra, e);
}
