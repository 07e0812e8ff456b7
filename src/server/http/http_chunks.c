#include "server/http/http_chunks.h"

/* -1: none. */
static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static void begin_line(http_chunks *c, int state) {
    c->state = state;
    c->line = c->digits = 0;
}

/* A size: digits, then perhaps an extension, which nobody here knows. */
static void take_size(http_chunks *c, char byte) {
    int digit = hex_digit(byte);
    if (digit >= 0) {
        c->left = c->left * 16 + (unsigned)digit;
        c->state = ++c->digits <= 15 ? CHUNK_SIZE : CHUNKS_BAD;
    } else if (c->digits == 0 || (byte != '\r' && byte != ';' && byte != ' ' && byte != '\t')) {
        c->state = CHUNKS_BAD;
    } else {
        c->state = byte == '\r' ? CHUNK_SIZE_END : CHUNK_EXTENSION;
    }
}

/* The trailer ends with an empty line. */
static void take_trailer(http_chunks *c, char byte) {
    if (++c->trailer > HTTP_CHUNK_TRAILER_BYTES) c->state = CHUNKS_BAD;
    else if (byte == '\r' && c->line == 1) c->state = CHUNK_LAST_LF;
    else if (byte == '\n') begin_line(c, c->line > 1 ? CHUNK_TRAILER : CHUNKS_BAD);
}

static void expect(http_chunks *c, char byte, char wanted, int state) {
    if (byte == wanted) begin_line(c, state);
    else c->state = CHUNKS_BAD;
}

static void take(http_chunks *c, char byte) {
    if (++c->line > HTTP_CHUNK_LINE_BYTES) c->state = CHUNKS_BAD;
    switch (c->state) {
    case CHUNK_SIZE: take_size(c, byte); break;
    case CHUNK_EXTENSION:
        if (byte == '\r') c->state = CHUNK_SIZE_END;
        else if (byte == '\n') c->state = CHUNKS_BAD;
        break;
    case CHUNK_SIZE_END: expect(c, byte, '\n', c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER); break;
    case CHUNK_DATA_CR: expect(c, byte, '\r', CHUNK_DATA_LF); break;
    case CHUNK_DATA_LF: expect(c, byte, '\n', CHUNK_SIZE); break;
    case CHUNK_TRAILER: take_trailer(c, byte); break;
    case CHUNK_LAST_LF: expect(c, byte, '\n', CHUNKS_DONE); break;
    case CHUNK_DATA:
    case CHUNKS_DONE:
    case CHUNKS_BAD: break;
    }
}

bool http_chunks_next(http_chunks *c, const char **io, size_t *size, const char **data, size_t *count) {
    while (*size > 0 && c->state != CHUNK_DATA && c->state != CHUNKS_DONE && c->state != CHUNKS_BAD) {
        take(c, **io);
        (*io)++, (*size)--;
    }
    if (*size == 0 || c->state != CHUNK_DATA) return false;
    *data = *io;
    *count = c->left < *size ? (size_t)c->left : *size;
    *io += *count;
    *size -= *count;
    c->left -= *count;
    if (c->left == 0) c->state = CHUNK_DATA_CR;
    return true;
}

bool http_chunks_done(const http_chunks *c) { return c->state == CHUNKS_DONE; }
bool http_chunks_bad(const http_chunks *c) { return c->state == CHUNKS_BAD; }
