/* The last events, for clients that come back: text as it goes over the wire, by rising ids, bounded in number and bytes.
 *
 * Of a task's progress only the newest is kept: who reads slowly, or comes back, gets the newest and not each. Other events leave only at
 * the old end. Pure: no clock, no loop. One thread. */
#ifndef IMAGINED_SERVER_TASKS_EVENT_RING_H
#define IMAGINED_SERVER_TASKS_EVENT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "queue/task.h"

typedef struct event_ring event_ring;

typedef struct ring_event {
    uint64_t id;
    char task[TASK_ID_BYTES];
    bool progress; /* replaced by the task's next one */
    bool final;    /* the task has no further event */
    char *text;    /* "id: …\nevent: …\ndata: …\n\n" */
    size_t size;
} ring_event;

/* Ids begin after `last_id`. */
bool event_ring_new(uint64_t last_id, size_t max_events, size_t max_bytes, event_ring **out, error *e);
void event_ring_free(event_ring *r); /* NULL is fine */
/* Adds an event; `data` is one line. NULL: not kept (memory is short), and event_ring_reaches is false for all ids before. Borrowed until
 * the next call that changes the ring; so are those of event_ring_after. */
const ring_event *event_ring_add(event_ring *r, const char *task_id, const char *name, bool progress, bool final, const char *data,
                                 size_t size);
/* Counts an event that nobody is there for, and forgets all before it. */
void event_ring_skip(event_ring *r);
/* The first event with an id above `id`; NULL when there is none. */
const ring_event *event_ring_after(const event_ring *r, uint64_t id);
/* Whether the ring still has all that came after `id`, and `id` is one that it gave out. */
bool event_ring_reaches(const event_ring *r, uint64_t id);
uint64_t event_ring_last(const event_ring *r); /* the id given out last */

#endif
