/* The queue and its policy on a simulated server, over many random seeds: tasks of several keys, models, shapes and priorities come, are
 * cancelled, change their priority, have deadlines; the engine dies, is away, refuses for want of memory; the queue is paused. After each
 * event, the decisions are held against the rules as a naive reading of them has it, over all tasks instead of lanes:
 *   nothing is lost, and nothing runs twice to a visible result; slots and suspensions never exceed their limits; what is paused starts
 *   nothing; no task starts before a better one, save for affinity within its delay; an overdue task starts within the bound that policy.h
 *   proves; urgent tasks have a slot at once, if there is any they may take; a free slot is never left empty; no task outlives its
 *   deadline.
 *
 * Arguments: first seed, number of seeds. A failure prints its seed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/queue_manager.h"

enum { TASKS = 60, KEYS = 5, MODELS = 3, SHAPES = 2, EVENTS = 160, MAX_SLOTS = 4 };

static uint64_t seed;

#define CHECK(condition, ...)                                                     \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "seed %" PRIu64 ", line %d: ", seed, __LINE__);       \
            fprintf(stderr, __VA_ARGS__);                                         \
            fprintf(stderr, " (%s)\n", #condition);                               \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

/* What the test knows of a task by itself. */
typedef struct record {
    char id[TASK_ID_BYTES];
    task *task;
    int key, model, shape;
    int results;           /* that became visible */
    bool in_engine, suspended, engine_done, told_cancel;
    uint64_t run;          /* number of its admission */
    int steps_left;
    int64_t passed_ms;     /* when it was first passed for affinity */
    bool overdue_known;
    long starts_before, bound; /* since it is overdue: starts of others that are not urgent, and how many may be */
} record;

typedef struct world {
    queue_limits limits;
    queue_manager *q;
    record records[TASKS];
    int count;
    int64_t now;
    uint64_t random, runs;
    bool engine_ready, can_suspend, draining, calm, refused;
    uint64_t available;
    int keys, models;
    uint64_t loaded;       /* bits: models in the engine's memory */
} world;

static uint32_t draw(world *w, uint32_t below) {
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->random >> 33) % below;
}

static bool chance(world *w, uint32_t percent) { return draw(w, 100) < percent; }

static bool final(const record *r) { return task_status_is_final(r->task->status); }
static bool waits(const record *r) { return r->task->status == TASK_QUEUED && !(r->suspended && r->task->cancel_requested); }
static bool has_slot(const record *r) { return r->in_engine && !r->suspended; }

static record *record_of(world *w, const task *t) {
    for (int i = 0; i < w->count; i++)
        if (w->records[i].task == t) return &w->records[i];
    CHECK(false, "a task that nobody knows: %s", t->id);
    return NULL;
}

static int slots_of_key(const world *w, int key) {
    int n = 0;
    for (int i = 0; i < w->count; i++) n += has_slot(&w->records[i]) && w->records[i].key == key;
    return n;
}

static int slots(const world *w) {
    int n = 0;
    for (int i = 0; i < w->count; i++) n += has_slot(&w->records[i]);
    return n;
}

static int suspended(const world *w) {
    int n = 0;
    for (int i = 0; i < w->count; i++) n += w->records[i].in_engine && w->records[i].suspended;
    return n;
}

/* --- the rules, read naively --- */

/* 0 urgent, 1 overdue, 2 high, 3 normal, 4 low. */
static int rank_of(const world *w, const record *r) {
    int p = (int)r->task->priority;
    if (p == 0) return 0;
    int64_t rises = w->limits.age_ms > 0 ? (w->now - r->task->created_ms) / w->limits.age_ms : 0;
    return p + 1 - rises > 1 ? (int)(p + 1 - rises) : 1;
}

static int fitness(const world *w, const record *r) {
    if (r->task->charges == 0)
        for (int i = 0; i < w->count; i++) {
            const record *o = &w->records[i];
            bool runs = has_slot(o) && !o->engine_done && !o->task->cancel_requested && o->task->charges == 0;
            if (runs && o->model == r->model && o->shape == r->shape) return 2;
        }
    return (w->loaded >> r->model & 1) != 0;
}

/* A lane is left in order: one that runs alone, after an engine's death, holds up those of its kind. */
static bool behind_its_like(const world *w, const record *r) {
    for (int i = 0; i < w->count; i++) {
        const record *o = &w->records[i];
        bool alike = o->key == r->key && o->model == r->model && o->shape == r->shape && o->task->priority == r->task->priority;
        if (alike && waits(o) && !o->suspended && o->task->charges > 0 && o->task->sequence < r->task->sequence) return true;
    }
    return false;
}

