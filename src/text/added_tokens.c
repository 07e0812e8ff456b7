#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

enum { MAX_ADDED = 4096, MAX_ADDED_BYTES = 1024 };

void added_tokens_free(added_tokens *a) {
    free(a->tokens);
    arena_free(&a->memory);
    *a = (added_tokens){0};
}

/* What is looked for, in the kind of text it is looked for in. */
static const char *wanted(const added_token *t, size_t *size) {
    *size = t->normal != NULL ? t->normal_size : t->size;
    return t->normal != NULL ? t->normal : t->text;
}

static bool copy_texts(added_token *t, arena *memory) {
    t->text = arena_text(memory, t->text, t->size);
    if (t->text != NULL && t->normal != NULL) {
        t->normal = arena_text(memory, t->normal, t->normal_size);
        return t->normal != NULL;
    }
    return t->text != NULL;
}

const added_token *added_tokens_get(const added_tokens *a, const char *text, size_t size) {
    for (size_t i = 0; i < a->count; i++)
        if (a->tokens[i].size == size && memcmp(a->tokens[i].text, text, size) == 0) return &a->tokens[i];
    return NULL;
}

bool added_tokens_add(added_tokens *a, const added_token *t, error *e) {
    if (t->size == 0 || (t->normal != NULL && t->normal_size == 0)) return true;
    const added_token *known = added_tokens_get(a, t->text, t->size);
    if ((known == NULL && a->count == MAX_ADDED) || t->size > MAX_ADDED_BYTES || (t->normal != NULL && t->normal_size > MAX_ADDED_BYTES))
        return error_set(e, ERROR_BAD_FILE, "the tokenizer has more than %d added tokens, or one over %d bytes", MAX_ADDED,
                         MAX_ADDED_BYTES);
    if (known == NULL && a->count == a->capacity) {
        size_t capacity = a->capacity == 0 ? 16 : 2 * a->capacity;
        added_token *grown = realloc(a->tokens, capacity * sizeof *grown);
        if (grown == NULL) return error_no_memory(e, "the added tokens", capacity * sizeof *grown);
        a->tokens = grown;
        a->capacity = capacity;
    }
    added_token copy = *t;
    if (!copy_texts(&copy, &a->memory)) return error_no_memory(e, "the added tokens", t->size);
    a->tokens[known != NULL ? (size_t)(known - a->tokens) : a->count++] = copy;
    a->starts[t->normal != NULL][(unsigned char)(t->normal != NULL ? t->normal : t->text)[0]] = true;
    return true;
}

static const added_token *longest_at(const added_tokens *a, bool normalized, const char *text, size_t size, size_t *length) {
    const added_token *best = NULL;
    for (size_t i = 0; i < a->count; i++) {
        size_t n;
        const char *token = wanted(&a->tokens[i], &n);
        if ((a->tokens[i].normal != NULL) != normalized || n > size || memcmp(token, text, n) != 0 || (best != NULL && n <= *length))
            continue;
        best = &a->tokens[i];
        *length = n;
    }
    return best;
}

static size_t skip_space(const char *text, size_t size, size_t at) {
    while (at < size) {
        size_t after = at;
        if (!unicode_is_space(utf8_next(text, size, &after))) break;
        at = after;
    }
    return at;
}

/* The start of the white space that ends at `end`, not before `from`. */
static size_t space_before(const char *text, size_t from, size_t end) {
    size_t start = end;
    for (size_t at = from; at < end;) {
        size_t after = at;
        bool space = unicode_is_space(utf8_next(text, end, &after));
        if (!space) start = end;
        else if (start == end) start = at;
        at = after;
    }
    return start;
}

/* Whether no character of a word is just before `start` or just after `end`. */
static bool stands_alone(const char *text, size_t size, size_t start, size_t end) {
    size_t at = end, before = start;
    if (end < size && unicode_is_word(utf8_next(text, size, &at))) return false;
    if (start == 0) return true;
    do before--;
    while (before > 0 && ((unsigned char)text[before] & 0xC0) == 0x80);
    return !unicode_is_word(utf8_next(text, size, &before));
}

const added_token *added_tokens_find(const added_tokens *a, bool normalized, const char *text, size_t size, size_t from, size_t *start,
                                     size_t *end) {
    for (size_t at = from; at < size; at++) {
        size_t length = 0;
        const added_token *t = a->starts[normalized][(unsigned char)text[at]] ? longest_at(a, normalized, text + at, size - at, &length)
                                                                              : NULL;
        if (t == NULL) continue;
        if (t->single_word && !stands_alone(text, size, at, at + length)) {
            at += length - 1;
            continue;
        }
        *start = t->strip_left ? space_before(text, from, at) : at;
        *end = t->strip_right ? skip_space(text, size, at + length) : at + length;
        return t;
    }
    return NULL;
}
