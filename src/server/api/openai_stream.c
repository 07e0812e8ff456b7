#include "server/api/openai_stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/api/openai_error.h"
#include "server/requests/services.h"

enum {
    AHEAD_BYTES = 64 * 1024, /* a client that has so much to read yet gets no more for now */
    PIECE_BYTES = 48 * 1024,
    HEARTBEAT_MS = 15 * 1000,
};

/* A picture that is converted for an event. */
typedef struct conversion {
    struct openai_stream *owner;
    transcoding *job; /* NULL: none on its way */
    int index;
    bool final; /* else a partial one */
} conversion;

typedef struct openai_stream {
    services *services;
    http_exchange *exchange;
    watch *watch; /* NULL: the task is over */
    char task[TASK_ID_BYTES];
    openai_choices choices;
    int width, height, count;
    int steps, first_step; /* those that are run, and how many are left out before */
    conversion conversions[OPENAI_MAX_PARTIALS + OPENAI_MAX_IMAGES];
    int begun, open; /* conversions; those on their way */
    int partials;    /* conversions of partial images */
    int completed;   /* events of final images */
    bool ended;      /* the task has its pictures */
    bool complete;   /* nothing follows what is in `out` */
    http_body out;   /* events that the client has not taken yet */
    loop_timer *heartbeat;
} openai_stream;

static void drop_conversions(openai_stream *st) {
    for (int i = 0; i < st->begun; i++) {
        transcoder_drop(st->services->transcoder, st->conversions[i].job);
        st->conversions[i].job = NULL;
    }
    st->open = 0;
}

static void stream_free(openai_stream *st) {
    drop_conversions(st);
    watches_drop(st->watch);
    loop_timer_free(st->heartbeat);
    http_body_free(&st->out);
    free(st);
}

/* --- to the client --- */

/* Gives the client what there is, as far as it keeps up. The stream may be gone afterwards. */
static void pump(openai_stream *st) {
    char piece[PIECE_BYTES];
    error why = {0};
    while (http_stream_waiting(st->exchange) < AHEAD_BYTES) {
        size_t size;
        if (!http_body_read(&st->out, piece, sizeof piece, &size, &why)) {
            log_line(LOG_ERROR, "task %s: its stream breaks off: %s", st->task, why.text);
            http_body_free(&st->out);
            st->complete = true;
            size = 0;
        }
        if (size > 0) {
            if (!http_stream_write(st->exchange, piece, size)) return; /* given up: `left` follows */
            continue;
        }
        http_body_free(&st->out);
        if (!st->complete) return;
        http_stream_end(st->exchange);
        stream_free(st);
        return;
    }
}

static void beat(void *context) {
    openai_stream *st = context;
    loop_timer_set(st->heartbeat, HEARTBEAT_MS);
    if (st->out.count == 0 && http_stream_waiting(st->exchange) == 0) http_stream_write(st->exchange, ":\n\n", 3);
}

/* --- events --- */

static void finish(openai_stream *st) {
    drop_conversions(st);
    st->complete = true;
    pump(st);
}

static void fail(openai_stream *st, int status, const error *why) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, openai_error_document(doc, status, why));
    char *data = yyjson_mut_write(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL);
    buffer text = {0};
    if (data != NULL) buffer_printf(&text, "event: error\ndata: %s\n\n", data);
    free(data);
    yyjson_mut_doc_free(doc);
    watches_drop(st->watch);
    st->watch = NULL;
    http_body_add(&st->out, &text, NULL); /* without memory the stream just ends */
    finish(st);
}

/* `file` NULL: the stored picture. */
static bool add_event(openai_stream *st, const char *kind, int index, buffer *file, error *e) {
    const char *family = st->choices.edit ? "image_edit" : "image_generation";
    char id[PICTURE_ID_BYTES], path[PATH_MAX];
    buffer text = {0};
    bool partial = strcmp(kind, "partial_image") == 0;
    buffer_printf(&text,
                  "event: %s.%s\ndata: {\"type\":\"%s.%s\",\"created_at\":%lld,\"size\":\"%dx%d\",\"quality\":\"%s\","
                  "\"background\":\"opaque\",\"output_format\":\"%s\",",
                  family, kind, family, kind, (long long)(clock_unix_ms() / 1000), st->width, st->height, st->choices.quality,
                  image_format_name(st->choices.format));
    if (partial) buffer_printf(&text, "\"partial_image_index\":%d,", index);
    else buffer_append_text(&text, "\"usage\":" OPENAI_NO_USAGE ",");
    buffer_append_text(&text, "\"b64_json\":\"");
    if (!http_body_add(&st->out, &text, e)) return false;
    picture_id_format(st->task, index, id);
    bool ok = file != NULL ? http_body_add_base64(&st->out, file, e)
                           : picture_store_path(st->services->pictures, id, path, e) && http_body_add_file(&st->out, path, true, e);
    return ok && http_body_add_text(&st->out, "\"}\n\n", e);
}

/* An event that lacks its end would spoil those behind it: the stream ends with it. */
static void break_off(openai_stream *st, const error *why) {
    log_line(LOG_ERROR, "task %s: its stream breaks off: %s", st->task, why->text);
    watches_drop(st->watch);
    st->watch = NULL;
    finish(st);
}