static void check_start_against(const world *w, const record *r, const task *passed, const record *other) {
    int rank = rank_of(w, r), others = rank_of(w, other);
    if (other == r || !waits(other)) return;
    CHECK(others >= rank, "%s (rank %d) starts before %s (rank %d)", r->id, rank, other->id, others);
    if (others > rank) return;
    CHECK(r->suspended || !other->suspended, "%s starts before a suspended task of its class", r->id);
    if (r->suspended || rank == RANK_OVERDUE) return; /* the bound is checked */
    int mine = slots_of_key(w, r->key), its = slots_of_key(w, other->key);
    CHECK(mine <= its, "%s starts although its key holds %d slots, and that of %s %d", r->id, mine, other->id, its);
    if (r->key != other->key || r->task->sequence < other->task->sequence) return;
    CHECK(passed != NULL && (fitness(w, r) > fitness(w, other) || behind_its_like(w, other)),
          "%s starts before %s, an older task of its key", r->id, other->id);
}

/* The first of a class gives way to what the engine is better prepared for, so long and no longer. */
static void check_passing(world *w, const record *r, record *passed) {
    int rank = rank_of(w, r);
    if (passed->passed_ms == 0) passed->passed_ms = w->now;
    CHECK(rank > RANK_OVERDUE && rank == rank_of(w, passed) && waits(passed), "%s passes %s", r->id, passed->id);
    CHECK(fitness(w, r) > fitness(w, passed), "%s passes %s for nothing", r->id, passed->id);
    CHECK(w->now - passed->passed_ms < w->limits.affinity_ms, "%s first gave way %" PRId64 " ms ago", passed->id,
          w->now - passed->passed_ms);
}

/* Since when tasks are overdue is seen before each event. */
static void note_overdue(world *w) {
    for (int i = 0; i < w->count; i++) {
        record *r = &w->records[i];
        bool overdue = waits(r) && !r->in_engine && rank_of(w, r) == RANK_OVERDUE;
        if (!overdue) r->overdue_known = false;
        if (!overdue || r->overdue_known) continue;
        r->overdue_known = true;
        long older = 0;
        for (int n = 0; n < w->count; n++)
            older += !final(&w->records[n]) && w->records[n].key == r->key && w->records[n].task->sequence < r->task->sequence;
        r->starts_before = 0;
        r->bound = (older + 1) * w->keys;
    }
}

static void count_start(world *w, const record *started) {
    if (started->task->priority == PRIORITY_URGENT) return;
    for (int i = 0; i < w->count; i++) {
        record *r = &w->records[i];
        if (!r->overdue_known || r == started || !waits(r)) continue;
        r->starts_before++;
        CHECK(r->starts_before <= r->bound, "%s is overdue, and %ld tasks have started before it", r->id, r->starts_before);
    }
}

/* --- the server --- */

static void admit(world *w, task *t, const task *passed) {
    record *r = record_of(w, t);
    CHECK(!queue_manager_paused(w->q) && !w->draining, "%s starts although the queue is closed", t->id);
    CHECK(!r->in_engine && t->status == TASK_QUEUED, "%s is admitted twice", t->id);
    for (int i = 0; i < w->count; i++) check_start_against(w, r, passed, &w->records[i]);
    if (passed != NULL) check_passing(w, r, record_of(w, passed));
    if (!w->calm && chance(w, 5)) { /* the engine's socket is full, or its memory */
        w->refused = true;
        return;
    }
    queue_manager_start(w->q, t, w->now);
    count_start(w, r);
    r->in_engine = true;
    r->suspended = r->engine_done = r->told_cancel = false;
    r->run = ++w->runs;
    r->steps_left = 1 + (int)draw(w, 6);
}

static void finish_if_closing(world *w, record *r) {
    if (!r->task->closing) return;
    queue_manager_finish(w->q, r->task);
    r->in_engine = r->suspended = false;
}

