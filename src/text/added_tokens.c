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

bool added_tokens_add(added_tokens *a, const added_token *t, error *e) {
    if (t->size == 0) return true;
    if (a->count == MAX_ADDED || t->size > MAX_ADDED_BYTES)
        return error_set(e, ERROR_BAD_FILE, "the tokenizer has more than %d added tokens, or one over %d bytes", MAX_ADDED, MAX_ADDED_BYTES);
    for (size_t i = 0; i < a->count; i++)
        if (a->tokens[i].size == t->size && memcmp(a->tokens[i].text, t->text, t->size) == 0) return true;
    if (a->count == a->capacity) {
        size_t capacity = a->capacity == 0 ? 16 : 2 * a->capacity;
        added_token *grown = realloc(a->tokens, capacity * sizeof *grown);
        if (grown == NULL) return error_no_memory(e, "the added tokens", capacity * sizeof *grown);
        a->tokens = grown;
        a->capacity = capacity;
    }
    added_token copy = *t;
    copy.text = arena_text(&a->memory, t->text, t->size);
    if (copy.text == NULL) return error_no_memory(e, "the added tokens", t->size);
    a->tokens[a->count++] = copy;
    a->starts[(unsigned char)t->text[0]] = true;
    return true;
}

static const added_token *longest_at(const added_tokens *a, const char *text, size_t size) {
    const added_token *best = NULL;
    for (size_t i = 0; i < a->count; i++) {
        const added_token *t = &a->tokens[i];
        if (t->size <= size && memcmp(t->text, text, t->size) == 0 && (best == NULL || t->size > best->size)) best = t;
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

const added_token *added_tokens_find(const added_tokens *a, const char *text, size_t size, size_t from, size_t *start, size_t *end) {
    for (size_t at = from; at < size; at++) {
        const added_token *t = a->starts[(unsigned char)text[at]] ? longest_at(a, text + at, size - at) : NULL;
        if (t == NULL) continue;
        *start = t->strip_left ? space_before(text, from, at) : at;
        *end = t->strip_right ? skip_space(text, size, at + t->size) : at + t->size;
        return t;
    }
    return NULL;
}
