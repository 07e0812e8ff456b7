#include "server/api/native_preview.h"

#include <stdio.h>

#include "server/api/native_body.h"
#include "server/api/native_tagged.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/services.h"

enum { QUALITY = 85 };

static bool read_query(const http_exchange *x, int *side, image_format *format, error *e) {
    const char *name = http_query(x, "format");
    *side = 0;
    if (!native_read_number(x, "side", PREVIEW_MAX_SIDE, side, e)) return false;
    *format = IMAGE_JPEG;
    return name == NULL || image_format_parse(name, format) ||
           error_field(e, ERROR_INVALID, "format", "'%.32s' is no format: it must be jpeg, png or webp", name);
}

void native_answer_preview(services *s, http_exchange *x, const task *t) {
    const preview *v = previews_find(s->previews, t->id);
    transcode job = {.quality = QUALITY};
    native_tag tag = {.lasts = false};
    int side;
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
