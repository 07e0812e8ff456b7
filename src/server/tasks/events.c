#include "server/tasks/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "server/access/owner.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/tasks/event_ring.h"
#include "server/tasks/task_document.h"

enum {
    KEPT_EVENTS = 4096,
    KEPT_BYTES = 8 << 20,
    KEPT_SECONDS = 600,       /* after the last listener left, it may still come back for what it missed */
    AHEAD_BYTES = 16 * 1024,  /* a client that has so much to read yet gets no further events for now */
    STATE_BYTES = 256 * 1024, /* of documents in a `state` event */
    HEARTBEAT_MS = 15 * 1000,
};

typedef struct stream {
    events *owner;
    http_exchange *exchange;
    char task[TASK_ID_BYTES]; /* "": all */
    uint64_t seen;            /* id of the last event it got, or that is none of its own */
    struct stream *next, **link;
} stream;

struct events {
    loop *loop;
    queue_manager *queue;
    const struct previews *previews;
    event_ring *ring;
    stream *streams;
    loop_timer *heartbeat;
    bool listened;      /* there was a stream */
    double last_left;   /* clock_seconds, when a stream ended */
    buffer data;        /* scratch */
};

/* --- what events say --- */

static bool append_json(buffer *out, yyjson_mut_doc *doc, yyjson_mut_val *root) {
    size_t size = 0;
    yyjson_mut_doc_set_root(doc, root);
    char *text = doc != NULL && root != NULL ? yyjson_mut_write(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &size) : NULL;
    yyjson_mut_doc_free(doc);
    if (text != NULL) buffer_append(out, text, size);
    free(text);
    return text != NULL && buffer_ok(out);
}

static bool append_document(const events *v, buffer *out, const task *t) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    return append_json(out, doc, task_document(doc, v->queue, v->previews, t, clock_unix_ms()));
}

static bool append_progress(const events *v, buffer *out, const task *t) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = task_progress_document(doc, t), *seen = task_preview_document(doc, v->previews, t);
    yyjson_mut_obj_add_str(doc, o, "id", t->id);
    yyjson_mut_obj_add_str(doc, o, "status", task_status_name(t->status));
    if (seen != NULL) yyjson_mut_obj_add_val(doc, o, "preview", seen);
    return append_json(out, doc, o);
}

static const char *event_name(const task *t, task_change what) {
    switch (what) {
    case CHANGE_STARTED: return "started";
    case CHANGE_PROGRESS: return "progress";
    case CHANGE_PLAN: return "plan";
    case CHANGE_QUEUED:
    case CHANGE_PREVIEW:
    case CHANGE_ENDED: break;
    }
    return task_status_holds_slot(t->status) ? "started" : task_status_name(t->status);
}

static bool append_tasks(const events *v, const http_exchange *x, buffer *out, bool active, bool *first) {
    for (const task *t = queue_manager_first(v->queue); t != NULL; t = queue_manager_after(t)) {
        if (task_status_is_final(t->status) || task_status_holds_slot(t->status) != active || !owner_sees(x, t)) continue;
        if (out->size > STATE_BYTES) return false;
        if (!*first) buffer_append_byte(out, ',');
        *first = false;
        if (!append_document(v, out, t)) return false;
    }
    return true;
}

/* All tasks of those that the client may see that are not over, those that hold a slot first, as many as are sensible at once. */
static void append_state(const events *v, const http_exchange *x, buffer *out) {
    bool first = true;
    buffer_append_text(out, "{\"tasks\":[");
    bool all = append_tasks(v, x, out, true, &first) && append_tasks(v, x, out, false, &first);
    buffer_printf(out, "],\"complete\":%s}", all ? "true" : "false");
}

/* --- streams --- */

static void drop(stream *s) {
    events *v = s->owner;
    *s->link = s->next;
    if (s->next != NULL) s->next->link = s->link;
    if (v->streams == NULL) {
        v->last_left = clock_seconds();
        loop_timer_set(v->heartbeat, -1);
    }
    free(s);
}

static void end(stream *s) {
    http_stream_end(s->exchange);
    drop(s);
}

/* A stream of one task was opened by one who may see it. */
static bool concerns(const stream *s, const ring_event *event) {
    if (s->task[0] != '\0') return strcmp(s->task, event->task) == 0;
    return owner_sees(s->exchange, http_caller(s->exchange) != NULL ? queue_manager_find(s->owner->queue, event->task) : NULL);
}

/* Gives the stream what it has not seen, as far as its client keeps up. The stream may end. */
static void pump(stream *s) {
    event_ring *ring = s->owner->ring;
    if (!event_ring_reaches(ring, s->seen)) {
        end(s);
        return;
    }
    while (http_stream_waiting(s->exchange) < AHEAD_BYTES) {
        const ring_event *event = event_ring_after(ring, s->seen);
        if (event == NULL) return;
        s->seen = event->id;
        if (!concerns(s, event)) continue;
        if (!http_stream_write(s->exchange, event->text, event->size)) return;
        if (event->final && s->task[0] != '\0') {
            end(s);
            return;
        }
    }
}

static void drained(void *context, http_exchange *x) {
    (void)x;
    pump(context);
}

static void left(void *context, http_exchange *x) {
    (void)x;
    drop(context);
}

