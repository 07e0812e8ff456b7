#include "base/base64.h"

#include <string.h>
#include <strings.h>

enum { NO_DIGIT = 0x80, BLANK = 0x40, PAD = 0x41 }; /* what a character is besides a digit, whose value is below 64 */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const uint8_t *in, size_t size, char *out) {
    for (size_t i = 0; i < size; i += 3, out += 4) {
        size_t have = size - i;
        uint32_t bits = (uint32_t)in[i] << 16 | (have > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (have > 2 ? in[i + 2] : 0);
        out[0] = digits[bits >> 18];
        out[1] = digits[bits >> 12 & 63];
        out[2] = have > 1 ? digits[bits >> 6 & 63] : '=';
        out[3] = have > 2 ? digits[bits & 63] : '=';
    }
}

static void fill_table(uint8_t table[256]) {
    memset(table, NO_DIGIT, 256);
    for (uint8_t i = 0; i < 64; i++) table[(uint8_t)digits[i]] = i;
    table[' '] = table['\t'] = table['\r'] = table['\n'] = BLANK;
    table['='] = PAD;
}

/* Groups of four digits with nothing between them, from *at on; the bytes go to `to`. Returns how many bytes. */
static size_t decode_groups(const uint8_t table[256], const uint8_t *in, size_t size, size_t *at, uint8_t *to) {
    size_t i = *at, n = 0;
    for (; size - i >= 4; i += 4, n += 3) {
        uint32_t a = table[in[i]], b = table[in[i + 1]], c = table[in[i + 2]], d = table[in[i + 3]];
        if (((a | b | c | d) & (NO_DIGIT | BLANK)) != 0) break;
        uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        to[n] = (uint8_t)(bits >> 16);
        to[n + 1] = (uint8_t)(bits >> 8);
        to[n + 2] = (uint8_t)bits;
    }
    *at = i;
    return n;
}

/* The bytes of a last group of fewer than four digits: 0, 1 or 2. False: they stand for no whole bytes. */
static bool decode_rest(uint32_t bits, int held, uint8_t *to, size_t *n) {
    if (held == 1 || (held == 2 && (bits & 15) != 0) || (held == 3 && (bits & 3) != 0)) return false;
    if (held >= 2) to[(*n)++] = (uint8_t)(bits >> (held == 2 ? 4 : 10));
    if (held == 3) to[(*n)++] = (uint8_t)(bits >> 2);
    return true;
}

bool base64_decode(const char *text, size_t size, uint8_t *out, size_t *count, error *e) {
    uint8_t table[256];
    const uint8_t *in = (const uint8_t *)text;
    uint32_t bits = 0;
    size_t n = 0;
    int held = 0, pads = 0; /* digits of the group at hand; '=' seen */
    fill_table(table);
    for (size_t i = 0; i < size;) {
        if (held == 0 && pads == 0) n += decode_groups(table, in, size, &i, out + n);
        if (i == size) break;
        uint8_t value = table[in[i]];
        if (value == NO_DIGIT || (value < 64 && pads > 0))
            return error_set(e, ERROR_INVALID, "this is not base 64: character %zu of %zu does not belong there", i + 1, size);
        i++;
        if (value == PAD) pads++;
        if (value >= 64) continue;
        bits = bits << 6 | value;
        if (++held < 4) continue;
        out[n++] = (uint8_t)(bits >> 16);
        out[n++] = (uint8_t)(bits >> 8);
        out[n++] = (uint8_t)bits;
        bits = 0;
        held = 0;
    }
    bool padded = pads == 0 || (held >= 2 && held + pads == 4);
    if (!padded || !decode_rest(bits, held, out, &n))
        return error_set(e, ERROR_INVALID, "this is not base 64: it does not end as base 64 does; it may be cut short");
    *count = n;
    return true;
}

bool base64_append(const char *text, size_t size, buffer *out, error *e) {
    char *to = buffer_reserve(out, BASE64_BYTES(size));
    size_t n = 0;
    if (to == NULL) return error_no_memory(e, "what is sent in base 64", BASE64_BYTES(size));
    bool ok = base64_decode(text, size, (uint8_t *)to, &n, e);
    out->size += ok ? n : 0;
    out->data[out->size] = '\0';
    return ok;
}

bool base64_data_url(const char *text, size_t size, size_t *at, error *e) {
    static const char mark[] = ";base64";
    const size_t mark_size = sizeof mark - 1;
    *at = 0;
    if (size < 5 || strncasecmp(text, "data:", 5) != 0) return true;
    const char *comma = memchr(text, ',', size);
    size_t head = comma != NULL ? (size_t)(comma - text) : 0;
    if (head < 5 + mark_size || strncasecmp(comma - mark_size, mark, mark_size) != 0)
        return error_set(e, ERROR_INVALID, "a data: URL must be in base 64, as data:image/png;base64,… is");
    *at = head + 1;
    return true;
}
