/* A growing run of bytes, always followed by a NUL that does not count: text can be read as a C string at any time.
 *
 * Appending never reports each failure: the first failed allocation marks the buffer, later appends do nothing, and the
 * writer asks once at the end (buffer_ok). A zeroed struct is an empty buffer. Not for use from two threads at once. */
#ifndef IMAGINED_BASE_BUFFER_H
#define IMAGINED_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct buffer {
    char *data; /* NULL while empty and never grown */
    size_t size;
    size_t capacity;
    bool failed; /* an allocation failed: what follows is missing */
} buffer;

bool buffer_ok(const buffer *b);
/* The bytes as a C string, "" while empty. Borrowed until the next append. */
const char *buffer_text(const buffer *b);
/* Makes room for `more` bytes after size and returns where they go, or NULL (and marks the buffer). Does not change size. */
char *buffer_reserve(buffer *b, size_t more);
void buffer_append(buffer *b, const void *bytes, size_t count);
void buffer_append_text(buffer *b, const char *text);
void buffer_append_byte(buffer *b, char byte);
void buffer_printf(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_clear(buffer *b); /* size 0, keeps the memory */
void buffer_free(buffer *b);  /* gives the memory back; the buffer is empty and usable */

#endif
