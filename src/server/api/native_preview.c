#include "server/api/native_preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/answer.h"
#include "server/api/native_tagged.h"
#include "server/problem.h"
#include "server/services.h"

enum { QUALITY = 85 };

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

void native_answer_preview(services *s, http_exchange *x, const task *t) {
    const preview *v = previews_find(s->previews, t->id);
    transcode job = {.quality = QUALITY};
    native_tag tag = {.lasts = false};
    int side = 0;
    error why = {0};
    if (!read_query(x, &side, &job.format, &why)) {
        problem_answer(x, 0, &why);
        return;
    }
    /* No error: whoever follows a task to its end asks once too often, and browsers complain of what they are told is not there. */
    if (v == NULL) {
        http_add_header(x, "cache-control", "no-store");
        answer_empty(x, 204);
        return;
    }
    snprintf(tag.text, sizeof tag.text, "\"%d-%d-%d-%s\"", v->image, v->step, side, image_format_name(job.format));
    if (native_tag_answer_had(x, &tag)) return;
    preview_size(v, side, &job.width, &job.height);
    if (transcode_copy_preview(v, &job.pixels, &why)) native_tag_answer_made(s, x, &job, &tag);
    else problem_answer(x, 0, &why);
}
