/* Sending an answer: the head in one piece, then the body piece by piece as the client takes it. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "server/http/http_internal.h"

enum { HEAD_BYTES = 8 * 1024, PIECE_BYTES = 64 * 1024 };

static bool add(struct lws *wsi, const char *name, const char *value, unsigned char **at, unsigned char *end) {
    char with_colon[80];
    const unsigned char *bytes = (const unsigned char *)value;
    snprintf(with_colon, sizeof with_colon, "%s:", name);
    return lws_add_http_header_by_name(wsi, (const unsigned char *)with_colon, bytes, (int)strlen(value), at, end) == 0;
}

static bool has_body(const http_exchange *x) {
    return x->method != LWSHUMETH_HEAD && x->status != 304 && (x->answer.size > 0 || x->stream.on);
}

static bool add_length(http_exchange *x, unsigned char **at, unsigned char *end) {
    if (x->status == 204 || x->status == 304) return true;
    if (!x->stream.on) return lws_add_http_header_content_length(x->wsi, x->answer.size, at, end) == 0;
    return !x->stream.chunked || add(x->wsi, "transfer-encoding", "chunked", at, end);
}

/* Not the library's own line: it has no phrase for 422, 429 and others, and clients show that as the reason. */
static bool add_status(http_exchange *x, unsigned char **at, unsigned char *end) {
    char line[80];
    int n = snprintf(line, sizeof line, "HTTP/1.%d %d %s", x->stream.chunked ? 1 : 0, x->status, http_status_phrase(x->status));
    return lws_add_http_header_by_name(x->wsi, NULL, (const unsigned char *)line, n, at, end) == 0;
}

static bool write_head(http_exchange *x) {
    unsigned char head[LWS_PRE + HEAD_BYTES], *start = head + LWS_PRE, *at = start, *end = head + sizeof head - 1;
    bool ok = add_status(x, &at, end) &&
              (x->type == NULL || add(x->wsi, "content-type", x->type, &at, end)) &&
              add_length(x, &at, end) &&
              add(x->wsi, "x-request-id", x->request_id, &at, end) && (!x->close_after || add(x->wsi, "connection", "close", &at, end));
    for (size_t i = 0; ok && i < x->extra.size;) {
        const char *name = x->extra.data + i, *value = name + strlen(name) + 1;
        ok = add(x->wsi, name, value, &at, end);
        i += strlen(name) + strlen(value) + 2;
    }
    ok = ok && lws_finalize_http_header(x->wsi, &at, end) == 0;
    if (!ok) return false;
    /* An answer without a body ends its stream with the head. */
    int mode = has_body(x) ? LWS_WRITE_HTTP_HEADERS : LWS_WRITE_HTTP_HEADERS | LWS_WRITE_H2_STREAM_END;
    return lws_write(x->wsi, start, (size_t)(at - start), (enum lws_write_protocol)mode) >= 0;
}

/* True in *finished after the last piece. */
static bool write_piece(http_exchange *x, bool *finished) {
    unsigned char piece[LWS_PRE + PIECE_BYTES];
    error fault = {0};
    size_t n;
    if (!http_body_read(&x->answer, piece + LWS_PRE, PIECE_BYTES, &n, &fault)) {
        log_line(LOG_ERROR, "%s %s: %s", http_method(x), x->path, fault.text);
        return false;
    }
    *finished = x->answer.reading == x->answer.count;
    if (n == 0 && !*finished) return false;
    return lws_write(x->wsi, piece + LWS_PRE, n, *finished ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) >= 0;
}

static int finish(http_exchange *x) {
    struct lws *wsi = x->wsi;
    bool close_after = x->close_after;
    log_line(LOG_DEBUG, "%s %s: %d", http_method(x), x->path, x->status);
    lws_set_opaque_user_data(wsi, NULL);
    http_exchange_free(x);
    /* A connection that is closed with output still in the library's hands loses it: there, the library closes after its last byte. */
    if (close_after && !lws_partial_buffered(wsi)) return -1;
    return lws_http_transaction_completed(wsi) ? -1 : 0;
}

bool http_answer_waits(const http_exchange *x) {
    if (x->state < EXCHANGE_SENDING) return x->state == EXCHANGE_ANSWERED;
    return !x->stream.on || x->stream.ended || http_stream_waiting(x) > 0;
}

int http_answer_write(http_exchange *x, bool *finished) {
    *finished = false;
    if (!http_answer_waits(x)) return 0;
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_SEND_SECONDS);
    if (x->state == EXCHANGE_ANSWERED) {
        if (!write_head(x)) return -1;
        x->state = EXCHANGE_SENDING;
        *finished = !has_body(x);
    } else if (x->stream.on ? !http_stream_write_piece(x, finished) : !write_piece(x, finished)) {
        return -1;
    }
    if (*finished) return finish(x);
    if (http_answer_waits(x)) {
        lws_callback_on_writable(x->wsi);
        return 0;
    }
    /* A growing answer of which all is sent: it may take its time until there is more. */
    http_exchange_count(x, false);
    lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0);
    if (x->stream.writer.drained != NULL) x->stream.writer.drained(x->stream.writer.context, x);
    return 0;
}
