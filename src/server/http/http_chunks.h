/* A request's body that comes in chunks (RFC 9112 §7.1), as it comes: sizes, extensions and trailers go, the data stays. */
#ifndef IMAGINED_SERVER_HTTP_HTTP_CHUNKS_H
#define IMAGINED_SERVER_HTTP_HTTP_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_CHUNK_LINE_BYTES = 1024,         /* a size with its extensions, or a line of the trailer, at most */
    HTTP_CHUNK_TRAILER_BYTES = 16 * 1024, /* all lines of the trailer */
};

/* Zeroed: before the first chunk. */
typedef struct http_chunks {
    enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_END, CHUNK_DATA, CHUNK_DATA_CR, CHUNK_DATA_LF, CHUNK_TRAILER, CHUNK_LAST_LF, CHUNKS_DONE, CHUNKS_BAD } state;
    uint64_t left; /* of this chunk's data */
    size_t digits, line, trailer; /* of the size; bytes of this line, and of the trailer */
} http_chunks;

/* Reads on in *io, *size bytes, and moves behind what was read. True: *data, *count are the next bytes of the body, borrowed. False:
 * nothing more is here, the body is at its end (http_chunks_done; what is left of *io is not its), or it makes no sense
 * (http_chunks_bad). */
bool http_chunks_next(http_chunks *c, const char **io, size_t *size, const char **data, size_t *count);
bool http_chunks_done(const http_chunks *c);
bool http_chunks_bad(const http_chunks *c);

#endif
