#include "server/access/auth.h"

#include <stdlib.h>
#include <string.h>

#include "server/access/allow_list.h"
#include "server/access/api_keys.h"
#include "server/access/auth_header.h"
#include "server/http/answer.h"
#include "server/http/http_socket.h"

struct auth {
    const auth_options *options;
    api_keys *keys; /* NULL: there is no file, and nobody needs one */
    allow_list *allowed;
};

bool auth_new(const auth_options *options, auth **out, error *e) {
    if (options->local_needs_key && options->keys_file[0] == '\0')
        return error_set(e, ERROR_INVALID,
                         "IMAGINED_LOOPBACK_NEEDS_KEY is set, but there are no keys: name their file with IMAGINED_API_KEYS_FILE");
    auth *a = calloc(1, sizeof *a);
    if (a == NULL) return error_no_memory(e, "the gate", sizeof *a);
    a->options = options;
    if (!allow_list_new(options->allowed_hosts, options->allowed_origins, &a->allowed, e) || !auth_reload(a, e)) {
        auth_free(a);
        return false;
    }
    *out = a;
    return true;
}

void auth_free(auth *a) {
    if (a == NULL) return;
    api_keys_free(a->keys);
    allow_list_free(a->allowed);
    free(a);
}

bool auth_reload(auth *a, error *e) {
    api_keys *fresh;
    if (a->options->keys_file[0] == '\0') return true;
    if (!api_keys_read(a->options->keys_file, &fresh, e))
        return error_prefix(e, "the API keys (imagined keys add NAME makes the first): ");
    api_keys_free(a->keys);
    a->keys = fresh;
    return true;
}

size_t auth_key_count(const auth *a) { return a->keys != NULL ? api_keys_count(a->keys) : 0; }

/* --- pages --- */

bool auth_origin_allowed(const auth *a, const http_exchange *x) {
    const char *origin = http_header(x, "origin");
    return origin == NULL || allow_same_origin(origin, http_header(x, "host")) || allow_list_has_origin(a->allowed, origin);
}

static bool is_method(const http_exchange *x, const char *method) { return strcmp(http_method(x), method) == 0; }
static bool only_reads(const http_exchange *x) { return is_method(x, "GET") || is_method(x, "HEAD") || is_method(x, "OPTIONS"); }
static bool is_preflight(const http_exchange *x) {
    return is_method(x, "OPTIONS") && http_header(x, "origin") != NULL && http_header(x, "access-control-request-method") != NULL;
}

/* Lets the page's scripts read the answer. Credentials that the browser keeps are never asked for: a page sends its key itself. */
static void add_cors(http_exchange *x) {
    http_add_header(x, "access-control-allow-origin", http_header(x, "origin"));
    http_add_header(x, "access-control-expose-headers", "location, retry-after, x-request-id, preference-applied, etag");
}

static void answer_preflight(http_exchange *x) {
    const char *headers = http_header(x, "access-control-request-headers");
    http_add_header(x, "access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
    if (headers != NULL) http_add_header(x, "access-control-allow-headers", headers);
    http_add_header(x, "access-control-max-age", "600");
    answer_empty(x, 204);
}

/* --- keys --- */

/* The page's files are the same for everybody, and the page is where people enter their key. */
static bool is_open(const http_exchange *x) {
    static const char *const open[] = {"/health", "/health/ready", "/"};
    if (!only_reads(x)) return false;
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (strcmp(http_path(x), open[i]) == 0) return true;
    return strncmp(http_path(x), "/ui/", 4) == 0;
}

/* Whether it may pass as far as keys go. *name: whose key it sends; NULL: nobody's. */
static bool has_key(const auth *a, const http_exchange *x, const char **name, error *why) {
    char key[AUTH_KEY_BYTES];
    const char *azures = http_header(x, "api-key"); /* as clients made for Azure send it */
    *name = NULL;
    if (a->keys == NULL) return true;
    bool given = auth_header_key(http_header(x, "authorization"), key);
    if (given) *name = api_keys_find(a->keys, key);
    if (*name == NULL && azures != NULL) *name = api_keys_find(a->keys, azures);
    given |= azures != NULL;
    if (*name != NULL || is_open(x) || (http_is_local(x) && !a->options->local_needs_key)) return true;
    return error_set(why, ERROR_UNAUTHORIZED,
                     given ? "this API key is not known here" : "an API key is needed: send Authorization: Bearer KEY");
}

/* The status to refuse it with; 0: it may pass. */
static int judge(const auth *a, const http_exchange *x, const char **name, error *why) {
    const char *host = http_header(x, "host");
    if (!allow_list_has_host(a->allowed, host)) {
        error_set(why, ERROR_FORBIDDEN,
                  "this server does not answer to the name '%.100s': name it in IMAGINED_ALLOWED_HOSTS, or use the address", host);
        return 421;
    }
    /* A socket is no mere reading: no preflight precedes it, and the page could read what comes. */
    if (!auth_origin_allowed(a, x) && (!only_reads(x) || is_preflight(x) || http_wants_socket(x))) {
        error_set(why, ERROR_FORBIDDEN, "a page of '%.100s' may not do this: name it in IMAGINED_ALLOWED_ORIGINS",
                  http_header(x, "origin"));
        return 403;
    }
    return is_preflight(x) || has_key(a, x, name, why) ? 0 : 401; /* browsers send no key with a preflight */
}

bool auth_would_pass(const auth *a, const http_exchange *x) {
    const char *name = NULL;
    return judge(a, x, &name, NULL) == 0;
}

auth_verdict auth_admit(const auth *a, http_exchange *x, int *status, error *why) {
    const char *origin = http_header(x, "origin"), *name = NULL;
    *status = judge(a, x, &name, why);
    if (origin != NULL && *status != 421) http_add_header(x, "vary", "Origin");
    if (origin != NULL && *status != 421 && allow_list_has_origin(a->allowed, origin)) add_cors(x);
    if (*status == 401) http_add_header(x, "www-authenticate", "Bearer realm=\"imagined\", Basic realm=\"imagined\", charset=\"UTF-8\"");
    if (*status != 0) return AUTH_REFUSED;
    if (is_preflight(x)) {
        answer_preflight(x);
        return AUTH_ANSWERED;
    }
    if (name != NULL) http_set_caller(x, name);
    return AUTH_PASS;
}
