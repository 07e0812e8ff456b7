/* What happens on a connection, event by event: head, body, answer, end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http/http_internal.h"
#include "server/http/http_socket.h"
#include "server/http/random_id.h"

/* The headers that are kept. `token` −1: one that the library does not know by itself. */
static const struct {
    const char *name;
    int token;
} kept[HTTP_HEADERS] = {
    {"host", WSI_TOKEN_HOST},
    {"content-type", WSI_TOKEN_HTTP_CONTENT_TYPE},
    {"if-none-match", WSI_TOKEN_HTTP_IF_NONE_MATCH},
    {"prefer", -1},
    {"idempotency-key", -1},
    {"authorization", WSI_TOKEN_HTTP_AUTHORIZATION}, /* of any length that the library takes: tokens of a kilobyte and more are usual */
    {"api-key", -1},
    {"x-request-id", -1},
    {"last-event-id", -1},
    {"expect", WSI_TOKEN_HTTP_EXPECT},
    {"accept-encoding", WSI_TOKEN_HTTP_ACCEPT_ENCODING},
    {"origin", WSI_TOKEN_ORIGIN},
    {"x-forwarded-proto", -1},
    {"access-control-request-method", -1},
    {"access-control-request-headers", WSI_TOKEN_HTTP_AC_REQUEST_HEADERS},
};

const char *http_header(const http_exchange *x, const char *name) {
    for (int i = 0; i < HTTP_HEADERS && kept[i].name != NULL; i++)
        if (strcmp(kept[i].name, name) == 0) return x->headers[i];
    return NULL;
}

/* NULL when it is absent; true in *too_long when it is longer than is kept, in *lost when there was no memory for it: rules go by what
 * headers say, so a request must not pass for one without them. */
static char *copy_header(struct lws *wsi, const char *name, int token, bool *too_long, bool *lost) {
    char with_colon[40];
    int colon = snprintf(with_colon, sizeof with_colon, "%s:", name);
    int n = token >= 0 ? lws_hdr_total_length(wsi, (enum lws_token_indexes)token) : lws_hdr_custom_length(wsi, with_colon, colon);
    bool over = n >= HTTP_HEADER_VALUE_BYTES && token != WSI_TOKEN_HTTP_AUTHORIZATION;
    *too_long |= over;
    if (n <= 0 || over) return NULL;
    char *value = calloc(1, (size_t)n + 1);
    if (value == NULL) {
        *lost = true;
        return NULL;
    }
    if (token >= 0) n = lws_hdr_copy(wsi, value, n + 1, (enum lws_token_indexes)token);
    else n = lws_hdr_custom_copy(wsi, value, n + 1, with_colon, colon);
    if (n >= 0) return value;
    free(value);
    *lost = true;
    return NULL;
}

/* Whether the peer's address is the loopback's: 127.0.0.0/8, ::1, or the former as IPv6 shows it. */
static bool peer_is_loopback(struct lws *wsi) {
    static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (getpeername(lws_get_socket_fd(wsi), (struct sockaddr *)&peer, &size) != 0) return false;
    if (peer.ss_family == AF_INET) return ntohl(((const struct sockaddr_in *)&peer)->sin_addr.s_addr) >> 24 == 127;
    if (peer.ss_family != AF_INET6) return false;
    const struct in6_addr *a = &((const struct sockaddr_in6 *)&peer)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || (memcmp(a, mapped, sizeof mapped) == 0 && a->s6_addr[12] == 127);
}

/* Whether a proxy says that it passes the request on for another. */
static bool is_forwarded(struct lws *wsi) {
    return lws_hdr_total_length(wsi, WSI_TOKEN_X_FORWARDED_FOR) > 0 || lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_X_REAL_IP) > 0 ||
           lws_hdr_custom_length(wsi, "forwarded:", 10) >= 0;
}

