/* The inputs that a task names which is not over: nobody removes them. Found anew each time from the tasks themselves, so that a restart
 * changes nothing. */
#ifndef IMAGINED_SERVER_TASKS_INPUT_HOLDS_H
#define IMAGINED_SERVER_TASKS_INPUT_HOLDS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/tasks/task_keeper.h"

typedef struct input_holds {
    const char **ids; /* sorted; borrowed from the tasks */
    size_t count, capacity;
    bool failed;      /* without memory: then all are held */
} input_holds;

/* Good until the loop goes on. A keeper of NULL has no tasks. input_holds_free. */
void input_holds_collect(const task_keeper *k, input_holds *out);
void input_holds_free(input_holds *h);
/* `context` is the input_holds, as input_store_trim wants it. */
bool input_holds_has(const void *context, const char *id);
bool input_is_held(const task_keeper *k, const char *id);

#endif
