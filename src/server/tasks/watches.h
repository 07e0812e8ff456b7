/* Those who are told what happens to one task until it is over: answers that grow with it.
 *
 * One thread: the loop's. */
#ifndef IMAGINED_SERVER_TASKS_WATCHES_H
#define IMAGINED_SERVER_TASKS_WATCHES_H

#include "server/tasks/dispatch.h"

typedef struct watches watches;
typedef struct watch watch;

typedef struct watcher {
    void *context;
    /* Something happened to the task, which is borrowed for the call. With CHANGE_ENDED the watch is gone. Of the watches of this task,
     * none but its own may be dropped meanwhile. */
    void (*changed)(void *context, const task *t, task_change what);
    /* The server stops, and the task still waits and will not start. The watch is gone. */
    void (*given_up)(void *context, task *t);
} watcher;

bool watches_new(queue_manager *q, watches **out, error *e);
void watches_free(watches *w); /* nobody is told. NULL is fine */
/* The task is not over. *out is borrowed until the watch is gone. */
bool watches_add(watches *w, const task *t, const watcher *who, watch **out, error *e);
void watches_drop(watch *one); /* NULL is fine */

void watches_changed(watches *w, const task *t, task_change what);
/* Ends those of tasks that will not start any more. */
void watches_give_up_queued(watches *w);

#endif
