/* Where webhooks may go. Whoever may submit a task names an address that this server then sends to, from inside its network: without rules
 * that is a way to reach what only this machine or its neighbours should reach (server-side request forgery).
 *
 * An address is judged when the request is made, as the system's connect sees it: a name may resolve to anything, and to something else the
 * next time. What is not reachable over the public Internet by IANA's registries of special addresses (RFC 6890 and what followed it) is
 * refused unless the operator allows it.
 *
 * Nothing here changes once it is made: any thread may ask. */
#ifndef IMAGINED_SERVER_WEBHOOKS_WEBHOOK_GUARD_H
#define IMAGINED_SERVER_WEBHOOKS_WEBHOOK_GUARD_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/error.h"

enum { WEBHOOK_URL_BYTES = 2048, WEBHOOK_HOST_BYTES = 256 };

typedef struct webhook_guard webhook_guard;

/* What a URL says, as libcurl's own parser understands it, which is the one that is used when it is sent to. */
typedef struct webhook_target {
    char host[WEBHOOK_HOST_BYTES]; /* in lower case, without a dot at its end; an IPv6 address without brackets */
    int port;
    bool secure;                     /* https */
    bool is_address;                 /* an IP literal, in whichever spelling */
    struct sockaddr_storage address; /* of a literal */
} webhook_target;

/* `allowed`: names, addresses and blocks ("hooks.lan, 10.0.0.7, fd00::/8"), separated by commas, that may be sent to beside public
 * addresses. A name stands for itself, whatever it resolves to. ERROR_INVALID names what is none of these. */
bool webhook_guard_new(const char *allowed, webhook_guard **out, error *e);
void webhook_guard_free(webhook_guard *g); /* NULL is fine */

/* Reads an absolute http or https URL. Refused (ERROR_INVALID, the field "webhook"): other schemes, a user or password, a fragment,
 * characters that are no URL's, a zone of an IPv6 address, more than WEBHOOK_URL_BYTES − 1 bytes. The text itself is in no error: it may
 * hold a secret. */
bool webhook_target_parse(const char *url, webhook_target *out, error *e);
/* A literal that may not be sent to is refused (ERROR_INVALID, the field "webhook"); of a name nothing is known yet. */
bool webhook_guard_admits(const webhook_guard *g, const webhook_target *t, error *e);
/* Whether a socket for this host may be connected to this address. */
bool webhook_guard_allows(const webhook_guard *g, const char *host, const struct sockaddr *address);
/* Whether the address is reachable over the public Internet, by the registries. */
bool webhook_address_is_public(const struct sockaddr *address);

#endif
