#include "server/api/native_tagged.h"

#include <stdlib.h>
#include <string.h>

#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/renditions.h"
#include "server/requests/services.h"

void native_tag_add(http_exchange *x, const native_tag *tag) {
    http_add_header(x, "etag", tag->text);
    http_add_header(x, "cache-control", tag->lasts ? "private, max-age=31536000, immutable" : "no-store");
    if (tag->lasts) http_add_header(x, "x-content-type-options", "nosniff"); /* strangers' bytes: a picture, and never a page */
}

bool native_tag_answer_had(http_exchange *x, const native_tag *tag) {
    const char *had = http_header(x, "if-none-match");
    if (had == NULL || (strcmp(had, "*") != 0 && strstr(had, tag->text) == NULL)) return false;
    native_tag_add(x, tag);
    answer_empty(x, 304);
    return true;
}

/* A request whose picture is being made. */
typedef struct asked {
    native_tag tag;
    image_format format;
} asked;

static void made(services *s, http_exchange *x, buffer *files, int count, const error *why, void *context) {
    asked *a = context;
    http_body body = {0};
    error fault = {0};
    (void)s, (void)count;
    if (x != NULL && files == NULL) {
        problem_answer(x, 0, why);
    } else if (x != NULL && !http_body_add(&body, &files[0], &fault)) {
        problem_answer(x, 0, &fault);
    } else if (x != NULL) {
        native_tag_add(x, &a->tag);
        http_respond(x, 200, image_format_type(a->format), &body);
    }
    free(a);
}

void native_tag_answer_made(services *s, http_exchange *x, const transcode *job, const native_tag *tag) {
    asked *a = malloc(sizeof *a);
    error why = {0};
    if (a == NULL) {
        image pixels = job->pixels;
        image_free(&pixels);
        error_no_memory(&why, "a picture's conversion", sizeof *a);
        problem_answer(x, 0, &why);
        return;
    }
    *a = (asked){.tag = *tag, .format = job->format};
    if (renditions_add(s, x, job, 1, made, a, &why)) return;
    free(a);
    problem_answer(x, 0, &why);
}
