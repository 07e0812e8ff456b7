/* An answer that grows: what is written waits in one buffer, which is bounded, and leaves it piece by piece as the client takes it. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "server/http/http_internal.h"

enum {
    PIECE_BYTES = 32 * 1024,
    FRAME_BYTES = 64,       /* a chunk's head and tail, and the end's */
    KEPT_BYTES = 16 * 1024, /* of an empty buffer: most answers that grow are idle most of the time */
    SOCKET_BYTES = 64 * 1024, /* asked of the system, which would hold megabytes for a client that does not read */
};

bool http_respond_stream(http_exchange *x, int status, const char *type, const http_stream_writer *writer) {
    http_body none = {0};
    http_respond(x, status, type, &none);
    x->stream.on = true;
    x->stream.writer = *writer;
    x->stream.ended = x->method == LWSHUMETH_HEAD;
    x->close_after |= !x->stream.chunked;
    int bytes = SOCKET_BYTES;
    setsockopt(lws_get_socket_fd(x->wsi), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes); /* refused, it only costs memory */
    return !x->stream.ended;
}

size_t http_stream_waiting(const http_exchange *x) { return x->stream.waiting.size - x->stream.sent; }

static void give_up(http_exchange *x) {
    if (!x->stream.given_up) lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, LWS_TO_KILL_ASYNC);
    x->stream.given_up = true;
}

/* Once something waits, the client has HTTP_SEND_SECONDS to take some of it. */
static void begin_sending(http_exchange *x) {
    if (!x->counted) lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_SEND_SECONDS);
    http_exchange_count(x, true);
    lws_callback_on_writable(x->wsi);
}

bool http_stream_write(http_exchange *x, const void *bytes, size_t size) {
    if (x->stream.given_up) return false;
    if (size == 0) return true;
    bool fits = size <= HTTP_STREAM_BYTES && http_stream_waiting(x) <= HTTP_STREAM_BYTES - size;
    if (fits) buffer_append(&x->stream.waiting, bytes, size);
    if (!fits || !buffer_ok(&x->stream.waiting)) {
        give_up(x);
        return false;
    }
    begin_sending(x);
    return true;
}

void http_stream_end(http_exchange *x) {
    x->stream.ended = true;
    if (!x->stream.given_up) begin_sending(x);
}

/* What was sent leaves the buffer, at the latest when it is half of it: so the buffer grows with what waits only. */
static void forget_sent(http_exchange *x) {
    buffer *b = &x->stream.waiting;
    if (x->stream.sent < b->size && x->stream.sent < b->size / 2) return;
    memmove(b->data, b->data + x->stream.sent, b->size - x->stream.sent);
    b->size -= x->stream.sent;
    x->stream.sent = 0;
    if (b->size == 0 && b->capacity > KEPT_BYTES) buffer_free(b);
}

bool http_stream_write_piece(http_exchange *x, bool *finished) {
    unsigned char piece[LWS_PRE + PIECE_BYTES + FRAME_BYTES], *start = piece + LWS_PRE, *at = start;
    size_t n = http_stream_waiting(x);
    if (n > PIECE_BYTES) n = PIECE_BYTES;
    if (n > 0) {
        if (x->stream.chunked) at += sprintf((char *)at, "%zx\r\n", n);
        memcpy(at, x->stream.waiting.data + x->stream.sent, n);
        at += n;
        if (x->stream.chunked) at = mempcpy(at, "\r\n", 2);
        x->stream.sent += n;
        forget_sent(x);
    }
    *finished = x->stream.ended && http_stream_waiting(x) == 0;
    if (*finished && x->stream.chunked) at = mempcpy(at, "0\r\n\r\n", 5);
    return at == start || lws_write(x->wsi, start, (size_t)(at - start), *finished ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) >= 0;
}
