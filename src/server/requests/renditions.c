#include "server/requests/renditions.h"

#include <stdlib.h>

#include "server/requests/services.h"

typedef struct rendition {
    struct renditions *owner;
    transcoding *job; /* NULL once it is over */
    buffer file;
} rendition;

typedef struct renditions {
    services *services;
    http_exchange *exchange;
    rendition all[RENDITIONS_MAX];
    int count, made;
    renditions_done call;
    void *context;
} renditions;

/* What is still on its way is dropped. */
static void end(renditions *r, http_exchange *x, const error *why) {
    buffer files[RENDITIONS_MAX];
    if (x != NULL) http_when_left(x, NULL, NULL);
    for (int i = 0; i < r->count; i++) {
        transcoder_drop(r->services->transcoder, r->all[i].job);
        files[i] = r->all[i].file;
    }
    r->call(r->services, x, why == NULL ? files : NULL, why == NULL ? r->count : 0, why, r->context);
    for (int i = 0; i < r->count; i++) buffer_free(&files[i]);
    free(r);
}

static void left(void *context, http_exchange *x) {
    error why;
    (void)x;
    error_set(&why, ERROR_CANCELLED, "the client has left");
    end(context, NULL, &why);
}

static void made(void *context, buffer *file, const error *why) {
    rendition *one = context;
    renditions *r = one->owner;
    one->job = NULL;
    if (file == NULL) {
        end(r, r->exchange, why);
        return;
    }
    one->file = *file;
    *file = (buffer){0};
    if (++r->made == r->count) end(r, r->exchange, NULL);
}

static bool begin(renditions *r, const transcode *jobs, int count, error *e) {
    for (int i = 0; i < count; i++) {
        rendition *one = &r->all[r->count++];
        one->owner = r;
        if (transcoder_add(r->services->transcoder, &jobs[i], made, one, &one->job, e)) continue;
        for (int other = 0; other < i; other++) transcoder_drop(r->services->transcoder, r->all[other].job);
        for (int after = i + 1; after < count; after++) {
            image pixels = jobs[after].pixels;
            image_free(&pixels);
        }
        return false;
    }
    return true;
}

bool renditions_add(services *s, http_exchange *x, const transcode *jobs, int count, renditions_done done, void *context, error *e) {
    renditions *r = count <= RENDITIONS_MAX ? calloc(1, sizeof *r) : NULL;
    if (r == NULL) {
        for (int i = 0; i < count; i++) {
            image pixels = jobs[i].pixels;
            image_free(&pixels);
        }
        if (count > RENDITIONS_MAX)
            return error_set(e, ERROR_TOO_LARGE, "an answer with %d pictures: at most %d are made", count, RENDITIONS_MAX);
        return error_no_memory(e, "an answer's pictures", sizeof *r);
    }
    *r = (renditions){.services = s, .exchange = x, .call = done, .context = context};
    if (!begin(r, jobs, count, e)) {
        free(r);
        return false;
    }
    if (count == 0) end(r, x, NULL);
    else http_when_left(x, left, r);
    return true;
}
