#include "server/tasks/watches.h"

#include <stdlib.h>
#include <string.h>

struct watch {
    char task[TASK_ID_BYTES];
    watcher who;
    watch *next, **link;
};

struct watches {
    queue_manager *queue;
    watch *first;
};

bool watches_new(queue_manager *q, watches **out, error *e) {
    watches *w = calloc(1, sizeof *w);
    if (w == NULL) return error_no_memory(e, "those who watch tasks", sizeof *w);
    w->queue = q;
    *out = w;
    return true;
}

void watches_drop(watch *one) {
    if (one == NULL) return;
    *one->link = one->next;
    if (one->next != NULL) one->next->link = one->link;
    free(one);
}

void watches_free(watches *w) {
    if (w == NULL) return;
    while (w->first != NULL) watches_drop(w->first);
    free(w);
}

bool watches_add(watches *w, const task *t, const watcher *who, watch **out, error *e) {
    watch *one = calloc(1, sizeof *one);
    if (one == NULL) return error_no_memory(e, "one who watches a task", sizeof *one);
    *one = (watch){.who = *who, .next = w->first, .link = &w->first};
    memcpy(one->task, t->id, sizeof one->task);
    if (one->next != NULL) one->next->link = &one->next;
    w->first = one;
    *out = one;
    return true;
}

static watch *find(const watches *w, const char *task_id) {
    watch *one = w->first;
    while (one != NULL && strcmp(one->task, task_id) != 0) one = one->next;
    return one;
}

void watches_changed(watches *w, const task *t, task_change what) {
    if (what != CHANGE_ENDED) {
        for (watch *one = w->first, *next; one != NULL; one = next) {
            next = one->next;
            if (strcmp(one->task, t->id) == 0) one->who.changed(one->who.context, t, what);
        }
        return;
    }
    for (watch *one; (one = find(w, t->id)) != NULL;) {
        watcher who = one->who;
        watches_drop(one);
        who.changed(who.context, t, what);
    }
}

/* A task that is watched is not over, and only those are forgotten: it is there. */
static task *next_stranded(const watches *w, watch **out) {
    for (*out = w->first; *out != NULL; *out = (*out)->next) {
        task *t = queue_manager_find(w->queue, (*out)->task);
        if (t->status == TASK_QUEUED && !t->closing) return t;
    }
    return NULL;
}

void watches_give_up_queued(watches *w) {
    watch *one;
    for (task *t; (t = next_stranded(w, &one)) != NULL;) {
        watcher who = one->who;
        watches_drop(one);
        who.given_up(who.context, t);
    }
}
