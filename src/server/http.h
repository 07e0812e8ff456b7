/* HTTP as handlers see it: an exchange is one request and its answer.
 *
 * A handler reads the request and answers: at once, or later (it keeps the exchange and says with http_when_left what to do if the client
 * leaves before). Once answered, or left, an exchange belongs to the server again and must not be touched. Everything happens on the loop's
 * thread; a slow client is served from writeable events and holds nothing but its own answer. */
#ifndef IMAGINED_SERVER_HTTP_H
#define IMAGINED_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "server/http_body.h"
#include "server/loop.h"

enum {
    HTTP_BODY_BYTES = 1 << 20, /* of a request */
    HTTP_BODY_SECONDS = 60,    /* for all of it to arrive */
    HTTP_SEND_SECONDS = 30,    /* without progress, then the client is given up */
    HTTP_PATH_BYTES = 1024,
};

typedef struct http_server http_server;
typedef struct http_exchange http_exchange;
typedef void (*http_handler)(void *context, http_exchange *x);
/* Answers, with this status, a request that is refused before its body was read: too large, of no stated length. */
typedef void (*http_refusal)(void *context, http_exchange *x, int status, const error *why);

/* Binds and listens: "127.0.0.1:7860", "[::1]:7860", "localhost:0". `handle` gets every complete request. */
bool http_server_new(loop *l, const char *listen, http_handler handle, http_refusal refuse, void *context, http_server **out, error *e);
/* Exchanges that wait are left; connections are closed with the loop, which must be freed after. NULL is fine. */
void http_server_free(http_server *s);
/* "127.0.0.1:7860", with the port that was really bound. */
const char *http_server_address(const http_server *s);
/* Answers that are not yet sent completely. */
size_t http_server_sending(const http_server *s);

/* --- the request; all strings live as long as the exchange --- */

const char *http_method(const http_exchange *x); /* "GET", … */
const char *http_path(const http_exchange *x);   /* decoded, without the query */
/* The value of ?name=…, decoded; NULL when absent. */
const char *http_query(const http_exchange *x, const char *name);
/* Of the headers that anything here asks for (table in http_connection.c), by lower-case name; NULL when absent. */
const char *http_header(const http_exchange *x, const char *name);
const buffer *http_request_body(const http_exchange *x);
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

#endif
