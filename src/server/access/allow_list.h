/* Which names the server answers to, and which web pages may have it do something.
 *
 * A page of any site can make its visitor's browser send requests to this server. By DNS rebinding (its own name, resolved to this address)
 * it could even read the answers: its name then stands in Host. What it makes the browser send under the server's true name carries its
 * Origin (RFC 6454). */
#ifndef IMAGINED_SERVER_ACCESS_ALLOW_LIST_H
#define IMAGINED_SERVER_ACCESS_ALLOW_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { ALLOW_NAME_BYTES = 256 };

/* A Host, or an Origin's. Names are in lower case, without the dot that may end them; IPv6 addresses in their shortest form, without
 * brackets. */
typedef struct allow_host {
    char name[ALLOW_NAME_BYTES];
    int port;        /* 0: none was named */
    bool is_address; /* an IP literal */
    bool secure;     /* of an Origin: https */
} allow_host;

/* "name", "name:8080", "127.0.0.1:7860", "[::1]:7860". False for anything else. */
bool allow_host_parse(const char *text, allow_host *out);
/* "http://name" or "https://name:8443", nothing after it. False for anything else, "null" too. */
bool allow_origin_parse(const char *text, allow_host *out);

typedef struct allow_list allow_list;

/* Both are separated by commas, blanks around them ignored: hosts as above (without a port: with any), origins as above. ERROR_INVALID
 * names what is neither. */
bool allow_list_new(const char *hosts, const char *origins, allow_list **out, error *e);
void allow_list_free(allow_list *l); /* NULL is fine */
/* An IP literal, localhost or one of the list. NULL (HTTP/1.0, never a browser) is. */
bool allow_list_has_host(const allow_list *l, const char *host);
/* One of the list. */
bool allow_list_has_origin(const allow_list *l, const char *origin);
/* Whether the page is this server's own: its Origin names the request's Host. The scheme may differ (a proxy in front speaks https), and
 * gives the port where none is named. */
bool allow_same_origin(const char *origin, const char *host);

#endif
