#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/bpe.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

void tokenizer_free(tokenizer *t) {
    if (t == NULL) return;
    bpe_free(&t->bpe);
    unigram_free(&t->unigram);
    charsmap_free(&t->charsmap);
    added_tokens_free(&t->added);
    free(t);
}

size_t tokenizer_vocabulary(const tokenizer *t) { return (size_t)t->vocabulary; }
size_t tokenizer_max_length(const tokenizer *t) { return t->max_length; }

/* NFC, each run of white space one space, lower case. */
static bool clip_normalize(const char *text, size_t size, buffer *out) {
    buffer composed = {0}, spaced = {0};
    bool ok = unicode_nfc(text, size, &composed), in_space = false;
    for (size_t at = 0; ok && at < composed.size;) {
        size_t start = at;
        bool space = unicode_is_space(utf8_next(composed.data, composed.size, &at));
        if (!space) buffer_append(&spaced, composed.data + start, at - start);
        else if (!in_space) buffer_append_byte(&spaced, ' ');
        in_space = space;
    }
    ok = ok && buffer_ok(&spaced) && unicode_lower(buffer_text(&spaced), spaced.size, out);
    buffer_free(&composed);
    buffer_free(&spaced);
    return ok;
}

bool tokenizer_normalize(const tokenizer *t, const char *text, size_t size, buffer *out) {
    return t->kind == TOKENIZER_CLIP ? clip_normalize(text, size, out) : charsmap_apply(&t->charsmap, text, size, out);
}

/* Each word (a run without white space) begins with "▁", and is cut before each further "▁". */
static bool t5_words(const tokenizer *t, const char *text, size_t size, buffer *word, id_list *ids) {
    static const char mark[] = "\xE2\x96\x81";
    for (size_t at = 0; at < size;) {
        size_t end = at, next = at;
        if (unicode_is_space(utf8_next(text, size, &next))) {
            at = next;
            continue;
        }
        while (end < size) {
            next = end;
            if (unicode_is_space(utf8_next(text, size, &next))) break;
            end = next;
        }
        while (at < end) {
            size_t stop = at + 1;
            while (stop < end && !(end - stop >= 3 && memcmp(text + stop, mark, 3) == 0)) stop++;
            buffer_clear(word);
            if (!(end - at >= 3 && memcmp(text + at, mark, 3) == 0)) buffer_append_text(word, mark);
            buffer_append(word, text + at, stop - at);
            if (!buffer_ok(word) || !unigram_encode(&t->unigram, word->data, word->size, ids)) return false;
            at = stop;
        }
    }
    return true;
}

static bool encode_normal(const tokenizer *t, const char *text, size_t size, id_list *ids) {
    if (t->kind == TOKENIZER_CLIP) return bpe_encode(&t->bpe, text, size, ids);
    buffer word = {0};
    bool ok = t5_words(t, text, size, &word, ids);
    buffer_free(&word);
    return ok;
}

/* Encodes what lies between added tokens: of the raw text first, then, in what is left, of the normalised text. */
static bool encode_between(const tokenizer *t, bool normalized, const char *text, size_t size, id_list *ids);

static bool encode_raw(const tokenizer *t, const char *text, size_t size, id_list *ids) {
    buffer normal = {0};
    bool ok = tokenizer_normalize(t, text, size, &normal) && encode_between(t, true, buffer_text(&normal), normal.size, ids);
    buffer_free(&normal);
    return ok;
}

static bool encode_between(const tokenizer *t, bool normalized, const char *text, size_t size, id_list *ids) {
    bool (*encode)(const tokenizer *, const char *, size_t, id_list *) = normalized ? encode_normal : encode_raw;
    size_t at = 0, start, end;
    for (const added_token *a; (a = added_tokens_find(&t->added, normalized, text, size, at, &start, &end)) != NULL; at = end)
        if ((start > at && !encode(t, text + at, start - at, ids)) || !id_list_add(ids, a->id)) return false;
    return at == size || encode(t, text + at, size - at, ids);
}

bool tokenizer_encode(const tokenizer *t, const char *text, size_t size, size_t length, int32_t *ids, size_t *used, error *e) {
    size_t bad, n = 0, specials = t->kind == TOKENIZER_CLIP ? 2 : 1;
    id_list all = {0};
    if (length < specials) return error_set(e, ERROR_INVALID, "a prompt is encoded to at least %zu tokens, not %zu", specials, length);
    if (!utf8_valid(text, size, &bad)) return error_field(e, ERROR_INVALID, "prompt", "the prompt is not valid UTF-8 at byte %zu", bad);
    bool ok = encode_between(t, false, text, size, &all);
    if (ok) {
        size_t kept = all.count < length - specials ? all.count : length - specials;
        if (t->kind == TOKENIZER_CLIP) ids[n++] = t->start;
        for (size_t i = 0; i < kept; i++) ids[n++] = all.ids[i];
        ids[n++] = t->end;
        if (used != NULL) *used = n;
        while (n < length) ids[n++] = t->pad;
    }
    id_list_free(&all);
    return ok || error_no_memory(e, "reading the prompt", size);
}
