/* An exchange from its making to its answer; what the connection does with it is in http_connection.c and http_answer.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/http/http_internal.h"

http_exchange *http_exchange_new(http_server *s, struct lws *wsi) {
    http_exchange *x = calloc(1, sizeof *x);
    if (x == NULL) return NULL;
    x->server = s;
    x->wsi = wsi;
    x->started = clock_seconds();
    x->next = s->exchanges;
    x->link = &s->exchanges;
    if (x->next != NULL) x->next->link = &x->next;
    s->exchanges = x;
    return x;
}

void http_exchange_free(http_exchange *x) {
    if (x == NULL) return;
    http_exchange_count(x, false);
    *x->link = x->next;
    if (x->next != NULL) x->next->link = x->link;
    for (int i = 0; i < HTTP_HEADERS; i++) free(x->headers[i]);
    for (int i = 0; i < HTTP_QUERIES; i++) free(x->queries[i]);
    http_exchange_drop_body(x);
    buffer_free(&x->extra);
    http_body_free(&x->answer);
    buffer_free(&x->stream.waiting);
    free(x);
}

void http_exchange_drop_body(http_exchange *x) {
    x->server->large_bytes -= x->body_large;
    x->body_large = 0;
    buffer_free(&x->request);
}

void http_take_request_body(http_exchange *x, buffer *out) {
    *out = x->request;
    x->request = (buffer){0};
    http_exchange_drop_body(x);
}

void http_exchange_count(http_exchange *x, bool sending) {
    if (x->counted && !sending) x->server->sending--;
    if (!x->counted && sending) x->server->sending++;
    x->counted = sending;
}

void http_exchange_leave(http_exchange *x) {
    if (x->state == EXCHANGE_HANDLING && x->left != NULL) x->left(x->left_context, x);
    if (x->stream.on && !x->stream.ended && x->stream.writer.left != NULL) x->stream.writer.left(x->stream.writer.context, x);
}

const char *http_path(const http_exchange *x) { return x->path; }
const buffer *http_request_body(const http_exchange *x) { return &x->request; }
bool http_is_local(const http_exchange *x) { return x->local; }
const char *http_caller(const http_exchange *x) { return x->caller[0] != '\0' ? x->caller : NULL; }
void http_set_caller(http_exchange *x, const char *name) { snprintf(x->caller, sizeof x->caller, "%s", name); }
const char *http_request_id(const http_exchange *x) { return x->request_id; }

const char *http_method(const http_exchange *x) {
    static const char *const names[] = {[LWSHUMETH_GET] = "GET",  [LWSHUMETH_POST] = "POST",   [LWSHUMETH_OPTIONS] = "OPTIONS",
                                        [LWSHUMETH_PUT] = "PUT",  [LWSHUMETH_PATCH] = "PATCH", [LWSHUMETH_DELETE] = "DELETE",
                                        [LWSHUMETH_HEAD] = "HEAD"};
    return x->method >= 0 && x->method < (int)(sizeof names / sizeof *names) && names[x->method] != NULL ? names[x->method] : "?";
}

const char *http_query(const http_exchange *x, const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < HTTP_QUERIES; i++)
        if (x->queries[i] != NULL && strncmp(x->queries[i], name, n) == 0 && x->queries[i][n] == '=') return x->queries[i] + n + 1;
    return NULL;
}

void http_add_header(http_exchange *x, const char *name, const char *value) {
    for (const char *c = value; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) return;
    buffer_append(&x->extra, name, strlen(name) + 1);
    buffer_append(&x->extra, value, strlen(value) + 1);
}

void http_respond(http_exchange *x, int status, const char *type, http_body *body) {
    x->state = EXCHANGE_ANSWERED;
    http_exchange_count(x, true);
    x->left = NULL;
    x->status = status;
    x->server->answered[status - HTTP_STATUS_FIRST]++;
    x->type = type;
    x->answer = *body;
    *body = (http_body){0};
    http_exchange_drop_body(x);
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_SEND_SECONDS);
    lws_callback_on_writable(x->wsi);
}

void http_when_left(http_exchange *x, void (*left)(void *context, http_exchange *x), void *context) {
    x->left = left;
    x->left_context = context;
}

const char *http_status_phrase(int status) {
    static const struct {
        int status;
        const char *phrase;
    } phrases[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status) return phrases[i].phrase;
    return "Error";
}
