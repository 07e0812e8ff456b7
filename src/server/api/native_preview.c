#include "server/api/native_preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/answer.h"
#include "server/problem.h"
#include "server/renditions.h"
#include "server/services.h"

enum { QUALITY = 85, TAG_BYTES = 64 };

/* A request whose file is being made. */
typedef struct asked {
    image_format format;
    char tag[TAG_BYTES];
} asked;

static bool read_query(const http_exchange *x, int *side, image_format *format, error *e) {
    const char *wanted = http_query(x, "side"), *name = http_query(x, "format");
    char *end;
    long pixels = wanted != NULL ? strtol(wanted, &end, 10) : 0;
    if (wanted != NULL && (wanted[0] < '0' || wanted[0] > '9' || *end != '\0' || pixels < 1 || pixels > PREVIEW_MAX_SIDE))
        return error_field(e, ERROR_INVALID, "side", "'%.32s' is no side: it must be from 1 to %d pixels", wanted, PREVIEW_MAX_SIDE);
    *side = (int)pixels;
    *format = IMAGE_JPEG;
    return name == NULL || image_format_parse(name, format) ||
           error_field(e, ERROR_INVALID, "format", "'%.32s' is no format: it must be jpeg, png or webp", name);
}

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
        http_add_header(x, "etag", a->tag);
        http_add_header(x, "cache-control", "no-store");
        http_respond(x, 200, image_format_type(a->format), &body);
    }
    free(a);
}

static bool is_had(const http_exchange *x, const char *tag) {
    const char *had = http_header(x, "if-none-match");
    return had != NULL && (strcmp(had, "*") == 0 || strstr(had, tag) != NULL);
}

static bool make(services *s, http_exchange *x, const preview *v, int side, const asked *how, error *e) {
    transcode job = {.format = how->format, .quality = QUALITY};
    asked *a = malloc(sizeof *a);
    if (a == NULL) return error_no_memory(e, "a preview", sizeof *a);
    *a = *how;
    preview_size(v, side, &job.width, &job.height);
    if (transcode_copy_preview(v, &job.pixels, e) && renditions_add(s, x, &job, 1, made, a, e)) return true;
    free(a);
    return false;
}

void native_answer_preview(services *s, http_exchange *x, const task *t) {
    const preview *v = previews_find(s->previews, t->id);
    asked how = {0};
    int side = 0;
    error why = {0};
    if (!read_query(x, &side, &how.format, &why)) {
        problem_answer(x, 0, &why);
        return;
    }
    /* No error: whoever follows a task to its end asks once too often, and browsers complain of what they are told is not there. */
    if (v == NULL) {
        http_add_header(x, "cache-control", "no-store");
        answer_empty(x, 204);
        return;
    }
    snprintf(how.tag, sizeof how.tag, "\"%d-%d-%d-%s\"", v->image, v->step, side, image_format_name(how.format));
    if (is_had(x, how.tag)) {
        http_add_header(x, "etag", how.tag);
        http_add_header(x, "cache-control", "no-store");
        answer_empty(x, 304);
    } else if (!make(s, x, v, side, &how, &why)) {
        problem_answer(x, 0, &why);
    }
}
