/* What loop.c and http_connection.c share: libwebsockets' side of the loop. */
#ifndef IMAGINED_SERVER_HTTP_LOOP_LWS_H
#define IMAGINED_SERVER_HTTP_LOOP_LWS_H

#include <libwebsockets.h>

#include "server/http/loop.h"

enum {
    LOOP_HEADER_BYTES = 16 * 1024, /* of a request's headers, all together */
    LOOP_CONNECTIONS = 4096,       /* descriptors at most */
    LOOP_IDLE_SECONDS = 60,        /* of a kept-alive connection between requests */
    LOOP_PING_SECONDS = 15,        /* of a WebSocket's silence, until it is asked whether it is there, … */
    LOOP_DEAD_SECONDS = 45,        /* … and given up */
    LOOP_HEADER_SECONDS = 20,      /* for a request's headers to arrive */
};

struct lws_context *loop_context(const loop *l);
struct lws_vhost *loop_vhost(const loop *l);
/* What http_callback needs: the http_server, NULL while there is none. */
void loop_set_connection_context(loop *l, void *context);
/* http_connection.c: what happens on a connection. */
int http_callback(void *server, struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t size);

#endif