/* Stored pictures that need no conversion, once the partial ones are out. */
static bool add_stored(openai_stream *st, error *e) {
    if (st->choices.format != IMAGE_PNG || st->open > 0) return true;
    for (; st->completed < st->count; st->completed++)
        if (!add_event(st, "completed", st->completed, NULL, e)) return false;
    return true;
}

/* Gives the client what there is, and the end where all is there. */
static void advance(openai_stream *st) {
    error why = {0};
    bool ok = !st->ended || add_stored(st, &why);
    if (ok && st->completed == st->count) ok = st->complete = http_body_add_text(&st->out, "data: [DONE]\n\n", &why);
    if (ok) pump(st);
    else break_off(st, &why);
}

static void converted(void *context, buffer *file, const error *why) {
    conversion *c = context;
    openai_stream *st = c->owner;
    error fault = {0};
    c->job = NULL;
    st->open--;
    if (file == NULL && c->final) {
        fail(st, 0, why);
        return;
    }
    if (file != NULL && !add_event(st, c->final ? "completed" : "partial_image", c->index, file, &fault)) {
        break_off(st, &fault);
        return;
    }
    st->completed += c->final;
    advance(st);
}

static bool convert(openai_stream *st, transcode *job, int index, bool final, error *e) {
    conversion *c = &st->conversions[st->begun];
    *c = (conversion){.owner = st, .index = index, .final = final};
    job->format = st->choices.format;
    job->quality = openai_quality(&st->choices);
    if (!transcoder_add(st->services->transcoder, job, converted, c, &c->job, e)) return false;
    st->begun++;
    st->open++;
    return true;
}

/* The next is due when as large a share of the steps is done as it is of all that were asked for, the final one among them. A picture that
 * begins from another has fewer steps. */
static void show_preview(openai_stream *st) {
    const preview *v = previews_find(st->services->previews, st->task);
    int asked = st->choices.partial_images;
    transcode job = {.width = st->width, .height = st->height};
    bool due = v != NULL && v->image == 0 && st->partials < asked &&
               (v->step - st->first_step) * (asked + 1) >= (st->partials + 1) * st->steps;
    /* Where there is no room or memory for it, it is left out. */
    if (due && transcode_copy_preview(v, &job.pixels, NULL) && convert(st, &job, st->partials, false, NULL)) st->partials++;
}

static void end(openai_stream *st, const task *t) {
    error why = {0};
    st->ended = t->status == TASK_COMPLETED;
    if (!st->ended) {
        int status = openai_failure(t, &why);
        fail(st, status, &why);
        return;
    }
    bool ok = true;
    for (int i = 0; ok && st->choices.format != IMAGE_PNG && i < st->count; i++) {
        char id[PICTURE_ID_BYTES], path[PATH_MAX];
        picture_id_format(st->task, i, id);
        ok = picture_store_path(st->services->pictures, id, path, &why) && convert(st, &(transcode){.path = path}, i, true, &why);
    }
    if (ok) advance(st);
    else fail(st, 0, &why);
}

/* --- the task and the client --- */

static void changed(void *context, const task *t, task_change what) {
    openai_stream *st = context;
    if (what == CHANGE_PREVIEW) show_preview(st);
    if (what != CHANGE_ENDED) return;
    st->watch = NULL;
    end(st, t);
}

static void cancel(openai_stream *st, task *t) {
    bool at_once;
    if (t != NULL && !task_status_is_final(t->status)) dispatch_cancel(st->services->dispatch, t, &at_once, NULL);
}

static void given_up(void *context, task *t) {
    openai_stream *st = context;
    error why;
    int status = openai_failure(t, &why);
    st->watch = NULL;
    cancel(st, t); /* what nobody waits for must not run after the next start */
    fail(st, status, &why);
}

static void drained(void *context, http_exchange *x) {
    (void)x;
    pump(context);
}

static void left(void *context, http_exchange *x) {
    openai_stream *st = context;
    (void)x;
    if (st->watch != NULL) {
        log_line(LOG_INFO, "task %s: its client has left, so it is cancelled", st->task);
        watches_drop(st->watch);
        st->watch = NULL;
        cancel(st, queue_manager_find(st->services->queue, st->task));
    }
    stream_free(st);
}

bool openai_stream_begin(services *s, http_exchange *x, task *t, const openai_choices *choices, error *e) {
    const task_request *r = &t->request;
    openai_stream *st = calloc(1, sizeof *st);
    if (st == NULL) return error_no_memory(e, "a stream of pictures", sizeof *st);
    *st = (openai_stream){.services = s, .exchange = x, .choices = *choices};
    st->width = r->width;
    st->height = r->height;
    st->count = r->count;
    st->steps = task_steps_run(r);
    st->first_step = r->steps - st->steps;
    memcpy(st->task, t->id, sizeof st->task);
    const watcher who = {st, changed, given_up};
    bool over = task_status_is_final(t->status);
    if (!loop_timer_new(s->loop, beat, st, &st->heartbeat, e) || (!over && !watches_add(s->watches, t, &who, &st->watch, e))) {
        stream_free(st);
        return false;
    }
    loop_timer_set(st->heartbeat, HEARTBEAT_MS);
    const http_stream_writer writer = {st, drained, left};
    http_add_header(x, "cache-control", "no-cache");
    http_add_header(x, "x-accel-buffering", "no"); /* a proxy is to pass each event on at once */
    if (!http_respond_stream(x, 200, "text/event-stream", &writer)) stream_free(st);
    else if (over) end(st, t);
    return true;
}
