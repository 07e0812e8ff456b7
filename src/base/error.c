#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Cutting inside a multi-byte character would make the text invalid UTF-8, and with it the JSON that carries it. */
static void cut_at_character(char *text, size_t capacity) {
    size_t n = strlen(text);
    if (n + 1 < capacity) return;
    size_t i = n;
    while (i > 0 && ((unsigned char)text[i - 1] & 0xC0) == 0x80) i--;
    if (i > 0 && (unsigned char)text[i - 1] >= 0xC0) {
        unsigned char lead = (unsigned char)text[i - 1];
        size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
        if (n - (i - 1) < need) text[i - 1] = '\0';
    }
}

/* Texts quote what files, their names and requests hold, which may be any bytes; a line break among them would forge a line of the log. */
static void mend(char *text, size_t capacity) {
    cut_at_character(text, capacity);
    for (size_t size = strlen(text), at = 0; at < size;) {
        size_t start = at;
        int32_t c = utf8_next(text, size, &at);
        if (c < 0x20 || c == 0x7F) text[start] = '?';
    }
}

static void fill(error *e, error_code code, const char *field, const char *format, va_list args) {
    e->code = code;
    snprintf(e->field, sizeof e->field, "%s", field);
    vsnprintf(e->text, sizeof e->text, format, args);
    mend(e->text, sizeof e->text);
}

bool error_set(error *e, error_code code, const char *format, ...) {
    if (e == NULL) return false;
    va_list args;
    va_start(args, format);
    fill(e, code, "", format, args);
    va_end(args);
    return false;
}

bool error_field(error *e, error_code code, const char *field, const char *format, ...) {
    if (e == NULL) return false;
    va_list args;
    va_start(args, format);
    fill(e, code, field, format, args);
    va_end(args);
    return false;
}

bool error_prefix(error *e, const char *format, ...) {
    if (e == NULL) return false;
    char old[ERROR_TEXT_BYTES];
    memcpy(old, e->text, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof e->text) snprintf(e->text + n, sizeof e->text - (size_t)n, "%s", old);
    mend(e->text, sizeof e->text);
    return false;
}

bool error_no_memory(error *e, const char *what, unsigned long long bytes) {
    return error_set(e, ERROR_OUT_OF_MEMORY, "not enough main memory for %s (%llu bytes)", what, bytes);
}

bool error_system(error *e, const char *action, const char *path) {
    int number = errno;
    error_code code = number == ENOSPC || number == EDQUOT ? ERROR_DISK_FULL : number == ENOENT ? ERROR_NOT_FOUND : ERROR_IO;
    return error_set(e, code, "cannot %s %s: %s", action, path, strerror(number));
}

const char *error_code_name(error_code code) {
    switch (code) {
    case ERROR_NONE: return "none";
    case ERROR_INVALID: return "invalid";
    case ERROR_NOT_FOUND: return "not_found";
    case ERROR_BAD_FILE: return "bad_file";
    case ERROR_UNSUPPORTED: return "unsupported";
    case ERROR_TOO_LARGE: return "too_large";
    case ERROR_OUT_OF_MEMORY: return "out_of_memory";
    case ERROR_DEVICE: return "device";
    case ERROR_IO: return "io";
    case ERROR_DISK_FULL: return "disk_full";
    case ERROR_BUSY: return "busy";
    case ERROR_CANCELLED: return "cancelled";
    case ERROR_TIMEOUT: return "timeout";
    case ERROR_UNAUTHORIZED: return "unauthorized";
    case ERROR_FORBIDDEN: return "forbidden";
    case ERROR_INTERNAL: return "internal";
    }
    return "unknown";
}