/* Of any length that the library takes. True in *lost when there was no memory for one. */
static void read_queries(http_exchange *x, bool *lost) {
    for (int i = 0; i < HTTP_QUERIES; i++) {
        int n = lws_hdr_fragment_length(x->wsi, WSI_TOKEN_HTTP_URI_ARGS, i);
        if (n <= 0) continue;
        x->queries[i] = calloc(1, (size_t)n + 1);
        if (x->queries[i] == NULL || lws_hdr_copy_fragment(x->wsi, x->queries[i], n + 1, WSI_TOKEN_HTTP_URI_ARGS, i) < 0) *lost = true;
    }
}

static void choose_request_id(http_exchange *x) {
    const char *given = http_header(x, "x-request-id");
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:";
    if (given != NULL && given[0] != '\0' && strlen(given) < sizeof x->request_id && strspn(given, allowed) == strlen(given))
        snprintf(x->request_id, sizeof x->request_id, "%s", given);
    else random_id("req_", x->request_id);
}

/* An answer that is there goes out now: a client that sends the next request ahead would lose its connection if the library read that
 * first. */
static int send_now(http_exchange *x) {
    while (http_answer_waits(x) && !lws_send_pipe_choked(x->wsi)) {
        bool finished;
        int result = http_answer_write(x, &finished);
        if (finished || result != 0) return result;
    }
    return 0;
}

static int handle(http_exchange *x) {
    bool upgrading = x->wants_socket;
    x->state = EXCHANGE_HANDLING;
    lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0); /* an answer may take as long as a picture does */
    x->server->handle(x->server->context, x);
    return upgrading ? 0 : send_now(x); /* x may be a socket now; an answer goes out where the library goes on with the request */
}

static void refuse(http_exchange *x, int status, const char *text) {
    error why;
    error_set(&why, status == 413 ? ERROR_TOO_LARGE : ERROR_INVALID, "%s", text);
    x->state = EXCHANGE_HANDLING;
    x->server->refuse(x->server->context, x, status, &why);
}

/* Whether the client understands an answer in chunks. */
static bool speaks_1_1(struct lws *wsi) {
    char version[12] = "";
    return lws_hdr_copy(wsi, version, sizeof version, WSI_TOKEN_HTTP) > 0 && strcmp(version, "HTTP/1.1") == 0;
}

static void refuse_body(http_exchange *x) {
    char text[128];
    snprintf(text, sizeof text, "the request's body is too large: at most %zu bytes are taken", x->body_cap);
    if (x->body_length > x->body_cap) {
        refuse(x, 413, text);
        return;
    }
    http_add_header(x, "retry-after", "2");
    refuse(x, 503, "other large requests take the memory there is for them: come again");
}

/* Room for a large body up to this length, if there is. */
static bool keep_room(http_exchange *x, size_t length) {
    http_server *s = x->server;
    size_t more = length - x->body_large;
    if (more > HTTP_LARGE_BODIES_BYTES - s->large_bytes) return false;
    s->large_bytes += more;
    x->body_large = length;
    /* Growing by doubling, it would be copied over and over, on the loop; untouched pages cost nothing. */
    buffer_reserve(&x->request, length - x->request.size);
    return true;
}

/* Whether a body of this length may come; the room for a large one is kept. */
static bool admit_body(http_exchange *x, size_t length) {
    http_server *s = x->server;
    x->body_length = length;
    x->body_cap = s->body_cap != NULL ? s->body_cap(s->context, x) : HTTP_BODY_BYTES;
    x->body_until = x->started + HTTP_BODY_SECONDS + (double)length / HTTP_BODY_SLOWEST_BYTES;
    return length <= x->body_cap && (length <= HTTP_BODY_BYTES || keep_room(x, length));
}

/* Whether the client sends its body only once it hears that it is wanted, as curl does with one over a megabyte (or after a second). */
static bool asks_first(const http_exchange *x) {
    const char *expected = http_header(x, "expect");
    return x->stream.chunked && expected != NULL && strcasecmp(expected, "100-continue") == 0;
}

/* The library knows no chunks in a request: it gives them as they are, as a body without end, and so the connection can carry no other
 * request. */
