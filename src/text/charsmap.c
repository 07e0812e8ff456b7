#include "text/charsmap.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

enum { WHOLE_GRAPHEME_BYTES = 6 }; /* graphemes below this are looked up whole */

bool charsmap_init(charsmap *m, const void *bytes, size_t size, const char *source, error *e) {
    const unsigned char *p = bytes;
    *m = (charsmap){0};
    if (size == 0) return true;
    size_t trie = size < 4 ? 0 : (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (size < 8 || trie < 4 || trie % 4 != 0 || trie > size - 4)
        return error_set(e, ERROR_BAD_FILE, "%s: the precompiled charsmap is damaged (its trie is %zu of %zu bytes)", source, trie, size);
    m->unit_count = trie / 4;
    m->replacements_size = size - 4 - trie;
    m->units = malloc(trie);
    m->replacements = malloc(m->replacements_size + 1);
    if (m->units == NULL || m->replacements == NULL) {
        charsmap_free(m);
        return error_no_memory(e, "the tokenizer's charsmap", size);
    }
    for (size_t i = 0; i < m->unit_count; i++) {
        const unsigned char *u = p + 4 + 4 * i;
        m->units[i] = (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    }
    memcpy(m->replacements, p + 4 + trie, m->replacements_size);
    m->replacements[m->replacements_size] = '\0';
    return true;
}

void charsmap_free(charsmap *m) {
    free(m->units);
    free(m->replacements);
    *m = (charsmap){0};
}

static int sextet(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool charsmap_init_base64(charsmap *m, const char *text, const char *source, error *e) {
    buffer bytes = {0};
    uint32_t bits = 0;
    int count = 0;
    *m = (charsmap){0};
    size_t size = strlen(text);
    while (size > 0 && text[size - 1] == '=') size--;
    for (size_t i = 0; i < size; i++) {
        int value = sextet(text[i]);
        if (value < 0) {
            buffer_free(&bytes);
            return error_set(e, ERROR_BAD_FILE, "%s: the precompiled charsmap is not valid base64 at character %zu", source, i);
        }
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) buffer_append_byte(&bytes, (char)(bits >> (count -= 8)));
    }
    bool ok = buffer_ok(&bytes) ? charsmap_init(m, buffer_text(&bytes), bytes.size, source, e)
                                : error_no_memory(e, "the tokenizer's charsmap", size);
    buffer_free(&bytes);
    return ok;
}

/* Units of darts-clone. */
static uint32_t label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
static uint32_t value(uint32_t unit) { return unit & ~(1u << 31); }
static bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
static uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

/* What the shortest prefix of the key that has a rule is replaced with, or NULL. The reference takes the first result of the common prefix
 * search for the whole key, so a rule of a prefix replaces all of it. */
static const char *find(const charsmap *m, const char *key, size_t size) {
    size_t node = offset(m->units[0]);
    for (size_t i = 0; i < size && key[i] != '\0'; i++) {
        node ^= (unsigned char)key[i];
        if (node >= m->unit_count || label(m->units[node]) != (unsigned char)key[i]) return NULL;
        uint32_t unit = m->units[node];
        node ^= offset(unit);
        if (node >= m->unit_count) return NULL;
        if (has_leaf(unit)) {
            size_t at = value(m->units[node]);
            return at <= m->replacements_size ? m->replacements + at : NULL;
        }
    }
    return NULL;
}

bool charsmap_apply(const charsmap *m, const char *text, size_t size, buffer *out) {
    if (m->units == NULL) {
        buffer_append(out, text, size);
        return buffer_ok(out);
    }
    for (size_t at = 0; at < size;) {
        size_t end = unicode_grapheme_end(text, size, at);
        const char *whole = end - at < WHOLE_GRAPHEME_BYTES ? find(m, text + at, end - at) : NULL;
        if (whole != NULL) {
            buffer_append_text(out, whole);
            at = end;
            continue;
        }
        while (at < end) {
            size_t start = at;
            utf8_next(text, end, &at);
            const char *one = find(m, text + start, at - start);
            if (one != NULL) buffer_append_text(out, one);
            else buffer_append(out, text + start, at - start);
        }
    }
    return buffer_ok(out);
}
