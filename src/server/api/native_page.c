#include "server/api/native_page.h"

#include <string.h>

#include "server/http/answer.h"
#include "server/http/page.h"
#include "server/http/problem.h"

/* The page runs its own files and nothing else, talks to this server only, and stands in nobody's frame. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
                             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static const page_file *find(const char *name) {
    for (size_t i = 0; i < page_file_count; i++)
        if (strcmp(page_files[i].name, name) == 0) return &page_files[i];
    return NULL;
}

void native_answer_file(http_exchange *x, const page_file *f) {
    const char *had = http_header(x, "if-none-match"), *takes = http_header(x, "accept-encoding");
    bool small = takes != NULL && strstr(takes, "gzip") != NULL && strstr(takes, "gzip;q=0") == NULL;
    http_body body = {0};
    buffer bytes = {0};
    http_add_header(x, "etag", f->tag);
    http_add_header(x, "cache-control", "no-cache"); /* kept, but asked about each time: a new binary has a new page */
    http_add_header(x, "vary", "accept-encoding");
    http_add_header(x, "content-security-policy", policy);
    http_add_header(x, "x-content-type-options", "nosniff");
    http_add_header(x, "referrer-policy", "no-referrer");
    if (had != NULL && strstr(had, f->tag) != NULL) {
        answer_empty(x, 304);
        return;
    }
    buffer_append(&bytes, small ? f->small : f->plain, small ? f->small_size : f->plain_size);
    if (!buffer_ok(&bytes) || !http_body_add(&body, &bytes, NULL)) {
        buffer_free(&bytes);
        answer_empty(x, 503);
        return;
    }
    if (small) http_add_header(x, "content-encoding", "gzip");
    http_respond(x, 200, f->type, &body);
}

void native_get_page(struct services *s, http_exchange *x, const char *id) {
    (void)s, (void)id;
    native_answer_file(x, find("index.html"));
}

void native_get_page_file(struct services *s, http_exchange *x, const char *id) {
    const page_file *f = find(id);
    error why;
    (void)s;
    if (f != NULL) {
        native_answer_file(x, f);
        return;
    }
    error_set(&why, ERROR_NOT_FOUND, "the page has no file '%.64s'", id);
    problem_answer(x, 0, &why);
}
