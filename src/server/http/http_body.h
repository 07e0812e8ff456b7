/* An answer's body as a run of parts: text, files, files in base64. Its size is known before anything is read, and it is read in pieces, so
 * that an answer of many megabytes costs no memory. A zeroed body is empty. */
#ifndef IMAGINED_SERVER_HTTP_HTTP_BODY_H
#define IMAGINED_SERVER_HTTP_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

typedef struct http_body_part {
    buffer text; /* of a part in memory */
    int file;    /* of a file part; −1 for memory */
    bool base64;
    uint64_t raw_size; /* bytes there are */
    uint64_t size;     /* bytes this part gives */
} http_body_part;

typedef struct http_body {
    http_body_part *parts;
    size_t count, capacity;
    uint64_t size;  /* of all parts */
    size_t reading; /* the part being read, and how far */
    uint64_t position;
} http_body;

/* Takes the buffer's memory: *text is empty afterwards, whatever happens. */
bool http_body_add(http_body *b, buffer *text, error *e);
bool http_body_add_text(http_body *b, const char *text, error *e); /* copies */
/* As http_body_add; the bytes are given as base64, padded, made while they are read. */
bool http_body_add_base64(http_body *b, buffer *bytes, error *e);
/* Opens the file now, so that its size holds even if its name vanishes later. ERROR_NOT_FOUND, … */
bool http_body_add_file(http_body *b, const char *path, bool base64, error *e);
/* The next bytes, at most `capacity` (≥ 4); 0 at the end. False when a file cannot be read or shrank. */
bool http_body_read(http_body *b, void *out, size_t capacity, size_t *got, error *e);
void http_body_free(http_body *b); /* the body is empty afterwards */

#endif
