#include "server/tasks/event_ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

/* Invariants: events[0 … count) have rising ids, all in (forgotten, last]; bytes is the sum of their sizes. */
struct event_ring {
    ring_event *events; /* max_events of them */
    size_t count, max_events;
    size_t bytes, max_bytes;
    uint64_t last, forgotten; /* forgotten: the highest id of those that left at the old end */
};

bool event_ring_new(uint64_t last_id, size_t max_events, size_t max_bytes, event_ring **out, error *e) {
    event_ring *r = calloc(1, sizeof *r);
    if (r != NULL) r->events = calloc(max_events, sizeof *r->events);
    if (r == NULL || r->events == NULL) {
        free(r);
        return error_no_memory(e, "the last events", max_events * sizeof *r->events);
    }
    r->max_events = max_events;
    r->max_bytes = max_bytes;
    r->last = r->forgotten = last_id;
    *out = r;
    return true;
}

static void drop(event_ring *r, size_t from, size_t count) {
    for (size_t i = from; i < from + count; i++) {
        r->bytes -= r->events[i].size;
        free(r->events[i].text);
    }
    memmove(&r->events[from], &r->events[from + count], (r->count - from - count) * sizeof *r->events);
    r->count -= count;
}

static void forget(event_ring *r, size_t count) {
    if (count == 0) return;
    r->forgotten = r->events[count - 1].id;
    drop(r, 0, count);
}

void event_ring_free(event_ring *r) {
    if (r == NULL) return;
    forget(r, r->count);
    free(r->events);
    free(r);
}

void event_ring_skip(event_ring *r) {
    forget(r, r->count);
    r->forgotten = ++r->last;
}

/* The old end goes in large pieces, so that moving the rest costs little an event. */
static void make_room(event_ring *r, size_t size) {
    size_t count = r->count == r->max_events ? (r->max_events + 3) / 4 : 0, bytes = r->bytes;
    for (size_t i = 0; i < count; i++) bytes -= r->events[i].size;
    while (count < r->count && bytes + size > r->max_bytes) bytes -= r->events[count++].size;
    forget(r, count);
}

static void drop_older_progress(event_ring *r, const char *task_id) {
    for (size_t i = r->count; i-- > 0;) {
        if (!r->events[i].progress || strcmp(r->events[i].task, task_id) != 0) continue;
        drop(r, i, 1);
        return;
    }
}

const ring_event *event_ring_add(event_ring *r, const char *task_id, const char *name, bool progress, bool final, const char *data,
                                 size_t size) {
    buffer text = {0};
    buffer_printf(&text, "id: %llu\nevent: %s\ndata: ", (unsigned long long)r->last + 1, name);
    buffer_append(&text, data, size);
    buffer_append_text(&text, "\n\n");
    if (!buffer_ok(&text) || text.size > r->max_bytes) {
        buffer_free(&text);
        event_ring_skip(r);
        return NULL;
    }
    if (progress) drop_older_progress(r, task_id);
    make_room(r, text.size);
    ring_event *event = &r->events[r->count++];
    *event = (ring_event){.id = ++r->last, .progress = progress, .final = final, .text = text.data, .size = text.size};
    strncpy(event->task, task_id, sizeof event->task - 1);
    r->bytes += event->size;
    return event;
}

const ring_event *event_ring_after(const event_ring *r, uint64_t id) {
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->events[middle].id > id) high = middle;
        else low = middle + 1;
    }
    return low < r->count ? &r->events[low] : NULL;
}

bool event_ring_reaches(const event_ring *r, uint64_t id) { return id >= r->forgotten && id <= r->last; }
uint64_t event_ring_last(const event_ring *r) { return r->last; }
