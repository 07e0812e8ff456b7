#include "engine/watchdog.h"

#include <math.h>

static const double looks = 20, shortest = 0.1, longest = 30; /* in a timeout; seconds between two of them */
static const double gap = 2;             /* intervals: what is longer nobody watched */
static const double still_looks = 2.5;   /* intervals: each look comes a little late */
static const double work_share = 0.001;  /* of a core */
static const double least_work = 0.02;   /* seconds: twice the finest that the kernel tells */

static double interval(double timeout) { return fmin(fmax(timeout / looks, shortest), longest); }

void watchdog_begin(watchdog *w, double now) { *w = (watchdog){.looked_at = now, .cpu = -1}; }

double watchdog_due(const watchdog *w, double timeout) { return w->looked_at + interval(timeout); }

bool watchdog_is_still(const watchdog *w, double timeout) { return w->still > still_looks * interval(timeout); }

static void note_life(watchdog *w, double cpu) {
    w->still = 0;
    w->cpu = cpu;
}

watchdog_verdict watchdog_look(watchdog *w, const watchdog_sight *s, double timeout) {
    double passed = fmin(s->now - w->looked_at, gap * interval(timeout));
    w->looked_at = s->now;
    if (s->heard) { /* also where it came just before a debugger did */
        w->silent = 0;
        note_life(w, s->cpu);
    }
    if (!s->awaited || s->debugged || s->heard) return WATCHDOG_ALIVE;
    w->silent += passed;
    w->still += passed;
    bool worked = s->cpu < 0 || (w->cpu >= 0 && s->cpu - w->cpu >= fmax(work_share * timeout, least_work));
    if (worked) note_life(w, s->cpu);
    else if (w->cpu < 0) w->cpu = s->cpu;
    if (w->still >= timeout) return WATCHDOG_STILL;
    return !s->on_cpu && w->silent >= WATCHDOG_VOUCHED * timeout ? WATCHDOG_SILENT : WATCHDOG_ALIVE;
}
