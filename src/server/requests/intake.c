#include "server/requests/intake.h"

#include <stdlib.h>

#include "base/base64.h"
#include "server/requests/services.h"

typedef struct intake {
    buffer waiting[INTAKE_MAX];
    upload_prepare prepare[INTAKE_MAX];
    input stored[INTAKE_MAX];
    int count, done; /* all; those stored */
    intake_done call;
    void *context;
} intake;

static void intake_free(intake *in) {
    for (int i = 0; i < in->count; i++) buffer_free(&in->waiting[i]);
    free(in);
}

static void end(services *s, http_exchange *x, intake *in, const error *why) {
    in->call(s, x, why == NULL ? in->stored : NULL, why == NULL ? in->count : 0, why, in->context);
    intake_free(in);
}

static bool store_next(services *s, http_exchange *x, intake *in, error *e);

/* Only tasks hold pictures: an earlier one may have been trimmed meanwhile. */
static bool all_are_there(const services *s, const http_exchange *x, const intake *in, error *e) {
    for (int i = 0; i < in->done; i++)
        if (input_store_find(s->inputs, http_caller(x), in->stored[i].id) == NULL)
            return error_set(
                e, ERROR_BUSY,
                "the request's pictures find no room beside each other now (IMAGINED_KEEP_IMAGES_GB): come again, or bring smaller ones");
    return true;
}

static void stored(services *s, http_exchange *x, const input *picture, const error *why, void *context) {
    intake *in = context;
    error fault = {0};
    if (picture == NULL) {
        end(s, x, in, why);
        return;
    }
    in->stored[in->done++] = *picture;
    if (x == NULL) {
        error_set(&fault, ERROR_CANCELLED, "the client has left");
        end(s, NULL, in, &fault);
    } else if (in->done == in->count) {
        end(s, x, in, all_are_there(s, x, in, &fault) ? NULL : &fault);
    } else if (!store_next(s, x, in, &fault)) {
        end(s, x, in, &fault);
    }
}

static bool store_next(services *s, http_exchange *x, intake *in, error *e) {
    buffer *b = &in->waiting[in->done];
    return uploads_add_prepared(s->uploads, x, b, in->prepare[in->done], stored, in, e);
}

bool intake_add(services *s, http_exchange *x, buffer *pictures, int count, intake_done done, void *context, error *e) {
    static const upload_prepare nothing[INTAKE_MAX];
    return intake_add_prepared(s, x, pictures, nothing, count, done, context, e);
}

bool intake_add_prepared(services *s, http_exchange *x, buffer *pictures, const upload_prepare *prepare, int count, intake_done done,
                         void *context, error *e) {
    intake *in = count <= INTAKE_MAX ? calloc(1, sizeof *in) : NULL;
    if (in == NULL) {
        for (int i = 0; i < count; i++) buffer_free(&pictures[i]);
        if (count > INTAKE_MAX)
            return error_set(e, ERROR_TOO_LARGE, "the request brings %d pictures: at most %d are taken", count, INTAKE_MAX);
        return error_no_memory(e, "a request's pictures", sizeof *in);
    }
    *in = (intake){.count = count, .call = done, .context = context};
    for (int i = 0; i < count; i++) {
        in->waiting[i] = pictures[i];
        in->prepare[i] = prepare[i];
        pictures[i] = (buffer){0};
    }
    if (count == 0) {
        end(s, x, in, NULL);
        return true;
    }
    if (store_next(s, x, in, e)) return true;
    intake_free(in);
    return false;
}

bool intake_from_base64(buffer *bytes, error *e) {
    size_t digits;
    buffer decoded = {0};
    if (!base64_data_url(buffer_text(bytes), bytes->size, &digits, e)) return false;
    bool ok = base64_append(buffer_text(bytes) + digits, bytes->size - digits, &decoded, e);
    if (ok && decoded.size == 0) ok = error_set(e, ERROR_INVALID, "the picture is empty");
    if (ok && decoded.size > INTAKE_PICTURE_BYTES)
        ok = error_set(e, ERROR_TOO_LARGE, "the picture's file has %zu bytes: at most %d are taken", decoded.size, INTAKE_PICTURE_BYTES);
    buffer_free(ok ? bytes : &decoded);
    if (ok) *bytes = decoded;
    return ok;
}
