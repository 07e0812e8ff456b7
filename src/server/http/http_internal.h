/* What the files of the HTTP part share; nobody else includes it. */
#ifndef IMAGINED_SERVER_HTTP_HTTP_INTERNAL_H
#define IMAGINED_SERVER_HTTP_HTTP_INTERNAL_H

#include "server/http/http.h"
#include "server/http/http_chunks.h"
#include "server/http/loop_lws.h"

enum { HTTP_HEADERS = 20, HTTP_HEADER_VALUE_BYTES = 512, HTTP_QUERIES = 16, HTTP_REQUEST_ID_BYTES = 65 };

/* What a connection belongs to: an exchange, or a socket. First member of both. */
typedef struct http_peer {
    bool is_socket;
} http_peer;

struct http_server {
    loop *loop;
    loop_watch *accepting;
    loop_timer *resume; /* accepting again after the system ran out of descriptors */
    int listener;
    bool starved; /* the system has no descriptor for a connection; said once */
    char address[80];
    http_handler handle;
    http_refusal refuse;
    size_t (*body_cap)(void *context, const struct http_exchange *x); /* NULL: HTTP_BODY_BYTES for all */
    void *context;
    size_t sending;
    uint64_t answered[HTTP_STATUS_END - HTTP_STATUS_FIRST]; /* by status */
    size_t large_bytes; /* of the bodies over HTTP_BODY_BYTES that are here or on their way */
    struct http_exchange *exchanges; /* all that live */
    struct http_socket *sockets;
};

typedef enum exchange_state { EXCHANGE_READING, EXCHANGE_HANDLING, EXCHANGE_ANSWERED, EXCHANGE_SENDING } exchange_state;

struct http_exchange {
    http_peer peer;
    http_server *server;
    struct lws *wsi; /* NULL once the connection is gone */
    exchange_state state;
    int method;    /* LWSHUMETH_… */
    bool wants_socket; /* it may be accepted as a WebSocket, as long as it was not answered */
    bool dropping; /* the body is too large: read and forget */
    bool close_after;
    char path[HTTP_PATH_BYTES];
    char *queries[HTTP_QUERIES]; /* "name=value" */
    char *headers[HTTP_HEADERS];
    char request_id[HTTP_REQUEST_ID_BYTES];
    char caller[HTTP_CALLER_BYTES]; /* "": nobody's in particular */
    bool local;
    buffer request;
    size_t body_cap;    /* bytes the body may have, … */
    size_t body_length; /* … and has, by Content-Length or so far */
    bool body_chunked;  /* it comes in chunks: how long it is, its end will show */
    http_chunks chunks;
    size_t body_large;  /* bytes of it that count in server->large_bytes */
    double started;    /* clock_seconds */
    double body_until; /* clock_seconds: all of it must be here */
    void (*left)(void *context, http_exchange *x);
    void *left_context;
    int status;
    const char *type;
    buffer extra; /* added headers: name NUL value NUL … */
    http_body answer;
    bool counted; /* in server->sending */
    struct {
        bool on, chunked, ended, given_up;
        http_stream_writer writer;
        buffer waiting;
        size_t sent; /* of `waiting` */
    } stream; /* an answer that grows */
    struct http_exchange *next, **link; /* in the server's list */
};

/* http_exchange.c */
http_exchange *http_exchange_new(http_server *s, struct lws *wsi); /* NULL: no memory */
void http_exchange_free(http_exchange *x);
/* Gives up the body, and its share of what large ones may take. */
void http_exchange_drop_body(http_exchange *x);
/* Whether it counts as an answer on its way. */
void http_exchange_count(http_exchange *x, bool sending);
/* Its client is gone: tells whoever waits or writes. */
void http_exchange_leave(http_exchange *x);
/* http_answer.c: whether there is something to write now. */
bool http_answer_waits(const http_exchange *x);
/* Writes the next part of an answer that was given. Returns what the library's callback is to return; *finished: the
 * exchange is gone. */
int http_answer_write(http_exchange *x, bool *finished);
/* http_socket.c: whether the request can become a socket. */
bool http_socket_wished(struct lws *wsi);
/* What happens on a socket's connection; returns what the library's callback is to return. */
int http_socket_callback(struct http_socket *s, enum lws_callback_reasons reason, void *in, size_t size);
/* The connection is gone: tells its owner and frees it. */
void http_socket_end(struct http_socket *s);
void http_sockets_end(http_server *server); /* all of them, without a word to the clients */
size_t http_sockets_sending(const http_server *server); /* those that have something to send, be it a goodbye */
/* http_stream.c: writes the next piece of a growing answer; true in *finished after the last. */
bool http_stream_write_piece(http_exchange *x, bool *finished);

#endif
