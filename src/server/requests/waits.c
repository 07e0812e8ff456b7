#include "server/requests/waits.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/requests/services.h"

typedef struct wait {
    waits *owner;
    http_exchange *exchange;
    char task[TASK_ID_BYTES];
    loop_timer *timer; /* NULL: no limit */
    bool owns;
    wait_answer answer;
    struct wait *next;
} wait;

struct waits {
    loop *loop;
    services *services;
    wait *first;
};

bool waits_new(loop *l, services *s, waits **out, error *e) {
    waits *w = calloc(1, sizeof *w);
    if (w == NULL) return error_no_memory(e, "the waiting requests", sizeof *w);
    w->loop = l;
    w->services = s;
    *out = w;
    return true;
}

static void drop(wait *one) {
    wait **link = &one->owner->first;
    while (*link != one) link = &(*link)->next;
    *link = one->next;
    loop_timer_free(one->timer);
    free(one);
}

void waits_free(waits *w) {
    if (w == NULL) return;
    while (w->first != NULL) drop(w->first);
    free(w);
}

static void answer(wait *one, task *t) {
    services *s = one->owner->services;
    http_exchange *x = one->exchange;
    wait_answer how = one->answer;
    drop(one);
    how(s, x, t);
}

static void time_over(void *context) {
    wait *one = context;
    /* A task with a waiter is not final, and only final tasks are forgotten: it is there. */
    answer(one, queue_manager_find(one->owner->services->queue, one->task));
}

static void left(void *context, http_exchange *x) {
    wait *one = context;
    services *s = one->owner->services;
    task *t = one->owns ? queue_manager_find(s->queue, one->task) : NULL;
    (void)x;
    drop(one);
    bool at_once;
    if (t == NULL || task_status_is_final(t->status)) return;
    log_line(LOG_INFO, "task %s: its client has left, so it is cancelled", t->id);
    dispatch_cancel(s->dispatch, t, &at_once, NULL);
}

bool waits_add(waits *w, http_exchange *x, task *t, int64_t ms, bool owns, wait_answer how, error *e) {
    if (task_status_is_final(t->status)) {
        how(w->services, x, t);
        return true;
    }
    wait *one = calloc(1, sizeof *one);
    if (one == NULL) return error_no_memory(e, "a waiting request", sizeof *one);
    *one = (wait){.owner = w, .exchange = x, .owns = owns, .answer = how, .next = w->first};
    memcpy(one->task, t->id, sizeof one->task);
    if (ms >= 0 && !loop_timer_new(w->loop, time_over, one, &one->timer, e)) {
        free(one);
        return false;
    }
    if (ms >= 0) loop_timer_set(one->timer, ms);
    w->first = one;
    http_when_left(x, left, one);
    return true;
}

void waits_task_finished(waits *w, task *t) {
    for (wait *one = w->first, *next; one != NULL; one = next) {
        next = one->next;
        if (strcmp(one->task, t->id) == 0) answer(one, t);
    }
}

void waits_give_up_queued(waits *w) {
    for (wait *one = w->first, *next; one != NULL; one = next) {
        next = one->next;
        task *t = queue_manager_find(w->services->queue, one->task);
        if (t->status != TASK_QUEUED || t->closing) continue;
        bool owns = one->owns, at_once;
        answer(one, t);
        if (owns) dispatch_cancel(w->services->dispatch, t, &at_once, NULL); /* what nobody waits for must not run after the next start */
    }
}
