#include "queue/deadlines.h"

#include <stdlib.h>

void deadlines_free(deadlines *d) {
    free(d->heap);
    *d = (deadlines){0};
}

bool deadlines_reserve(deadlines *d, size_t more, error *e) {
    if (d->count + more <= d->room) return true;
    size_t room = d->room > 0 ? d->room : 16;
    while (room < d->count + more) room *= 2;
    task **heap = realloc(d->heap, room * sizeof *heap);
    if (heap == NULL) return error_no_memory(e, "the tasks' deadlines", room * sizeof *heap);
    d->heap = heap;
    d->room = room;
    return true;
}

static void put(deadlines *d, size_t i, task *t) {
    d->heap[i] = t;
    t->place.deadline = i;
}

static void rise(deadlines *d, size_t i, task *t) {
    for (; i > 0 && d->heap[(i - 1) / 2]->request.deadline_ms > t->request.deadline_ms; i = (i - 1) / 2) put(d, i, d->heap[(i - 1) / 2]);
    put(d, i, t);
}

static void sink(deadlines *d, size_t i, task *t) {
    for (size_t child; (child = 2 * i + 1) < d->count; i = child) {
        if (child + 1 < d->count && d->heap[child + 1]->request.deadline_ms < d->heap[child]->request.deadline_ms) child++;
        if (d->heap[child]->request.deadline_ms >= t->request.deadline_ms) break;
        put(d, i, d->heap[child]);
    }
    put(d, i, t);
}

void deadlines_add(deadlines *d, task *t) {
    t->place.deadline = SIZE_MAX;
    if (t->request.deadline_ms == 0) return;
    d->count++;
    rise(d, d->count - 1, t);
}

void deadlines_remove(deadlines *d, task *t) {
    size_t i = t->place.deadline;
    if (i == SIZE_MAX) return;
    t->place.deadline = SIZE_MAX;
    task *last = d->heap[--d->count];
    if (last == t) return;
    if (i > 0 && d->heap[(i - 1) / 2]->request.deadline_ms > last->request.deadline_ms) rise(d, i, last);
    else sink(d, i, last);
}

task *deadlines_first(const deadlines *d) { return d->count > 0 ? d->heap[0] : NULL; }
