#include "server/auth_header.h"

#include <string.h>
#include <strings.h>

/* The six bits of a digit of base 64; −1: it is none. */
static int digit_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Whole bytes of base 64 with or without its padding, as text; a NUL among them is no text. */
static bool decode(const char *from, size_t size, char *out, size_t capacity) {
    for (int i = 0; i < 2 && size > 0 && (size + (size_t)i) % 4 == 0 && from[size - 1] == '='; i++) size--;
    size_t n = 0;
    unsigned bits = 0;
    if (size % 4 == 1) return false;
    for (size_t i = 0; i < size; i++) {
        int value = digit_value(from[i]);
        if (value < 0) return false;
        bits = bits << 6 | (unsigned)value;
        if (i % 4 == 0) continue;
        char byte = (char)(bits >> (6 - 2 * (i % 4)) & 0xFF);
        if (byte == '\0' || n + 1 >= capacity) return false;
        out[n++] = byte;
    }
    out[n] = '\0';
    return true;
}

/* What stands after the scheme, without the blanks around it; NULL where it is another scheme. */
static const char *after_scheme(const char *text, const char *scheme, size_t *size) {
    size_t n = strlen(scheme);
    if (strncasecmp(text, scheme, n) != 0 || (text[n] != ' ' && text[n] != '\t')) return NULL;
    text += n + strspn(text + n, " \t");
    *size = strlen(text);
    while (*size > 0 && (text[*size - 1] == ' ' || text[*size - 1] == '\t')) (*size)--;
    return text;
}

bool auth_header_key(const char *authorization, char key[AUTH_KEY_BYTES]) {
    key[0] = '\0';
    if (authorization == NULL) return false;
    authorization += strspn(authorization, " \t");
    size_t size;
    const char *found = after_scheme(authorization, "bearer", &size);
    if (found != NULL) {
        if (size == 0 || size >= AUTH_KEY_BYTES) return false;
        memcpy(key, found, size);
        key[size] = '\0';
        return true;
    }
    char pair[2 * AUTH_KEY_BYTES];
    found = after_scheme(authorization, "basic", &size);
    if (found == NULL || !decode(found, size, pair, sizeof pair)) return false;
    const char *colon = strchr(pair, ':');
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) >= AUTH_KEY_BYTES) return false;
    strcpy(key, colon + 1);
    return true;
}
