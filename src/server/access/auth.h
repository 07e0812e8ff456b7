/* The gate before every route: for which name, from which page, with which key.
 *
 * 1. A Host that the server does not answer to: 421 (DNS rebinding).
 * 2. An Origin that is neither this server's own nor allowed: its preflights, WebSockets, and what would change something, 403. Allowed
 *    ones get their CORS headers, and their preflights are answered here.
 * 3. Where there is a file of keys: no right key: 401, but for /health, /health/ready and the page's own files, and for this machine
 *    itself (http_is_local), unless that needs one, too. The key's name becomes the request's caller (http_caller), which owner.h goes by.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_ACCESS_AUTH_H
#define IMAGINED_SERVER_ACCESS_AUTH_H

#include "base/error.h"
#include "server/http/http.h"

typedef struct auth auth;

/* Strings are never NULL, "" where there is none; borrowed as long as the gate. */
typedef struct auth_options {
    const char *keys_file; /* IMAGINED_API_KEYS_FILE; server/access/api_keys.h has its form */
    bool local_needs_key;  /* IMAGINED_LOOPBACK_NEEDS_KEY */
    const char *allowed_hosts, *allowed_origins; /* server/access/allow_list.h has their form */
} auth_options;

typedef enum auth_verdict { AUTH_PASS, AUTH_ANSWERED, AUTH_REFUSED } auth_verdict;

/* Fails where the file cannot be read: a name typed wrongly must not open the door. */
bool auth_new(const auth_options *options, auth **out, error *e);
void auth_free(auth *a); /* NULL is fine */
/* Reads the keys anew; on failure the old ones stay. */
bool auth_reload(auth *a, error *e);
size_t auth_key_count(const auth *a);
/* What auth_admit would say, AUTH_REFUSED or not, by the head alone: whether the body is worth taking. Leaves no trace. */
bool auth_would_pass(const auth *a, const http_exchange *x);
/* AUTH_REFUSED: *status and *why are to be answered in the API's own shape; headers that belong to it were added. AUTH_ANSWERED: nothing is
 * left to do. */
auth_verdict auth_admit(const auth *a, http_exchange *x, int *status, error *why);
/* Whether the page that asks may have something done: it is no page, this server's own, or an allowed one. For upgrades, which no preflight
 * precedes. */
bool auth_origin_allowed(const auth *a, const http_exchange *x);

#endif