static void beat(void *context) {
    events *v = context;
    for (stream *s = v->streams; s != NULL; s = s->next)
        if (http_stream_waiting(s->exchange) == 0) http_stream_write(s->exchange, ":\n\n", 3);
    if (v->streams != NULL) loop_timer_set(v->heartbeat, HEARTBEAT_MS);
}

/* --- life --- */

bool events_new(loop *l, queue_manager *q, const struct previews *p, events **out, error *e) {
    events *v = calloc(1, sizeof *v);
    if (v == NULL) return error_no_memory(e, "the events", sizeof *v);
    v->loop = l;
    v->queue = q;
    v->previews = p;
    /* Ids of an earlier run are lower than all of this one, unless it had more than a thousand events each millisecond. */
    if (!event_ring_new((uint64_t)clock_unix_ms() * 1024, KEPT_EVENTS, KEPT_BYTES, &v->ring, e) ||
        !loop_timer_new(l, beat, v, &v->heartbeat, e)) {
        events_free(v);
        return false;
    }
    *out = v;
    return true;
}

void events_free(events *v) {
    if (v == NULL) return;
    while (v->streams != NULL) drop(v->streams);
    event_ring_free(v->ring);
    loop_timer_free(v->heartbeat);
    buffer_free(&v->data);
    free(v);
}

void events_end(events *v) {
    while (v->streams != NULL) end(v->streams);
}

static bool somebody_cares(const events *v) {
    return v->streams != NULL || (v->listened && clock_seconds() - v->last_left < KEPT_SECONDS);
}

void events_changed(events *v, const task *t, task_change what) {
    if (what == CHANGE_PREVIEW) return; /* it is told with the progress that follows it */
    if (!somebody_cares(v)) {
        event_ring_skip(v->ring);
        return;
    }
    buffer_clear(&v->data);
    bool progress = what == CHANGE_PROGRESS;
    if (progress ? append_progress(v, &v->data, t) : append_document(v, &v->data, t))
        event_ring_add(v->ring, t->id, event_name(t, what), progress, task_status_is_final(t->status), buffer_text(&v->data), v->data.size);
    else event_ring_skip(v->ring);
    if (v->data.failed) buffer_free(&v->data);
    for (stream *s = v->streams, *next; s != NULL; s = next) {
        next = s->next;
        pump(s);
    }
}

/* --- answers --- */

/* The id that the client saw last, 0 when it names none or something that is no number. */
static uint64_t last_seen(const http_exchange *x) {
    const char *text = http_header(x, "last-event-id");
    if (text == NULL) text = http_query(x, "last_event_id");
    if (text == NULL || text[0] == '\0' || strlen(text) > 19 || strspn(text, "0123456789") != strlen(text)) return 0;
    return strtoull(text, NULL, 10);
}

/* True where the client had the task's last event. */
static bool is_through(const events *v, const task *t, uint64_t seen) {
    if (!task_status_is_final(t->status) || !event_ring_reaches(v->ring, seen)) return false;
    const ring_event *event = event_ring_after(v->ring, seen);
    while (event != NULL && strcmp(event->task, t->id) != 0) event = event_ring_after(v->ring, event->id);
    return event == NULL;
}

/* One event with what is now, under the id given out last: what follows follows. */
static bool write_present(events *v, http_exchange *x, const task *t) {
    buffer data = {0}, text = {0};
    if (t != NULL) append_document(v, &data, t);
    else append_state(v, x, &data);
    buffer_printf(&text, "id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long)event_ring_last(v->ring),
                  t != NULL ? event_name(t, CHANGE_QUEUED) : "state", buffer_text(&data));
    bool ok = buffer_ok(&data) && buffer_ok(&text) && http_stream_write(x, text.data, text.size);
    buffer_free(&data);
    buffer_free(&text);
    return ok;
}

static void begin(events *v, stream *s, const task *t, uint64_t seen) {
    http_exchange *x = s->exchange;
    v->listened = true;
    s->link = &v->streams;
    s->next = v->streams;
    if (s->next != NULL) s->next->link = &s->next;
    else loop_timer_set(v->heartbeat, HEARTBEAT_MS);
    v->streams = s;
    http_stream_write(x, "retry: 1000\n\n", 13);
    s->seen = seen;
    if (event_ring_reaches(v->ring, seen)) {
        pump(s);
        return;
    }
    s->seen = event_ring_last(v->ring);
    bool ok = write_present(v, x, t);
    if (!ok || (t != NULL && task_status_is_final(t->status))) end(s);
}

void events_answer(events *v, http_exchange *x, const task *t) {
    uint64_t seen = last_seen(x);
    if (t != NULL && is_through(v, t, seen)) {
        answer_empty(x, 204);
        return;
    }
    stream *s = calloc(1, sizeof *s);
    error why;
    if (s == NULL) {
        error_no_memory(&why, "a stream of events", sizeof *s);
        problem_answer(x, 0, &why);
        return;
    }
    *s = (stream){.owner = v, .exchange = x};
    if (t != NULL) memcpy(s->task, t->id, sizeof s->task);
    const http_stream_writer writer = {s, drained, left};
    http_add_header(x, "cache-control", "no-cache");
    http_add_header(x, "x-accel-buffering", "no"); /* a proxy is to pass each event on at once */
    if (http_respond_stream(x, 200, "text/event-stream", &writer)) begin(v, s, t, seen);
    else free(s);
}
