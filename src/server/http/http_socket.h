/* WebSockets (RFC 6455) as handlers see them: a GET that wishes for one becomes a socket instead of getting an answer.
 *
 * The gate and the routes come first, as for every request. A handler that does not accept the wish answers as always, and the client hears
 * that; a wish that cannot be granted (no key, another version, sub-protocols) is none. What is sent waits in one queue for each client,
 * which is bounded: one that reads slowly loses what may be lost first and is then disconnected. One that is silent for 15 seconds is
 * pinged, and given up after 45 (loop_lws.h). One thread: the loop's. */
#ifndef IMAGINED_SERVER_HTTP_HTTP_SOCKET_H
#define IMAGINED_SERVER_HTTP_HTTP_SOCKET_H

#include "server/http/http.h"

enum {
    HTTP_SOCKET_WAITING_BYTES = 1 << 20, /* of messages that wait for a slow client, at most */
    HTTP_SOCKET_MESSAGE_BYTES = 64 << 10, /* of a message from the client; a longer one ends the socket */
    HTTP_SOCKET_GOING_AWAY = 1001, /* why a socket is closed, by RFC 6455 §7.4.1: the server stops */
};

typedef struct http_socket http_socket;

/* Whose socket it is. Called from the loop, never from within the functions below. */
typedef struct http_socket_owner {
    void *context;
    /* A text came: valid UTF-8, NUL-terminated, borrowed for the call. NULL: nobody listens. What comes as bytes is ignored in any case. */
    void (*received)(void *context, http_socket *s, const char *text, size_t size);
    void (*closed)(void *context, http_socket *s); /* the socket is gone; called once, also after http_socket_close */
} http_socket_owner;

/* Whether the request wishes to become a socket, so that http_accept_socket may be called instead of an answer. */
bool http_wants_socket(const http_exchange *x);
/* Grants the wish: the exchange is the server's again. What is sent from now on follows the handshake. NULL: no memory, and the request is
 * still to be answered. */
http_socket *http_accept_socket(http_exchange *x, const http_socket_owner *owner);
/* Whose request it was: http_caller; NULL: nobody's in particular. */
const char *http_socket_caller(const http_socket *s);
/* Sends a text. Copies. False when too much would wait, or memory is short: the client is given up, and `closed` follows. */
bool http_socket_send(http_socket *s, const char *text, size_t size);
/* Sends bytes of which only the newest matter: what of this kind still waits is dropped for it, and it is dropped where a text has no
 * room. */
void http_socket_send_rough(http_socket *s, const void *bytes, size_t size);
size_t http_socket_waiting(const http_socket *s); /* bytes of messages that were not handed to the system yet */
/* Ends it once what waits is sent; `closed` follows. Nothing can be sent any more. */
void http_socket_close(http_socket *s, int code);
/* All of them. */
void http_server_close_sockets(http_server *server, int code);

#endif