static void begin_chunks(http_exchange *x, bool may_send, bool has_length) {
    char coding[16] = "";
    x->close_after = true;
    lws_hdr_copy(x->wsi, coding, sizeof coding, WSI_TOKEN_HTTP_TRANSFER_ENCODING);
    if (has_length) refuse(x, 400, "a request has a Content-Length or a Transfer-Encoding, not both");
    else if (!may_send || !x->stream.chunked || strcasecmp(coding, "chunked") != 0)
        refuse(x, 411, "the request's body needs a Content-Length");
    else x->body_chunked = admit_body(x, 0);
    if (x->body_chunked && x->body_cap == 0 && asks_first(x)) refuse(x, 413, "no body is taken here"); /* the gate has a better word for it */
}

/* "Go on": an answer before the answer, which the library does not give by itself. */
static int invite_body(http_exchange *x) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    unsigned char bytes[LWS_PRE + sizeof line];
    if (x->state != EXCHANGE_READING || !asks_first(x)) return 0;
    memcpy(bytes + LWS_PRE, line, sizeof line);
    return lws_write(x->wsi, bytes + LWS_PRE, sizeof line - 1, LWS_WRITE_RAW) < 0 ? -1 : 0;
}

static int begin(http_server *s, struct lws *wsi, const char *path, size_t size, bool wants_socket) {
    http_exchange *x = http_exchange_new(s, wsi);
    if (x == NULL) return -1;
    lws_set_opaque_user_data(wsi, x);
    char *uri;
    int uri_size;
    x->method = lws_http_get_uri_and_method(wsi, &uri, &uri_size);
    x->wants_socket = wants_socket;
    snprintf(x->path, sizeof x->path, "%.*s", (int)size, path);
    bool too_long = false, lost = false;
    for (int i = 0; i < HTTP_HEADERS && kept[i].name != NULL; i++)
        x->headers[i] = copy_header(wsi, kept[i].name, kept[i].token, &too_long, &lost);
    x->local = peer_is_loopback(wsi) && !is_forwarded(wsi);
    read_queries(x, &lost);
    choose_request_id(x);
    x->stream.chunked = speaks_1_1(wsi);

    char text[24] = "";
    bool has_length = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0;
    bool copied = has_length && lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0;
    for (size_t n = strlen(text); n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'); n--) text[n - 1] = '\0';
    bool sane = !has_length || (copied && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19);
    long long length = has_length && sane ? atoll(text) : 0;
    bool sends = x->method == LWSHUMETH_POST || x->method == LWSHUMETH_PUT || x->method == LWSHUMETH_PATCH;
    if (size >= sizeof x->path) {
        x->close_after = true;
        refuse(x, 414, "the path is too long");
    } else if (too_long) {
        x->close_after = true;
        refuse(x, 431, "a header is too long: of those that mean something here at most 511 bytes are taken");
    } else if (lost) {
        x->close_after = true;
        refuse(x, 503, "not enough memory for the request's head");
    } else if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        begin_chunks(x, sends, has_length);
        return x->state == EXCHANGE_READING ? invite_body(x) : send_now(x); /* where they are refused */
    } else if (!sane) {
        x->close_after = true;
        refuse(x, 400, "the Content-Length makes no sense");
        return send_now(x);
    } else if (!admit_body(x, (size_t)length)) {
        /* Most clients hear an answer only once they have sent everything; to those that ask, or would send without end, it is given at
         * once. */
        x->close_after = true;
        x->dropping = length <= 64LL * HTTP_BODY_BYTES && !asks_first(x);
        if (!x->dropping) refuse_body(x);
    } else if (length == 0 && !(x->method == LWSHUMETH_POST && has_length)) {
        /* Without a length the library takes such a request for one with an endless body. */
        x->close_after = sends && !has_length;
        return handle(x);
    } else {
        return length > 0 ? invite_body(x) : 0;
    }
    return 0;
}

static int complete(http_exchange *x) {
    if (x->dropping) refuse_body(x);
    else if (!buffer_ok(&x->request)) refuse(x, 503, "not enough memory for the request's body");
    else return handle(x);
    return 0;
}

