/* HTTP as handlers see it: an exchange is one request and its answer.
 *
 * A handler reads the request and answers: at once, or later (it keeps the exchange and says with http_when_left what to do if the client
 * leaves before). Once answered, or left, an exchange belongs to the server again and must not be touched. Everything happens on the loop's
 * thread; a slow client is served from writeable events and holds nothing but its own answer. */
#ifndef IMAGINED_SERVER_HTTP_HTTP_H
#define IMAGINED_SERVER_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "server/http/http_body.h"
#include "server/http/loop.h"

enum {
    HTTP_BODY_BYTES = 1 << 20,          /* of a request, unless its route takes more */
    HTTP_BODY_SECONDS = 60,             /* for all of it to arrive, … */
    HTTP_BODY_SLOWEST_BYTES = 64 << 10, /* … and a second more for each so many bytes */
    HTTP_LARGE_BODIES_BYTES = 128 << 20, /* of all requests at once whose bodies are over HTTP_BODY_BYTES; one more is told to come again */
    HTTP_SEND_SECONDS = 30,    /* without progress, then the client is given up */
    HTTP_STREAM_BYTES = 1 << 20, /* of a growing answer that wait for a slow client, at most */
    HTTP_PATH_BYTES = 1024,
    HTTP_STATUS_FIRST = 100,
    HTTP_STATUS_END = 600,
    HTTP_CALLER_BYTES = 64,
};

typedef struct http_server http_server;
typedef struct http_exchange http_exchange;
typedef void (*http_handler)(void *context, http_exchange *x);
/* Answers, with this status, a request that is refused before its body was read: too large, of no stated length. */
typedef void (*http_refusal)(void *context, http_exchange *x, int status, const error *why);

/* Binds and listens: "127.0.0.1:7860", "[::1]:7860", "localhost:0". `handle` gets every complete request. */
bool http_server_new(loop *l, const char *listen, http_handler handle, http_refusal refuse, void *context, http_server **out, error *e);
/* Lets some requests have larger bodies: `cap` is asked once a head is there, and tells the most bytes. */
void http_server_allow_bodies(http_server *s, size_t (*cap)(void *context, const http_exchange *x));
/* Exchanges that wait are left; connections are closed with the loop, which must be freed after. NULL is fine. */
void http_server_free(http_server *s);
/* "127.0.0.1:7860", with the port that was really bound. */
const char *http_server_address(const http_server *s);
/* Answers that are not yet sent completely; of those that grow, and of sockets, the ones whose client has not taken what there is so
 * far. */
size_t http_server_sending(const http_server *s);
/* How often `status` (HTTP_STATUS_FIRST … HTTP_STATUS_END − 1) was the answer. */
uint64_t http_server_answered(const http_server *s, int status);

/* --- the request; all strings live as long as the exchange --- */

const char *http_method(const http_exchange *x); /* "GET", … */
const char *http_path(const http_exchange *x);   /* decoded, without the query */
/* The value of ?name=…, decoded; NULL when absent. */
const char *http_query(const http_exchange *x, const char *name);
/* Of the headers that anything here asks for (table in http_connection.c), by lower-case name; NULL when absent. */
const char *http_header(const http_exchange *x, const char *name);
const buffer *http_request_body(const http_exchange *x);
/* Hands the body over, for work that may outlast the exchange; *out must be empty. */
void http_take_request_body(http_exchange *x, buffer *out);
/* Whether it comes from this machine itself: over its loopback, and passed on by no proxy that says so (X-Forwarded-For, X-Real-IP or
 * Forwarded). */
bool http_is_local(const http_exchange *x);
/* Whose request it is, as whoever checked that says; NULL: nobody's in particular. `name` is copied, and shorter than HTTP_CALLER_BYTES. */
void http_set_caller(http_exchange *x, const char *name);
const char *http_caller(const http_exchange *x);
/* The client's x-request-id where it is a sane one, else a new one; every answer carries it. */
const char *http_request_id(const http_exchange *x);

/* --- the answer --- */

/* Adds a header; a value with control characters is dropped. */
void http_add_header(http_exchange *x, const char *name, const char *value);
/* Answers. Takes the body's parts: *body is empty afterwards. HEAD requests get the same without the body. type NULL: none. */
void http_respond(http_exchange *x, int status, const char *type, http_body *body);
/* Calls `left` if the client goes before the answer was given. */
void http_when_left(http_exchange *x, void (*left)(void *context, http_exchange *x), void *context);
const char *http_status_phrase(int status); /* "Not Found" */

/* --- an answer that grows --- */

/* Who writes a growing answer. Called from the loop, never from within the functions below. */
typedef struct http_stream_writer {
    void *context;
    /* All that was written so far is in the system's hands; may write more, or end. NULL: nobody wants to know. */
    void (*drained)(void *context, http_exchange *x);
    /* The client went, or was given up, before the end: the exchange is gone. Not called after http_stream_end. */
    void (*left)(void *context, http_exchange *x);
} http_stream_writer;

/* Answers with a body that comes in pieces (chunked; to HTTP/1.0 the connection's end is its end). False: the request was HEAD, the answer
 * is complete and the exchange is the server's again; nothing will be called. */
bool http_respond_stream(http_exchange *x, int status, const char *type, const http_stream_writer *writer);
/* Adds to the body. Copies. False when the client does not read and HTTP_STREAM_BYTES would wait for it, or memory is short: it is given
 * up, and `left` follows. */
bool http_stream_write(http_exchange *x, const void *bytes, size_t size);
size_t http_stream_waiting(const http_exchange *x); /* bytes written that the system has not taken yet */
/* The body is complete; the exchange is the server's again. */
void http_stream_end(http_exchange *x);

#endif
