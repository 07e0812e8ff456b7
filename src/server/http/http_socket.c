/* A WebSocket's messages in and out. The library does the handshake, frames and pings. */
#include "server/http/http_socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/utf8.h"
#include "server/http/http_internal.h"

enum { SOCKET_BYTES = 64 * 1024, KEY_BYTES = 64 };

/* One message, with the room before it that the library writes its frame's head into. */
typedef struct message {
    struct message *next;
    size_t size;
    bool rough;
    unsigned char bytes[]; /* LWS_PRE, then `size` */
} message;

struct http_socket {
    http_peer peer; /* first: a connection's opaque pointer is one of these */
    http_server *server;
    struct lws *wsi; /* NULL once the connection is gone */
    http_socket_owner owner;
    char caller[HTTP_CALLER_BYTES];
    message *first, *last;
    size_t waiting; /* bytes of them */
    buffer received; /* a message of which more is to come */
    bool open;       /* the handshake is done */
    bool given_up, closing, said_goodbye;
    int close_code;
    http_socket *next, **link; /* in the server's list */
};

/* --- the wish --- */

static bool header_has_token(struct lws *wsi, enum lws_token_indexes header, const char *token) {
    char text[128];
    if (lws_hdr_copy(wsi, text, sizeof text, header) <= 0) return false;
    char *rest = text;
    for (char *one; (one = strsep(&rest, ",")) != NULL;) {
        one += strspn(one, " \t");
        size_t n = strcspn(one, " \t");
        if (n == strlen(token) && strncasecmp(one, token, n) == 0) return true;
    }
    return false;
}

bool http_socket_wished(struct lws *wsi) {
    char key[KEY_BYTES], *uri;
    int uri_size;
    return lws_http_get_uri_and_method(wsi, &uri, &uri_size) == LWSHUMETH_GET && header_has_token(wsi, WSI_TOKEN_UPGRADE, "websocket") &&
           header_has_token(wsi, WSI_TOKEN_CONNECTION, "upgrade") && header_has_token(wsi, WSI_TOKEN_VERSION, "13") &&
           lws_hdr_copy(wsi, key, sizeof key, WSI_TOKEN_KEY) == 24 && lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) <= 0;
}

bool http_wants_socket(const http_exchange *x) { return x->wants_socket; }

http_socket *http_accept_socket(http_exchange *x, const http_socket_owner *owner) {
    http_server *server = x->server;
    http_socket *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    *s = (http_socket){
        .peer = {.is_socket = true}, .server = server, .wsi = x->wsi, .owner = *owner, .next = server->sockets, .link = &server->sockets};
    memcpy(s->caller, x->caller, sizeof s->caller);
    if (s->next != NULL) s->next->link = &s->next;
    server->sockets = s;
    server->answered[101 - HTTP_STATUS_FIRST]++;
    lws_set_opaque_user_data(s->wsi, s);
    http_exchange_free(x);
    return s;
}

const char *http_socket_caller(const http_socket *s) { return s->caller[0] != '\0' ? s->caller : NULL; }
size_t http_socket_waiting(const http_socket *s) { return s->waiting; }

/* --- out --- */

static message *unlink_first(http_socket *s, message **link) {
    message *m = *link;
    *link = m->next;
    if (s->last == m) {
        s->last = s->first;
        while (s->last != NULL && s->last->next != NULL) s->last = s->last->next;
    }
    s->waiting -= m->size;
    return m;
}

static void drop_rough(http_socket *s) {
    for (message **link = &s->first; *link != NULL;) {
        if ((*link)->rough) free(unlink_first(s, link));
        else link = &(*link)->next;
    }
}

static void give_up(http_socket *s) {
    if (!s->given_up && s->wsi != NULL) lws_set_timeout(s->wsi, PENDING_TIMEOUT_HTTP_CONTENT, LWS_TO_KILL_ASYNC);
    s->given_up = true;
}

/* Once something waits, the client has HTTP_SEND_SECONDS to take some of it. */
static void begin_sending(http_socket *s, bool idle) {
    if (!s->open || s->wsi == NULL) return; /* the handshake's end begins it */
    if (idle) lws_set_timeout(s->wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_SEND_SECONDS);
    lws_callback_on_writable(s->wsi);
}

static bool add(http_socket *s, const void *bytes, size_t size, bool rough) {
    message *m = malloc(sizeof *m + LWS_PRE + size);
    if (m == NULL) return false;
    bool idle = s->first == NULL;
    *m = (message){.size = size, .rough = rough};
    memcpy(m->bytes + LWS_PRE, bytes, size);
    if (s->last != NULL) s->last->next = m;
    else s->first = m;
    s->last = m;
    s->waiting += size;
    begin_sending(s, idle);
    return true;
}

