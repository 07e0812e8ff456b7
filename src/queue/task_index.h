/* Tasks by their ids: a hash table of borrowed tasks. */
#ifndef IMAGINED_QUEUE_TASK_INDEX_H
#define IMAGINED_QUEUE_TASK_INDEX_H

#include "queue/task.h"

typedef struct task_index {
    task **places; /* `room` of them, a power of two, never more than half taken */
    size_t room, count;
} task_index; /* zeroed: empty */

void task_index_free(task_index *x);
/* Makes room for so many more. */
bool task_index_reserve(task_index *x, size_t more, error *e);
void task_index_add(task_index *x, task *t); /* after task_index_reserve; its id is new */
task *task_index_find(const task_index *x, const char *id);
void task_index_remove(task_index *x, const task *t);

#endif
