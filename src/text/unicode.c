#include "text/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/unicode_newer.h"

bool unicode_is_letter(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || unicode_newer_is_letter(c);
}

bool unicode_is_number(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || unicode_newer_is_number(c);
}

bool unicode_is_word(int32_t c) {
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    case UTF8PROC_CATEGORY_SO: /* letters in circles and squares */
        return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
               (c >= 0x1F170 && c <= 0x1F189);
    default: return c == 0x200C || c == 0x200D || unicode_is_letter(c) || unicode_newer_is_number(c);
    }
}

bool unicode_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_ascii(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] >= 0x80) return false;
    return true;
}

static bool compose(const char *text, size_t size, buffer *out) {
    if (is_ascii(text, size)) { /* composed already; also spares the library an empty text */
        buffer_append(out, text, size);
        return buffer_ok(out);
    }
    /* In two steps of the library, as its one call would take the memory by itself. */
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t count = utf8proc_decompose(bytes, (utf8proc_ssize_t)size, NULL, 0, options);
    if (count < 0) return false;
    utf8proc_int32_t *characters = malloc((size_t)count * sizeof *characters + 1); /* reencode writes UTF-8 and a NUL in their place */
    if (characters == NULL) return false;
    count = utf8proc_decompose(bytes, (utf8proc_ssize_t)size, characters, count, options);
    if (count >= 0) count = utf8proc_reencode(characters, count, options);
    if (count >= 0) buffer_append(out, characters, (size_t)count);
    free(characters);
    return count >= 0 && buffer_ok(out);
}

/* No reordering or composing crosses a starter that never composes, so the text between two of them can be taken by itself. */
bool unicode_nfc(const char *text, size_t size, buffer *out) {
    size_t from = 0;
    for (size_t at = 0; at < size;) {
        size_t start = at;
        if (!unicode_newer_stands_alone(utf8_next(text, size, &at))) continue;
        if (!compose(text + from, start - from, out)) return false;
        buffer_append(out, text + start, at - start);
        from = at;
    }
    return compose(text + from, size - from, out);
}

bool unicode_lower(const char *text, size_t size, buffer *out) {
    for (size_t at = 0; at < size;) {
        int32_t c = utf8_next(text, size, &at);
        char bytes[4];
        if (c == 0x130) { /* İ is the one character whose lower case is two: i and a dot above */
            buffer_append_text(out, "i\xCC\x87");
            continue;
        }
        int32_t small = utf8proc_tolower(c);
        if (small == c) small = unicode_newer_lower(c);
        buffer_append(out, bytes, utf8_encode((uint32_t)small, bytes));
    }
    return buffer_ok(out);
}

size_t unicode_grapheme_end(const char *text, size_t size, size_t from) {
    size_t at = from;
    utf8proc_int32_t state = 0;
    int32_t last = utf8_next(text, size, &at);
    while (at < size) {
        size_t after = at;
        int32_t next = utf8_next(text, size, &after);
        if (utf8proc_grapheme_break_stateful(last, next, &state)) break;
        last = next;
        at = after;
    }
    return at;
}