static void carry_out(world *w, const queue_decision *d) {
    record *r = record_of(w, d->task);
    error why;
    switch (d->action) {
    case POLICY_NONE: break;
    case POLICY_ADMIT: admit(w, d->task, d->passed); break;
    case POLICY_SUSPEND:
        CHECK(has_slot(r) && !r->engine_done && !r->told_cancel && w->can_suspend, "%s cannot be suspended", r->id);
        CHECK(r->task->priority != PRIORITY_URGENT, "%s is urgent and suspended", r->id);
        for (int i = 0; i < w->count; i++) {
            const record *o = &w->records[i];
            bool could = has_slot(o) && !o->engine_done && !o->task->cancel_requested && !o->task->closing;
            CHECK(!could || o->task->priority <= r->task->priority, "%s is suspended, although %s matters less", r->id, o->id);
        }
        queue_manager_suspend_task(w->q, d->task, w->now);
        r->suspended = true;
        break;
    case POLICY_RESUME:
        CHECK(r->in_engine && r->suspended && !r->told_cancel, "%s cannot be resumed", r->id);
        for (int i = 0; i < w->count; i++)
            if (!queue_manager_paused(w->q) && !w->draining) check_start_against(w, r, NULL, &w->records[i]);
        queue_manager_resume_task(w->q, d->task, w->now);
        r->suspended = false;
        break;
    case POLICY_CANCEL:
        CHECK(r->in_engine && !r->told_cancel && d->task->cancel_requested, "%s is cancelled for nothing", r->id);
        queue_manager_cancel_told(w->q, d->task);
        r->told_cancel = true;
        break;
    case POLICY_EXPIRE:
        CHECK(d->task->request.deadline_ms != 0 && d->task->request.deadline_ms <= w->now, "%s expires too early", r->id);
        queue_manager_expired(d->task, &why);
        queue_manager_close(w->q, d->task, TASK_FAILED, &why, w->now);
        finish_if_closing(w, r);
        break;
    }
    CHECK(slots(w) <= (int)w->limits.max_active, "%d slots are held", slots(w));
    CHECK(suspended(w) <= (int)w->limits.max_suspended, "%d tasks are suspended", suspended(w));
}

/* Nothing more to decide: is everything where it should be? */
static void check_settled(world *w) {
    bool urgent = false, others = false, could_give = false, open = !queue_manager_paused(w->q) && !w->draining;
    int held = slots(w);
    for (int i = 0; i < w->count; i++) {
        const record *r = &w->records[i];
        const task *t = r->task;
        CHECK(final(r) || t->request.deadline_ms == 0 || t->request.deadline_ms > w->now, "%s outlives its deadline", r->id);
        CHECK(t->closing || !w->engine_ready || !r->in_engine || !t->cancel_requested || r->told_cancel || r->engine_done,
              "the engine does not know that %s is cancelled", r->id);
        could_give |= has_slot(r) && t->priority != PRIORITY_URGENT && !r->engine_done && !t->cancel_requested;
        if (!waits(r) || !(open || r->suspended)) continue;
        urgent |= t->priority == PRIORITY_URGENT;
        others = true;
    }
    if (!w->engine_ready || w->refused) return;
    bool can_make_room = w->can_suspend && could_give && suspended(w) < (int)w->limits.max_suspended;
    CHECK(!urgent || (held == (int)w->limits.max_active && !can_make_room), "an urgent task waits, and %d slots are held", held);
    CHECK(!others || held == (int)w->limits.max_active || (w->available != 0 && held > 0), "a slot is empty");
}

static void settle(world *w) {
    const queue_situation s = {
        .engine_ready = w->engine_ready, .can_suspend = w->can_suspend, .draining = w->draining, .available_bytes = w->available};
    queue_decision d;
    w->refused = false;
    note_overdue(w);
    for (int n = 0; !w->refused; n++) {
        CHECK(n < 4 * TASKS, "decisions without end; the last: %s, %s", policy_action_name(d.action), d.reason);
        queue_manager_decide(w->q, &s, w->now, &d);
        if (d.action == POLICY_NONE) break;
        carry_out(w, &d);
    }
    check_settled(w);
}

/* --- what happens --- */

static void submit(world *w) {
    static const char *const keys[KEYS] = {NULL, "anna", "ben", "clara", "david"};
    static const char *const models[MODELS] = {"demo", "dev", "schnell"};
    if (w->count == TASKS) return;
    record *r = &w->records[w->count];
    *r = (record){.key = (int)draw(w, (uint32_t)w->keys), .model = (int)draw(w, (uint32_t)w->models), .shape = (int)draw(w, SHAPES)};
    task_request request = {.model = models[r->model],
                            .prompt = "x",
                            .precision = "auto",
                            .width = 64 << r->shape,
                            .height = 64,
                            .steps = 1 + (int)draw(w, 8),
                            .count = 1,
                            .owner = keys[r->key]};
    if (chance(w, 15)) request.deadline_ms = w->now + 1000 + draw(w, 200000);
    static const task_priority usual[] = {PRIORITY_URGENT, PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_NORMAL, PRIORITY_LOW, PRIORITY_LOW};
    CHECK(queue_manager_submit_task(w->q, &request, usual[draw(w, 6)], w->now, &r->task, NULL), "a task is refused");
    memcpy(r->id, r->task->id, sizeof r->id);
    w->count++;
}

