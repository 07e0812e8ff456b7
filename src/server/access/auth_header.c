#include "server/access/auth_header.h"

#include <string.h>
#include <strings.h>

#include "base/base64.h"

/* As text; a NUL among the bytes is none, and blanks may not stand between the digits of a header (RFC 9110's token68). */
static bool decode(const char *from, size_t size, char *out, size_t capacity) {
    size_t n;
    if (BASE64_BYTES(size) >= capacity || memchr(from, ' ', size) != NULL || memchr(from, '\t', size) != NULL) return false;
    if (!base64_decode(from, size, (uint8_t *)out, &n, NULL) || memchr(out, '\0', n) != NULL) return false;
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
    char *colon = strchr(pair, ':');
    if (colon == NULL) return false;
    *colon = '\0';
    const char *given = colon[1] != '\0' ? colon + 1 : pair;
    if (given[0] == '\0' || strlen(given) >= AUTH_KEY_BYTES) return false;
    strcpy(key, given);
    return true;
}
