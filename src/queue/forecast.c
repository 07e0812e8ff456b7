#include "queue/forecast.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_HELD = 64, WORK_A_TASK = 50 /* what a task takes beside the looks at heads: it is fetched, estimated, placed */ };

static const double unknown_seconds = 1; /* where nothing was measured, only the order counts */

void forecast_free(forecast *f) {
    free(f->heads);
    free(f->tasks);
    free(f->costs);
    free(f->keys);
    free(f->loaded);
    *f = (forecast){0};
}

/* One that has a slot in the thought. */
typedef struct runner {
    task *task;
    uint32_t key, model;
    double remaining; /* seconds of an engine of its own */
    bool known;
} runner;

typedef struct simulation {
    forecast *f;
    const lanes *lanes;
    const profile_table *profiles;
    policy_view view;
    policy_held held[MAX_HELD]; /* beside the runners */
    runner runners[MAX_HELD];
    size_t running, head_count, position;
    double seconds; /* since now */
    bool all_known; /* so far, all that ended did so after a known time */
} simulation;

static bool copy(void *target, size_t *room, const void *from, size_t count, size_t size) {
    if (count > *room) {
        void *larger = realloc(*(void **)target, count * 2 * size);
        if (larger == NULL) return false;
        *(void **)target = larger;
        *room = count * 2;
    }
    if (count > 0) memcpy(*(void **)target, from, count * size);
    return true;
}

static bool reserve_costs(forecast *f, size_t count) {
    if (count > f->cost_room) {
        forecast_cost *larger = realloc(f->costs, count * 2 * sizeof *larger);
        if (larger == NULL) return false;
        f->costs = larger;
        f->cost_room = count * 2;
    }
    for (size_t i = 0; i < count; i++) f->costs[i].asked = false;
    return true;
}

static bool copy_lanes(forecast *f, const lanes *l) {
    size_t task_room = f->head_room;
    bool ok = reserve_costs(f, l->head_count) && copy(&f->tasks, &task_room, l->tasks, l->head_count, sizeof *f->tasks) &&
              copy(&f->heads, &f->head_room, l->heads, l->head_count, sizeof *f->heads) &&
              copy(&f->keys, &f->key_room, l->key_figures, l->key_room, sizeof *f->keys);
    return ok && copy(&f->loaded, &f->model_room, l->loaded, l->model_room, sizeof *f->loaded);
}

static const forecast_cost *cost_of_head(simulation *s, size_t index) {
    forecast_cost *c = &s->f->costs[index];
    if (!c->asked) c->known = profile_table_estimate(s->profiles, &s->f->tasks[index]->request, &c->estimate);
    c->asked = true;
    return c;
}

static void run(simulation *s, task *t, uint32_t key, uint32_t model, const forecast_cost *cost) {
    runner *r = &s->runners[s->running];
    *r = (runner){.task = t, .key = key, .model = model, .remaining = unknown_seconds, .known = cost->known};
    if (r->known) {
        double all = task_estimate_seconds(&cost->estimate, &t->request), done = task_done_fraction(t);
        r->remaining = all * (1 - done) + (s->f->loaded[model] || done > 0 ? 0 : cost->estimate.load_seconds);
    }
    if (t->place.through) r->remaining = 0;
    policy_held *held = &s->held[s->running++];
    *held = lanes_held(t);
    held->suspended = held->cancel_owed = false;
    t->place.forecast = s->f->number;
    t->place.end_seconds = -1;
}

/* Until the first of those that run is done. */
static void end_one(simulation *s) {
    size_t first = 0;
    for (size_t i = 1; i < s->running; i++)
        if (s->runners[i].remaining < s->runners[first].remaining) first = i;
    runner done = s->runners[first];
    s->seconds += done.remaining * (double)s->running;
    s->all_known &= done.known;
    if (s->all_known) done.task->place.end_seconds = s->seconds;
    for (size_t i = 0; i < s->running; i++) s->runners[i].remaining -= done.remaining;
    s->f->keys[done.key].slots--;
    s->f->loaded[done.model] = true; /* which it may have been all along, or not yet */
    s->running--;
    s->runners[first] = s->runners[s->running];
    s->held[first] = s->held[s->running];
}

/* The task at the head leaves, and the one behind it takes its place. */
static void advance_head(simulation *s, size_t index) {
    forecast *f = s->f;
    task *behind = f->heads[index].suspended ? NULL : f->tasks[index]->place.behind;
    if (behind == NULL) {
        s->head_count--;
        f->heads[index] = f->heads[s->head_count];
        f->tasks[index] = f->tasks[s->head_count];
        f->costs[index] = f->costs[s->head_count];
        return;
    }
    f->tasks[index] = behind;
    f->heads[index].sequence = behind->sequence;
    f->heads[index].submitted_ms = behind->created_ms;
    f->heads[index].passed_ms = behind->place.passed_ms;
    f->heads[index].batch = lanes_batch(behind);
    f->heads[index].length--;
}

