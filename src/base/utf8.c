#include "base/utf8.h"

int32_t utf8_next(const char *text, size_t size, size_t *at) {
    const unsigned char *p = (const unsigned char *)text + *at;
    size_t left = size - *at;
    unsigned char lead = p[0];
    *at += 1;
    if (lead < 0x80) return lead;
    size_t count = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    static const int32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (lead < 0xC2 || lead > 0xF4 || left < count) return -1;
    int32_t c = lead & (0x7F >> count);
    for (size_t i = 1; i < count; i++) {
        if ((p[i] & 0xC0) != 0x80) return -1;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (c < smallest[count] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return -1;
    *at += count - 1;
    return c;
}

size_t utf8_encode(uint32_t c, char out[4]) {
    unsigned char *o = (unsigned char *)out;
    if (c < 0x80) {
        o[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        o[0] = (unsigned char)(0xC0 | c >> 6);
        o[1] = (unsigned char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        o[0] = (unsigned char)(0xE0 | c >> 12);
        o[1] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        o[2] = (unsigned char)(0x80 | (c & 0x3F));
        return 3;
    }
    o[0] = (unsigned char)(0xF0 | c >> 18);
    o[1] = (unsigned char)(0x80 | (c >> 12 & 0x3F));
    o[2] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
    o[3] = (unsigned char)(0x80 | (c & 0x3F));
    return 4;
}

bool utf8_valid(const char *text, size_t size, size_t *bad) {
    for (size_t at = 0; at < size;) {
        size_t start = at;
        if (utf8_next(text, size, &at) < 0) {
            if (bad != NULL) *bad = start;
            return false;
        }
    }
    return true;
}