static bool has_room(const http_socket *s, size_t size) {
    return size <= HTTP_SOCKET_WAITING_BYTES && s->waiting <= HTTP_SOCKET_WAITING_BYTES - size;
}

bool http_socket_send(http_socket *s, const char *text, size_t size) {
    if (s->given_up || s->closing) return false;
    if (!has_room(s, size)) drop_rough(s);
    if (has_room(s, size) && add(s, text, size, false)) return true;
    give_up(s);
    return false;
}

void http_socket_send_rough(http_socket *s, const void *bytes, size_t size) {
    if (s->given_up || s->closing) return;
    drop_rough(s);
    if (has_room(s, size)) add(s, bytes, size, true); /* without memory it is one that was dropped */
}

void http_socket_close(http_socket *s, int code) {
    if (s->closing) return;
    s->closing = true;
    s->close_code = code;
    begin_sending(s, s->first == NULL);
}

void http_server_close_sockets(http_server *server, int code) {
    for (http_socket *s = server->sockets; s != NULL; s = s->next) http_socket_close(s, code);
}

size_t http_sockets_sending(const http_server *server) {
    size_t count = 0;
    for (const http_socket *s = server->sockets; s != NULL; s = s->next)
        count += !s->given_up && !s->said_goodbye && (s->first != NULL || s->closing);
    return count;
}

/* The next message; −1 ends the connection. */
static int write_next(http_socket *s) {
    if (s->first == NULL && s->closing) {
        s->said_goodbye = true;
        lws_close_reason(s->wsi, (enum lws_close_status)s->close_code, NULL, 0);
        return -1;
    }
    if (s->first == NULL) return 0;
    message *m = unlink_first(s, &s->first);
    int sent = lws_write(s->wsi, m->bytes + LWS_PRE, m->size, m->rough ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
    free(m);
    if (sent < 0) return -1;
    if (s->first != NULL || s->closing) {
        lws_set_timeout(s->wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_SEND_SECONDS);
        lws_callback_on_writable(s->wsi);
    } else {
        lws_set_timeout(s->wsi, NO_PENDING_TIMEOUT, 0);
    }
    return 0;
}

/* --- in --- */

static int refuse(http_socket *s, enum lws_close_status code) {
    lws_close_reason(s->wsi, code, NULL, 0);
    return -1;
}

/* A piece of a message; −1 ends the connection. */
static int receive(http_socket *s, const void *bytes, size_t size) {
    if (lws_is_first_fragment(s->wsi)) buffer_clear(&s->received);
    if (size > HTTP_SOCKET_MESSAGE_BYTES - s->received.size) return refuse(s, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE);
    buffer_append(&s->received, bytes, size);
    if (!buffer_ok(&s->received)) return refuse(s, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION);
    if (!lws_is_final_fragment(s->wsi) || lws_remaining_packet_payload(s->wsi) > 0) return 0;
    const char *text = buffer_text(&s->received);
    bool is_text = !lws_frame_is_binary(s->wsi);
    if (is_text && !utf8_valid(text, s->received.size, NULL)) return refuse(s, LWS_CLOSE_STATUS_INVALID_PAYLOAD);
    if (is_text && s->owner.received != NULL && !s->closing) s->owner.received(s->owner.context, s, text, s->received.size);
    buffer_free(&s->received);
    return 0;
}

/* --- its end --- */

void http_socket_end(http_socket *s) {
    *s->link = s->next;
    if (s->next != NULL) s->next->link = s->link;
    s->wsi = NULL;
    s->owner.closed(s->owner.context, s);
    while (s->first != NULL) free(unlink_first(s, &s->first));
    buffer_free(&s->received);
    free(s);
}

void http_sockets_end(http_server *server) {
    while (server->sockets != NULL) {
        if (server->sockets->wsi != NULL) lws_set_opaque_user_data(server->sockets->wsi, NULL);
        http_socket_end(server->sockets);
    }
}

int http_socket_callback(http_socket *s, enum lws_callback_reasons reason, void *in, size_t size) {
    int bytes = SOCKET_BYTES;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        setsockopt(lws_get_socket_fd(s->wsi), SOL_SOCKET, SO_SNDBUF, &bytes,
                   sizeof bytes); /* the system would hold megabytes for a client that does not read */
        s->open = true;
        lws_set_timeout(s->wsi, NO_PENDING_TIMEOUT, 0);
        if (s->given_up) return -1;
        if (s->first != NULL || s->closing) begin_sending(s, true);
        return 0;
    case LWS_CALLBACK_RECEIVE: return receive(s, in, size);
    case LWS_CALLBACK_SERVER_WRITEABLE: return s->given_up ? -1 : write_next(s); /* what is written puts its end off */
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY:
        lws_set_opaque_user_data(s->wsi, NULL);
        http_socket_end(s);
        return 0;
    default: return 0;
    }
}