/* One of those in the engine gets a slice. */
static void run_slice(world *w) {
    record *r = w->count > 0 ? &w->records[draw(w, (uint32_t)w->count)] : NULL;
    for (int i = 0; i < w->count && (!has_slot(r) || r->engine_done); i++) r = &w->records[i];
    if (r == NULL || !has_slot(r) || r->engine_done || !w->engine_ready) return;
    w->now += 20 + draw(w, 3000);
    if (r->told_cancel) {
        queue_manager_cancelled(w->q, r->task, w->now);
        r->in_engine = false;
        return;
    }
    w->loaded |= UINT64_C(1) << r->model;
    const char *const names[MODELS] = {"demo", "dev", "schnell"};
    const char *loaded[MODELS];
    size_t count = 0;
    if (!w->calm && chance(w, 10)) w->loaded &= UINT64_C(1) << r->model; /* the others were evicted */
    for (int m = 0; m < MODELS; m++)
        if (w->loaded >> m & 1) loaded[count++] = names[m];
    queue_manager_set_loaded(w->q, loaded, count);
    queue_manager_run(w->q, r->task);
    if (--r->steps_left > 0) return;
    r->engine_done = true; /* its pictures are being stored */
    queue_manager_through(w->q, r->task);
}

static void store_pictures(world *w) {
    for (int i = 0; i < w->count; i++) {
        record *r = &w->records[i];
        if (!r->in_engine || !r->engine_done || (!w->calm && chance(w, 30))) continue;
        CHECK(!final(r), "%s has a result after its end", r->id);
        queue_manager_complete(w->q, r->task, w->now);
        r->results++;
        r->in_engine = false;
    }
}

/* Suspended tasks that were cancelled are let go of by the engine as well. */
static void end_cancelled(world *w) {
    for (int i = 0; i < w->count; i++) {
        record *r = &w->records[i];
        if (!r->in_engine || !r->suspended || !r->told_cancel) continue;
        queue_manager_cancelled(w->q, r->task, w->now);
        r->in_engine = r->suspended = false;
    }
}

static void engine_dies(world *w) {
    record *guilty = w->count > 0 && chance(w, 40) ? &w->records[draw(w, (uint32_t)w->count)] : NULL;
    w->engine_ready = false;
    w->loaded = 0;
    queue_manager_set_loaded(w->q, NULL, 0);
    for (int i = 0; i < w->count; i++) {
        record *r = &w->records[i];
        if (!r->in_engine || r->engine_done) continue;
        queue_manager_put_back(w->q, r->task, r == guilty && !r->suspended, "killed", w->now);
        r->in_engine = r->suspended = false;
        finish_if_closing(w, r);
        for (int n = 0; n < w->count; n++) /* it starts again, and counts again */
            if (w->records[n].overdue_known && w->records[n].key == r->key) w->records[n].bound += w->keys;
    }
}

static void meddle(world *w) {
    if (w->count == 0) return;
    record *r = &w->records[draw(w, (uint32_t)w->count)];
    bool at_once;
    if (final(r)) return;
    if (chance(w, 50)) {
        CHECK(queue_manager_cancel_task(w->q, r->task, w->now, &at_once, NULL), "%s cannot be cancelled", r->id);
        CHECK(at_once == !r->in_engine, "%s is cancelled in the wrong place", r->id);
        finish_if_closing(w, r);
    } else {
        CHECK(queue_manager_set_priority(w->q, r->task, (task_priority)draw(w, 4), NULL), "%s keeps its priority", r->id);
        r->overdue_known = false;
    }
}

static void happen(world *w) {
    uint32_t what = draw(w, 100);
    if (what < 30) submit(w);
    else if (what < 72) run_slice(w);
    else if (what < 80) store_pictures(w);
    else if (what < 86) meddle(w);
    else if (what < 88) engine_dies(w);
    else if (what < 93) w->engine_ready = true;
    else if (what == 93) queue_manager_pause(w->q, "for a test");
    else if (what < 96) queue_manager_resume(w->q);
    else if (what == 96) queue_manager_hold(w->q, "the disk is full");
    else if (what < 99) queue_manager_release(w->q);
    else w->now += draw(w, 60000);
}

