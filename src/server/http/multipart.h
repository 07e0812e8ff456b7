/* The parts of a multipart/form-data body (RFC 7578, RFC 2046 §5.1.1) that is whole in memory: nothing is copied and nothing allocated.
 *
 *     multipart m;
 *     multipart_part part;
 *     if (!multipart_open(content_type, body, size, &m, e)) …
 *     while (multipart_next(&m, &part)) …
 *     if (!multipart_complete(&m, e)) …       the body broke off, or is none
 */
#ifndef IMAGINED_SERVER_HTTP_MULTIPART_H
#define IMAGINED_SERVER_HTTP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum {
    MULTIPART_BOUNDARY_BYTES = 71, /* 70 characters at most, and a NUL */
    MULTIPART_NAME_BYTES = 128,
    MULTIPART_PARTS_MAX = 64,
    MULTIPART_HEAD_MAX_BYTES = 4096, /* of one part's headers */
};

typedef struct multipart_part {
    char name[MULTIPART_NAME_BYTES];      /* of the form's field; cut where it is longer */
    char file_name[MULTIPART_NAME_BYTES]; /* as the client said, cut; never to be used as a path. "": none */
    bool is_file;                         /* it has a file name, be it "" */
    const char *bytes; /* borrowed from the body */
    size_t size;
} multipart_part;

typedef struct multipart {
    char delimiter[MULTIPART_BOUNDARY_BYTES + 4]; /* CR LF -- boundary */
    const char *body;
    size_t size, at;
    int parts;
    bool ended;       /* the closing boundary was met */
    const char *fault; /* NULL: none so far */
} multipart;

/* Whether this Content-Type (NULL: none) is multipart/form-data at all. */
bool multipart_is(const char *content_type);
/* Takes the boundary from it. The body is borrowed. ERROR_INVALID. */
bool multipart_open(const char *content_type, const char *body, size_t size, multipart *out, error *e);
/* The next part; false after the last and at a fault. */
bool multipart_next(multipart *m, multipart_part *out);
/* Whether all was read without a fault. ERROR_INVALID says what was wrong. */
bool multipart_complete(const multipart *m, error *e);

#endif
