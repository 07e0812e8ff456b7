#include "server/http/router.h"

#include <string.h>

#include "server/http/answer.h"

bool router_match(const char *pattern, const char *path, char id[ROUTE_ID_BYTES]) {
    id[0] = '\0';
    while (*pattern != '\0') {
        if (strncmp(pattern, "{id}", 4) == 0) {
            size_t n = strcspn(path, "/");
            if (n == 0 || n >= ROUTE_ID_BYTES) return false;
            memcpy(id, path, n);
            id[n] = '\0';
            pattern += 4;
            path += n;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

static bool knows(const route_table *t, const char *path) {
    char id[ROUTE_ID_BYTES];
    for (size_t i = 0; i < t->count; i++)
        if (router_match(t->routes[i].pattern, path, id)) return true;
    return false;
}

static const route_table *table_of(const route_table *const *tables, size_t count, const char *path) {
    for (size_t i = 0; i < count; i++)
        if (knows(tables[i], path)) return tables[i];
    for (size_t i = 0; i < count; i++)
        if (tables[i]->prefix != NULL && strncmp(path, tables[i]->prefix, strlen(tables[i]->prefix)) == 0) return tables[i];
    return tables[count - 1];
}

void router_answer_error(const route_table *const *tables, size_t count, http_exchange *x, int status, const error *why) {
    table_of(tables, count, http_path(x))->answer_error(x, status, why);
}

static bool allows(const route *r, const char *method) {
    return strcmp(r->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

/* "GET, HEAD, DELETE" of the path's routes; empty when it has none. */
static void list_methods(const route_table *t, const char *path, buffer *out) {
    char id[ROUTE_ID_BYTES];
    for (size_t i = 0; i < t->count; i++) {
        if (!router_match(t->routes[i].pattern, path, id)) continue;
        buffer_printf(out, "%s%s%s", out->size > 0 ? ", " : "", t->routes[i].method,
                      strcmp(t->routes[i].method, "GET") == 0 ? ", HEAD" : "");
    }
}

static void refuse(const route_table *t, http_exchange *x) {
    buffer methods = {0};
    error why;
    list_methods(t, http_path(x), &methods);
    if (methods.size == 0) {
        error_set(&why, ERROR_NOT_FOUND, "there is nothing at %s", http_path(x));
        t->answer_error(x, 404, &why);
    } else {
        http_add_header(x, "allow", buffer_text(&methods));
        if (strcmp(http_method(x), "OPTIONS") == 0) {
            answer_empty(x, 204);
        } else {
            error_set(&why, ERROR_UNSUPPORTED, "%s does not take %s; it takes %s", http_path(x), http_method(x), buffer_text(&methods));
            t->answer_error(x, 405, &why);
        }
    }
    buffer_free(&methods);
}

static const route *route_of(const route_table *t, const http_exchange *x, char id[ROUTE_ID_BYTES]) {
    for (size_t i = 0; i < t->count; i++)
        if (allows(&t->routes[i], http_method(x)) && router_match(t->routes[i].pattern, http_path(x), id)) return &t->routes[i];
    return NULL;
}

size_t router_body_bytes(const route_table *const *tables, size_t count, const http_exchange *x) {
    char id[ROUTE_ID_BYTES];
    const route *r = route_of(table_of(tables, count, http_path(x)), x, id);
    return r != NULL && r->body_bytes > 0 ? r->body_bytes : HTTP_BODY_BYTES;
}

void router_handle(const route_table *const *tables, size_t count, struct services *s, http_exchange *x) {
    const route_table *t = table_of(tables, count, http_path(x));
    char id[ROUTE_ID_BYTES];
    const route *r = route_of(t, x, id);
    if (r != NULL) r->handle(s, x, id);
    else refuse(t, x);
}
