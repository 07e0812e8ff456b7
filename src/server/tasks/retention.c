#include "server/tasks/retention.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    PORTION = 64,           /* tasks that go at once */
    NEXT_PORTION_MS = 20,
    BYTES_EACH_MS = 1000,   /* looking at the bytes costs nothing … */
    AGES_EACH_MS = 60 * 1000, /* … looking for old ones may mean a walk over the finished */
};

struct retention {
    queue_manager *queue;
    const task_keeper *keeper;
    retention_limits limits;
    loop_timer *timer;
    int64_t ages_seen_ms; /* 0: there may be more to find at once */
};

static bool has_pictures(const task *t) {
    for (int i = 0; i < t->request.count; i++)
        if (t->images[i].stored) return true;
    return false;
}

/* The oldest task that must go, with the limit that says so; NULL when none must. Finished tasks stand in the order of their ends. */
static task *next_to_go(const retention *r, bool ages, int64_t now_ms, const char **limit) {
    task *oldest = queue_manager_oldest_finished(r->queue);
    *limit = "IMAGINED_KEEP_TASKS";
    if (queue_manager_finished_count(r->queue) > r->limits.tasks) return oldest;
    bool too_many_bytes = r->limits.bytes > 0 && task_keeper_picture_bytes(r->keeper) > r->limits.bytes;
    *limit = too_many_bytes ? "IMAGINED_KEEP_IMAGES_GB" : "IMAGINED_KEEP_IMAGES_DAYS";
    if (!too_many_bytes && !ages) return NULL;
    while (oldest != NULL && !has_pictures(oldest)) oldest = queue_manager_next_finished(oldest);
    bool too_old = ages && oldest != NULL && now_ms - oldest->finished_ms > r->limits.age_ms;
    return too_many_bytes || too_old ? oldest : NULL;
}

static void tick(void *context) {
    retention *r = context;
    int64_t now_ms = clock_unix_ms();
    bool ages = r->limits.age_ms > 0 && (now_ms - r->ages_seen_ms >= AGES_EACH_MS || now_ms < r->ages_seen_ms);
    const char *limit;
    int gone = 0;
    for (task *t; gone < PORTION && (t = next_to_go(r, ages, now_ms, &limit)) != NULL; gone++) {
        log_line(LOG_INFO, "task %s is forgotten, with its pictures (%s)", t->id, limit);
        queue_manager_forget_task(r->queue, t);
    }
    if (ages && gone < PORTION) r->ages_seen_ms = now_ms;
    loop_timer_set(r->timer, gone == PORTION ? NEXT_PORTION_MS : BYTES_EACH_MS);
}

bool retention_new(loop *l, queue_manager *q, const task_keeper *k, const retention_limits *limits, retention **out, error *e) {
    retention *r = calloc(1, sizeof *r);
    if (r == NULL) return error_no_memory(e, "the retention of tasks", sizeof *r);
    *r = (retention){.queue = q, .keeper = k, .limits = *limits};
    if (!loop_timer_new(l, tick, r, &r->timer, e)) {
        free(r);
        return false;
    }
    loop_timer_set(r->timer, 0);
    *out = r;
    return true;
}

void retention_free(retention *r) {
    if (r == NULL) return;
    loop_timer_free(r->timer);
    free(r);
}
