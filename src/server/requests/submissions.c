#include "server/requests/submissions.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/requests/services.h"

/* One request; several may wait for one task. */
typedef struct waiter {
    submissions *owner;
    char task[TASK_ID_BYTES]; /* "" until it is handed over */
    http_exchange *exchange;  /* NULL: the client has left */
    bool owns;
    submission_answer answer;
    struct waiter *next, **link;
} waiter;

struct submissions {
    services *services;
    waiter *first;
};

bool submissions_new(services *s, submissions **out, error *e) {
    submissions *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "the submissions", sizeof *m);
    m->services = s;
    *out = m;
    return true;
}

static void drop(waiter *w) {
    *w->link = w->next;
    if (w->next != NULL) w->next->link = w->link;
    free(w);
}

void submissions_free(submissions *m) {
    if (m == NULL) return;
    while (m->first != NULL) drop(m->first);
    free(m);
}

static void left(void *context, http_exchange *x) {
    (void)x;
    ((waiter *)context)->exchange = NULL;
}

static waiter *add(submissions *m, http_exchange *x, bool owns, submission_answer answer) {
    waiter *w = calloc(1, sizeof *w);
    if (w == NULL) return NULL;
    *w = (waiter){.owner = m, .exchange = x, .owns = owns, .answer = answer, .next = m->first, .link = &m->first};
    if (w->next != NULL) w->next->link = &w->next;
    m->first = w;
    return w;
}

/* `w` is gone afterwards. */
static void decide(waiter *w, task *t, const error *why) {
    services *s = w->owner->services;
    waiter was = *w;
    drop(w);
    if (was.exchange != NULL) {
        http_when_left(was.exchange, NULL, NULL);
        was.answer(s, was.exchange, t, why);
        return;
    }
    bool at_once;
    if (!was.owns || t == NULL || task_status_is_final(t->status)) return;
    log_line(LOG_INFO, "task %s: its client has left, so it is cancelled", t->id);
    dispatch_cancel(s->dispatch, t, &at_once, NULL);
}

static void submitted(void *context, const char *id, task *t, const error *why) {
    submissions *m = context;
    if (t == NULL) idempotency_forget(m->services->idempotency, id);
    for (waiter *w = m->first; w != NULL;) {
        waiter *next = w->next;
        if (strcmp(w->task, id) == 0) decide(w, t, why);
        w = next;
    }
}

void submissions_add(submissions *m, http_exchange *x, const task_request *request, task_priority priority, bool owns,
                     submission_answer answer) {
    services *s = m->services;
    error why = {0};
    task_request asked = *request;
    asked.awaited = owns;
    waiter *w = add(m, x, owns, answer);
    if (w == NULL) {
        error_no_memory(&why, "a waiting request", sizeof *w);
        answer(s, x, NULL, &why);
        return;
    }
    if (dispatch_submit(s->dispatch, &asked, priority, submitted, m, w->task, &why)) {
        http_when_left(x, left, w);
        if (request->idempotency_key != NULL)
            idempotency_add(s->idempotency, request->owner, request->idempotency_key, request->body_hash, request->body_size, w->task);
        return;
    }
    drop(w);
    answer(s, x, NULL, &why);
}

bool submissions_join(submissions *m, http_exchange *x, const char *task_id, submission_answer answer) {
    const waiter *other = m->first;
    while (other != NULL && strcmp(other->task, task_id) != 0) other = other->next;
    waiter *w = other != NULL ? add(m, x, false, answer) : NULL;
    if (w == NULL) return false;
    memcpy(w->task, task_id, TASK_ID_BYTES);
    http_when_left(x, left, w);
    return true;
}

int submission_refusal(services *s, const error *why, int *seconds) {
    *seconds = 0;
    if (why->code != ERROR_BUSY) return 0;
    if (dispatch_draining(s->dispatch)) return 503;
    *seconds = queue_manager_retry_after(s->queue, clock_unix_ms());
    return 429;
}
