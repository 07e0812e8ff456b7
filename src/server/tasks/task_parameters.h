/* The settings of a task's picture as the text that stands in its file (image/parameters.h). */
#ifndef IMAGINED_SERVER_TASKS_TASK_PARAMETERS_H
#define IMAGINED_SERVER_TASKS_TASK_PARAMETERS_H

#include "base/buffer.h"
#include "queue/task.h"

/* Appends that of image `index`. A failed allocation marks the buffer. */
void task_parameters_write(const task *t, int index, buffer *out);

#endif