/* As lanes_start. */
static void charge(simulation *s, const policy_head *h, const task *t, uint64_t turn) {
    policy_key *k = &s->f->keys[h->key];
    k->slots++;
    if (h->suspended) return;
    if (h->priority != PRIORITY_URGENT) k->turn = turn;
    if (k->service > s->view.virtual_time) s->view.virtual_time = k->service;
    else k->service = s->view.virtual_time;
    k->service += t->place.cost;
}

static bool start_next(simulation *s, int64_t now_ms) {
    policy_decision d;
    policy_view *v = &s->view;
    v->now_ms = now_ms + (int64_t)(s->seconds * 1000);
    v->heads = s->f->heads;
    v->head_count = s->head_count;
    v->held = s->held;
    v->held_count = s->running;
    v->keys = s->f->keys;
    v->loaded = s->f->loaded;
    policy_decide(v, &d);
    s->f->work += s->head_count + WORK_A_TASK;
    if (d.action != POLICY_ADMIT && d.action != POLICY_RESUME) return false;
    if (d.passed != POLICY_NO_INDEX && s->f->heads[d.passed].passed_ms == 0) s->f->heads[d.passed].passed_ms = v->now_ms;
    task *t = s->f->tasks[d.index];
    policy_head h = s->f->heads[d.index];
    charge(s, &h, t, UINT64_MAX / 2 + s->position); /* later than any turn there was */
    run(s, t, h.key, h.model, cost_of_head(s, d.index));
    s->f->loaded[h.model] = true;
    t->place.position = ++s->position;
    advance_head(s, d.index);
    return true;
}

typedef struct ranked {
    task *task;
    policy_rank rank;
    bool known;
    double seconds;
} ranked;

static int by_rank_and_age(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->task->sequence < y->task->sequence ? -1 : 1;
}

/* What is left when the thought has taken long enough. Without memory it gets no forecast. */
static void order_rest(simulation *s) {
    size_t count = 0, i = 0;
    for (size_t h = 0; h < s->head_count; h++) count += s->f->heads[h].length;
    ranked *rest = count > 0 ? calloc(count, sizeof *rest) : NULL;
    if (rest == NULL) return;
    for (size_t h = 0; h < s->head_count; h++) {
        const forecast_cost *cost = cost_of_head(s, h);
        for (task *t = s->f->tasks[h]; t != NULL && i < count; t = s->f->heads[h].suspended ? NULL : t->place.behind)
            rest[i++] = (ranked){t, policy_rank_of(t->priority, t->created_ms, s->view.now_ms, s->view.settings.age_ms), cost->known,
                                 task_estimate_seconds(&cost->estimate, &t->request)};
    }
    s->f->work += WORK_A_TASK * count;
    qsort(rest, i, sizeof *rest, by_rank_and_age);
    for (size_t n = 0; n < i; n++) {
        task *t = rest[n].task;
        s->all_known &= rest[n].known;
        if (s->all_known) s->seconds += rest[n].seconds;
        t->place.forecast = s->f->number;
        t->place.position = ++s->position;
        t->place.end_seconds = s->all_known ? s->seconds : -1;
    }
    free(rest);
}

bool forecast_make(forecast *f, const lanes *l, task *const *held, size_t held_count, const policy_settings *settings,
                   const profile_table *profiles, int64_t now_ms) {
    if (!copy_lanes(f, l)) return false;
    f->number++;
    f->made_ms = now_ms;
    f->work = 0;
    simulation s = {.f = f, .lanes = l, .profiles = profiles, .head_count = l->head_count, .all_known = true};
    s.view = (policy_view){.settings = *settings, .virtual_time = l->virtual_time, .engine_ready = true, .open = true};
    for (size_t i = 0; i < held_count && s.running < MAX_HELD; i++) {
        if (held[i]->suspended) continue;
        forecast_cost cost = {.asked = true};
        cost.known = profile_table_estimate(profiles, &held[i]->request, &cost.estimate);
        run(&s, held[i], held[i]->place.lane->key, held[i]->place.lane->model, &cost);
        held[i]->place.position = 0;
    }
    while (s.head_count > 0 && f->work <= FORECAST_MAX_WORK) {
        if (s.running < settings->max_active && s.running < MAX_HELD) {
            if (!start_next(&s, now_ms)) break;
        } else {
            end_one(&s);
        }
    }
    while (s.running > 0) end_one(&s);
    order_rest(&s);
    return true;
}
