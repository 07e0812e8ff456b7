#include "queue/queue_manager_internal.h"

#include <stdio.h>

enum {
    RETRY_UNKNOWN = 5, /* seconds, while nobody knows how fast the queue moves */
    RETRY_MAX = 120,
    FORECAST_MAX_AGE_MS = 1000,
    FORECAST_WORK_PER_MS = 5000, /* so that forecasts take a tenth of a processor at most */
};

/* --- pauses --- */

void queue_manager_pause(queue_manager *q, const char *reason) {
    q->paused = true;
    snprintf(q->pause_reason, sizeof q->pause_reason, "%s", reason != NULL ? reason : "");
}

void queue_manager_resume(queue_manager *q) { q->paused = false; }

void queue_manager_hold(queue_manager *q, const char *reason) {
    q->holding = true;
    snprintf(q->hold_reason, sizeof q->hold_reason, "%s", reason != NULL ? reason : "");
}

void queue_manager_release(queue_manager *q) { q->holding = false; }
bool queue_manager_paused(const queue_manager *q) { return q->paused || q->holding; }
bool queue_manager_paused_by_operator(const queue_manager *q) { return q->paused; }
const char *queue_manager_pause_reason(const queue_manager *q) { return q->holding ? q->hold_reason : q->paused ? q->pause_reason : ""; }

/* --- room for those who are refused --- */

void queue_manager_count_departure(queue_manager *q, int64_t now_ms) {
    departures *d = &q->departures;
    double gap = (double)(now_ms - d->last_ms);
    if (d->last_ms != 0 && gap >= 0) d->mean_ms = d->mean_ms > 0 ? d->mean_ms * 0.8 + gap * 0.2 : gap > 1 ? gap : 1;
    d->last_ms = now_ms;
    if (d->refused > 0) d->refused--;
}

int queue_manager_retry_after(queue_manager *q, int64_t now_ms) {
    departures *d = &q->departures;
    if (queue_manager_paused(q)) return RETRY_MAX;
    double turn = (double)++d->refused;
    if (!(d->mean_ms > 0)) return RETRY_UNKNOWN;
    /* A queue that has come to a halt is as slow as its halt is long. */
    double since = (double)(now_ms - d->last_ms), mean = since > d->mean_ms ? since : d->mean_ms;
    double seconds = mean * turn / 1000.0;
    return seconds <= 1 ? 1 : seconds >= RETRY_MAX ? RETRY_MAX : (int)(seconds + 0.999);
}

/* --- who is where, and until when --- */

void queue_manager_disturb(queue_manager *q) { q->outlook->stale = true; }

bool queue_manager_waits(const task *t) { return t->status == TASK_QUEUED && !t->closing && !(t->suspended && t->cancel_requested); }

/* A new forecast if this one is out of date, and making it would not keep the server from its work. */
static void look_ahead(const queue_manager *q, int64_t now_ms) {
    outlook *o = q->outlook;
    int64_t age = now_ms - o->forecast.made_ms;
    bool known = o->forecast.number != 0, due = o->stale || age >= FORECAST_MAX_AGE_MS || age < 0;
    if (known && (!due || (age >= 0 && (uint64_t)age < o->forecast.work / FORECAST_WORK_PER_MS))) return;
    o->stale = !forecast_make(&o->forecast, &q->lanes, q->held, q->held_count, &q->settings, q->profiles, now_ms);
}

size_t queue_manager_position(const queue_manager *q, const task *t) {
    if (!queue_manager_waits(t)) return 0;
    look_ahead(q, q->now_ms);
    if (t->place.forecast == q->outlook->forecast.number && t->place.position > 0) return t->place.position;
    size_t position = 0; /* it came, or came back, after the forecast */
    for (int p = 0; p <= (int)t->priority; p++) position += q->waiting[p];
    return position;
}

bool queue_manager_eta(const queue_manager *q, const task *t, int64_t now_ms, double *seconds) {
    bool active = task_status_holds_slot(t->status) && !t->closing;
    if (!active && (!queue_manager_waits(t) || queue_manager_paused(q))) return false;
    look_ahead(q, now_ms);
    const forecast *f = &q->outlook->forecast;
    if (t->place.forecast != f->number || t->place.end_seconds < 0) return false;
    *seconds = t->place.end_seconds - (double)(now_ms - f->made_ms) / 1000.0;
    if (*seconds < 0) *seconds = 0;
    return true;
}

policy_rank queue_manager_rank(const queue_manager *q, const task *t, int64_t now_ms) {
    return policy_rank_of(t->priority, t->created_ms, now_ms, q->settings.age_ms);
}

queue_stats queue_manager_get_queue_stats(const queue_manager *q) {
    queue_stats stats = q->stats;
    for (int p = PRIORITY_URGENT; p <= PRIORITY_LOW; p++) stats.waiting[p] = q->waiting[p];
    return stats;
}