static void check_counts(world *w) {
    queue_stats s = queue_manager_get_queue_stats(w->q);
    uint64_t of[TASK_CANCELLED + 1] = {0}, starts = 0;
    for (int i = 0; i < w->count; i++) of[w->records[i].task->status]++;
    CHECK(s.queued == of[TASK_QUEUED] && s.active == of[TASK_LOADING] + of[TASK_RUNNING], "the queue counts %d queued", (int)s.queued);
    CHECK(s.completed == of[TASK_COMPLETED] && s.failed == of[TASK_FAILED] && s.cancelled == of[TASK_CANCELLED], "ends are miscounted");
    CHECK(s.suspended == (uint64_t)suspended(w), "%d are suspended", (int)s.suspended);
    for (int p = 0; p <= PRIORITY_LOW; p++) starts += s.waits[p].count;
    CHECK(starts <= (uint64_t)w->count && s.runs.count == s.completed, "the histograms hold too much");
}

/* Each waiting task has a position of its own, from 1 on; the first is who would be next. */
static void check_positions(world *w) {
    bool taken[TASKS + 1] = {false};
    size_t waiting = 0;
    for (int i = 0; i < w->count; i++) waiting += waits(&w->records[i]);
    for (int i = 0; i < w->count; i++) {
        const record *r = &w->records[i];
        size_t position = queue_manager_position(w->q, r->task);
        CHECK((position > 0) == waits(r) && position <= waiting, "%s has position %zu of %zu", r->id, position, waiting);
        CHECK(position == 0 || !taken[position], "position %zu is there twice", position);
        taken[position] = position > 0;
    }
    task *next = queue_manager_get_next_task(w->q);
    if (next != NULL)
        CHECK(queue_manager_position(w->q, next) == 1, "%s is next, at position %zu", next->id, queue_manager_position(w->q, next));
}

/* No more faults: whatever was accepted ends. */
static void bring_to_an_end(world *w) {
    w->calm = w->engine_ready = true;
    queue_manager_resume(w->q);
    queue_manager_release(w->q);
    for (int round = 0; round < 20 * TASKS; round++) {
        settle(w);
        run_slice(w);
        store_pictures(w);
        end_cancelled(w);
    }
    for (int i = 0; i < w->count; i++) {
        const record *r = &w->records[i];
        CHECK(final(r), "%s is %s for ever", r->id, task_status_name(r->task->status));
        CHECK(r->results == (r->task->status == TASK_COMPLETED), "%s is %s with %d results", r->id, task_status_name(r->task->status),
              r->results);
        CHECK(queue_manager_find(w->q, r->id) == r->task, "%s is lost", r->id);
    }
}

static int64_t one_of(world *w, int64_t a, int64_t b, int64_t c) {
    uint32_t n = draw(w, 3);
    return n == 0 ? a : n == 1 ? b : c;
}

static void simulate(void) {
    static world w;
    w = (world){.random = seed * 2 + 1, .now = 1700000000000};
    w.limits = (queue_limits){.max_queued = TASKS,
                              .max_active = 1 + draw(&w, MAX_SLOTS),
                              .keep_finished = TASKS,
                              .max_suspended = draw(&w, 4),
                              .age_ms = one_of(&w, 0, 20000, 100000),
                              .affinity_ms = one_of(&w, 0, 3000, 10000)};
    w.can_suspend = chance(&w, 70);
    w.available = chance(&w, 20) ? 1 << 20 : 0;
    w.keys = 1 + (int)draw(&w, KEYS);
    w.models = 1 + (int)draw(&w, MODELS);
    w.engine_ready = true;
    error e;
    CHECK(queue_manager_new(&w.limits, &w.q, &e), "%s", e.text);
    profile_table_learn(queue_manager_profiles(w.q), "dev|auto|64x64|single|1", &(profile){.step_seconds = 0.5, .peak_bytes = 1 << 21});
    for (int i = 0; i < EVENTS; i++) {
        happen(&w);
        end_cancelled(&w);
        settle(&w);
        check_counts(&w);
        if (i % 16 == 0) check_positions(&w);
    }
    bring_to_an_end(&w);
    check_counts(&w);
    queue_manager_free(w.q);
}

int main(int argc, char **argv) {
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000;
    for (seed = first; seed < first + count; seed++) simulate();
    printf("%" PRIu64 " seeds from %" PRIu64 " on: all rules hold\n", count, first);
    return 0;
}
