/* Which handler a request goes to: tables of method and pattern. A pattern may hold one "{id}", which stands for one path segment.
 *
 * What no table knows is 404; a known path with another method is 405 with `Allow`; OPTIONS on a known path is 204 with `Allow`; HEAD goes
 * to GET's handler. */
#ifndef IMAGINED_SERVER_HTTP_ROUTER_H
#define IMAGINED_SERVER_HTTP_ROUTER_H

#include "server/http/http.h"

struct services;

enum { ROUTE_ID_BYTES = 128 };

typedef struct route {
    const char *method, *pattern;
    void (*handle)(struct services *s, http_exchange *x, const char *id); /* id "" where the pattern has none; borrowed for the call */
    size_t body_bytes; /* of a request, at most; 0: HTTP_BODY_BYTES */
} route;

/* One API: its errors have one shape. */
typedef struct route_table {
    const char *prefix; /* paths that begin so and that no table knows are answered in its shape; NULL: none are */
    const route *routes;
    size_t count;
    void (*answer_error)(http_exchange *x, int status, const error *why); /* status 0: by the code */
} route_table;

/* The first table that has a route for the path decides, whatever the method; where none has, the first whose prefix fits. The last one's
 * prefix is "". */
void router_handle(const route_table *const *tables, size_t count, struct services *s, http_exchange *x);
/* The most bytes that the body of a request with this head may have. */
size_t router_body_bytes(const route_table *const *tables, size_t count, const http_exchange *x);
/* A refusal in the shape of the API that the path belongs to. */
void router_answer_error(const route_table *const *tables, size_t count, http_exchange *x, int status, const error *why);
/* Whether `path` has the form of `pattern`; then *id holds what stood for {id}, "" if nothing did. */
bool router_match(const char *pattern, const char *path, char id[ROUTE_ID_BYTES]);

#endif
