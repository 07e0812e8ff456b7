#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

bool buffer_ok(const buffer *b) { return !b->failed; }

const char *buffer_text(const buffer *b) { return b->data != NULL ? b->data : ""; }

char *buffer_reserve(buffer *b, size_t more) {
    size_t need;
    if (b->failed) return NULL;
    if (!checked_add(b->size, more, &need) || !checked_add(need, 1, &need)) {
        b->failed = true;
        return NULL;
    }
    if (need > b->capacity) {
        size_t capacity = b->capacity < 64 ? 64 : b->capacity;
        while (capacity < need)
            if (!checked_mul(capacity, 2, &capacity)) capacity = need;
        char *data = realloc(b->data, capacity);
        if (data == NULL) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->capacity = capacity;
        b->data[b->size] = '\0';
    }
    return b->data + b->size;
}

void buffer_append(buffer *b, const void *bytes, size_t count) {
    char *end = buffer_reserve(b, count);
    if (end == NULL || count == 0) return;
    memcpy(end, bytes, count);
    b->size += count;
    b->data[b->size] = '\0';
}

void buffer_append_text(buffer *b, const char *text) { buffer_append(b, text, strlen(text)); }

void buffer_append_byte(buffer *b, char byte) { buffer_append(b, &byte, 1); }

void buffer_printf(buffer *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *end = n < 0 ? NULL : buffer_reserve(b, (size_t)n);
    if (end != NULL) {
        vsnprintf(end, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
}

void buffer_clear(buffer *b) {
    b->size = 0;
    if (b->data != NULL) b->data[0] = '\0';
    b->failed = false;
}

void buffer_free(buffer *b) {
    free(b->data);
    *b = (buffer){0};
}