/* How much will come nobody knows: each time there is no more room, as much again is kept. */
static bool chunk_fits(http_exchange *x) {
    if (x->body_length > x->body_cap) return false;
    if (x->body_length <= HTTP_BODY_BYTES || x->body_length <= x->body_large) return true;
    return keep_room(x, 2 * x->body_length < x->body_cap ? 2 * x->body_length : x->body_cap);
}

static int more_chunks(http_exchange *x, const char *bytes, size_t size) {
    const char *data;
    size_t count;
    while (http_chunks_next(&x->chunks, &bytes, &size, &data, &count)) {
        x->body_length += count;
        if (!x->dropping && !chunk_fits(x)) {
            x->dropping = true;
            http_exchange_drop_body(x);
        }
        if (!x->dropping) buffer_append(&x->request, data, count);
    }
    x->body_until = x->started + HTTP_BODY_SECONDS + (double)x->body_length / HTTP_BODY_SLOWEST_BYTES;
    if (http_chunks_bad(&x->chunks)) refuse(x, 400, "the chunks of the request's body make no sense");
    else if (http_chunks_done(&x->chunks)) return complete(x);
    else if (x->body_length > 64 * (size_t)HTTP_BODY_BYTES) refuse_body(x); /* as one that says so */
    return 0;
}

static int more(http_exchange *x, const void *bytes, size_t size) {
    if (x->state != EXCHANGE_READING) return 0;
    if (clock_seconds() > x->body_until) return -1;
    if (x->body_chunked) return more_chunks(x, bytes, size);
    if (x->dropping) return 0;
    if (size > x->body_length - x->request.size) return -1;
    buffer_append(&x->request, bytes, size);
    return 0;
}

/* What comes in chunks ends where they do: the library has read more of them than it cares to. */
static int at_end(http_exchange *x) {
    if (x->state != EXCHANGE_READING) return 0;
    return x->body_chunked ? -1 : complete(x);
}

static void end(struct lws *wsi, http_exchange *x) {
    lws_set_opaque_user_data(wsi, NULL);
    x->wsi = NULL;
    http_exchange_leave(x);
    http_exchange_free(x);
}

/* A request that wishes for a socket goes to its handler at once, before the library grants it. True: it has become one. */
static bool try_upgrade(http_server *s, struct lws *wsi) {
    char *uri;
    int size;
    if (s == NULL || !http_socket_wished(wsi) || lws_http_get_uri_and_method(wsi, &uri, &size) < 0) return false;
    begin(s, wsi, uri, (size_t)size, true);
    http_peer *peer = lws_get_opaque_user_data(wsi);
    if (peer != NULL && !peer->is_socket) ((http_exchange *)peer)->wants_socket = false;
    return peer != NULL && peer->is_socket;
}

static int http_event(http_server *server, struct lws *wsi, http_exchange *x, enum lws_callback_reasons reason, void *in, size_t size) {
    bool finished;
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        if (x != NULL) return send_now(x); /* it wished for a socket and got an answer, or will */
        return server != NULL ? begin(server, wsi, in, size, false) : -1;
    case LWS_CALLBACK_HTTP_BODY: return x != NULL && in != NULL ? more(x, in, size) : 0;
    case LWS_CALLBACK_HTTP_BODY_COMPLETION: return x != NULL ? at_end(x) : 0;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        if (x != NULL && x->stream.given_up) return -1; /* what is written would put its end off */
        return x != NULL && x->state >= EXCHANGE_ANSWERED ? http_answer_write(x, &finished) : 0;
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
    case LWS_CALLBACK_WSI_DESTROY:
        if (x != NULL) end(wsi, x);
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        /* RFC 9110 lets a server ignore the wish for another protocol; the library can only grant or refuse, unless it does
         * not know the name. */
        if (!try_upgrade(server, wsi)) *(char *)in = '-';
        return 0;
    default: return 0;
    }
}

int http_callback(void *server, struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t size) {
    http_peer *peer = lws_get_opaque_user_data(wsi);
    if (peer != NULL && peer->is_socket) return http_socket_callback((http_socket *)peer, reason, in, size);
    return http_event(server, wsi, (http_exchange *)peer, reason, in, size);
}
