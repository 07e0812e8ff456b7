/* Tasks by their deadlines: a heap of borrowed tasks. */
#ifndef IMAGINED_QUEUE_DEADLINES_H
#define IMAGINED_QUEUE_DEADLINES_H

#include "queue/task.h"

typedef struct deadlines {
    task **heap; /* none is earlier than its parent, at (i − 1) / 2; place.deadline is a task's index */
    size_t count, room;
} deadlines; /* zeroed: empty */

void deadlines_free(deadlines *d);
bool deadlines_reserve(deadlines *d, size_t more, error *e); /* makes room for so many more */
void deadlines_add(deadlines *d, task *t);      /* after deadlines_reserve; one without a deadline is left out */
void deadlines_remove(deadlines *d, task *t);   /* one that is not there is fine */
task *deadlines_first(const deadlines *d);      /* NULL: there is none */

#endif
