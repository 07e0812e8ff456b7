#include "queue/policy.h"

#include <stdio.h>

/* How well a head goes with what the engine has: 2 it shares steps with a task that runs, 1 its model is loaded, 0 neither. */
enum { FITNESSES = 3 };

const char *policy_rank_name(policy_rank r) {
    static const char *const names[] = {"urgent", "overdue", "high", "normal", "low"};
    return names[r];
}

const char *policy_action_name(policy_action a) {
    static const char *const names[] = {"none", "admit", "suspend", "resume", "cancel", "expire"};
    return names[a];
}

policy_rank policy_rank_of(task_priority priority, int64_t submitted_ms, int64_t now_ms, int64_t age_ms) {
    if (priority == PRIORITY_URGENT) return RANK_URGENT;
    policy_rank rank = (policy_rank)(RANK_OVERDUE + (int)priority);
    if (age_ms <= 0) return rank;
    int64_t threshold = submitted_ms;
    while (rank > RANK_OVERDUE && now_ms - threshold >= age_ms) { /* at most three turns: cheaper than to divide */
        threshold += age_ms;
        rank--;
    }
    return rank;
}

/* A head with what its comparison needs. */
typedef struct candidate {
    size_t index; /* POLICY_NO_INDEX: there is none */
    policy_rank rank;
    bool suspended;
    uint32_t slots;
    double service;
    uint64_t turn, sequence;
} candidate;

static candidate consider(const policy_view *v, size_t index) {
    const policy_head *h = &v->heads[index];
    const policy_key *k = &v->keys[h->key];
    return (candidate){
        .index = index,
        .rank = policy_rank_of((task_priority)h->priority, h->submitted_ms, v->now_ms, v->settings.age_ms),
        .suspended = h->suspended,
        .slots = k->slots,
        .service = k->service > v->virtual_time ? k->service : v->virtual_time,
        .turn = k->turn > h->sequence ? k->turn : h->sequence,
        .sequence = h->sequence,
    };
}

static bool before(const candidate *a, const candidate *b) {
    if (b->index == POLICY_NO_INDEX) return true;
    if (a->rank != b->rank) return a->rank < b->rank;
    if (a->suspended != b->suspended) return a->suspended;
    if (a->rank == RANK_OVERDUE) {
        if (a->turn != b->turn) return a->turn < b->turn;
    } else {
        if (a->slots != b->slots) return a->slots < b->slots;
        if (a->service != b->service) return a->service < b->service;
    }
    return a->sequence < b->sequence;
}

static bool shares_steps(const policy_view *v, const policy_head *h) {
    if (h->batch == 0) return false;
    for (size_t i = 0; i < v->held_count; i++)
        if (!v->held[i].suspended && !v->held[i].fixed && v->held[i].batch == h->batch) return true;
    return false;
}

static int fitness(const policy_view *v, const policy_head *h) { return shares_steps(v, h) ? 2 : v->loaded[h->model] ? 1 : 0; }

static size_t slots_taken(const policy_view *v) {
    size_t n = 0;
    for (size_t i = 0; i < v->held_count; i++) n += !v->held[i].suspended;
    return n;
}

static bool fits(const policy_view *v, const policy_head *h) {
    return v->available_bytes == 0 || h->peak_bytes <= v->available_bytes || slots_taken(v) == 0 || h->priority == PRIORITY_URGENT;
}

/* The lowest priority that is not urgent, of these the one that started last. */
static size_t victim(const policy_view *v) {
    size_t found = POLICY_NO_INDEX;
    for (size_t i = 0; i < v->held_count; i++) {
        const policy_held *t = &v->held[i], *best = found != POLICY_NO_INDEX ? &v->held[found] : NULL;
        if (t->suspended || t->fixed || t->cancel_owed || t->priority == PRIORITY_URGENT) continue;
        if (best == NULL || t->priority > best->priority || (t->priority == best->priority && t->started > best->started)) found = i;
    }
    return found;
}

static double waited(const policy_view *v, const policy_head *h) { return (double)(v->now_ms - h->submitted_ms) / 1000.0; }

static void make_room(const policy_view *v, const policy_head *h, policy_decision *out) {
    size_t found = v->can_suspend && v->held_count - slots_taken(v) < v->settings.max_suspended ? victim(v) : POLICY_NO_INDEX;
    if (found == POLICY_NO_INDEX) {
        snprintf(out->reason, sizeof out->reason, "an urgent task waits for a slot: no task that runs can be suspended");
        return;
    }
    out->action = POLICY_SUSPEND;
    out->index = found;
    snprintf(out->reason, sizeof out->reason, "an urgent task takes its slot after %.3f s", waited(v, h));
}

static void start(const policy_view *v, const candidate *c, policy_decision *out) {
    const policy_head *h = &v->heads[c->index];
    out->index = c->index;
    out->action = c->suspended ? POLICY_RESUME : POLICY_ADMIT;
    const char *submitted_as = task_priority_name((task_priority)h->priority), *rank = policy_rank_name(c->rank);
    if (c->suspended) {
        snprintf(out->reason, sizeof out->reason, "a slot is free again; suspended tasks go first in their class (%s)", rank);
    } else if ((int)c->rank != (int)h->priority + (h->priority != PRIORITY_URGENT)) {
        snprintf(out->reason, sizeof out->reason, "first of %s, risen from %s by waiting %.1f s", rank, submitted_as, waited(v, h));
    } else {
        snprintf(out->reason, sizeof out->reason, "first of %s after %.3f s; its key holds %u slots", rank, waited(v, h),
                 (unsigned)c->slots);
    }
}

/* Whether `other` may go before `first`, which it fits better than. */
static bool may_pass(const policy_view *v, const candidate *first, const candidate *other) {
    const policy_head *h = &v->heads[first->index];
    bool open = h->passed_ms == 0 || v->now_ms - h->passed_ms < v->settings.affinity_ms;
    return other->index != POLICY_NO_INDEX && other->rank == first->rank && other->slots <= first->slots && open;
}

static void start_with_affinity(const policy_view *v, const candidate best[FITNESSES], const candidate *first, policy_decision *out) {
    bool gives_way = v->settings.affinity_ms > 0 && first->rank >= RANK_HIGH && !first->suspended;
    for (int f = FITNESSES - 1; gives_way && f > fitness(v, &v->heads[first->index]); f--) {
        if (!may_pass(v, first, &best[f])) continue;
        if (!fits(v, &v->heads[best[f].index])) break; /* nor may another overtake that one */
        start(v, &best[f], out);
        out->passed = first->index;
        snprintf(out->reason, sizeof out->reason, "%s; an older task gives way, for %.1f s at most",
                 f == 2 ? "it can share steps with a task that runs" : "its model is loaded", (double)v->settings.affinity_ms / 1000.0);
        return;
    }
    start(v, first, out);
}

static bool cancel_or_expire(const policy_view *v, policy_decision *out) {
    if (v->earliest_deadline_ms != 0 && v->earliest_deadline_ms <= v->now_ms) {
        out->action = POLICY_EXPIRE;
        snprintf(out->reason, sizeof out->reason, "its deadline has passed");
        return true;
    }
    for (size_t i = 0; i < v->held_count && v->engine_ready; i++) {
        if (!v->held[i].cancel_owed) continue;
        out->action = POLICY_CANCEL;
        out->index = i;
        snprintf(out->reason, sizeof out->reason, "its end was asked for");
        return true;
    }
    return false;
}

void policy_decide(const policy_view *v, policy_decision *out) {
    out->action = POLICY_NONE;
    out->index = out->passed = POLICY_NO_INDEX;
    out->reason[0] = '\0';
    if (cancel_or_expire(v, out) || !v->engine_ready) return;
    bool slot_free = slots_taken(v) < v->settings.max_active;
    candidate best[FITNESSES] = {{.index = POLICY_NO_INDEX}, {.index = POLICY_NO_INDEX}, {.index = POLICY_NO_INDEX}};
    for (size_t i = 0; i < v->head_count; i++) {
        const policy_head *h = &v->heads[i];
        if (!(h->suspended || v->open) || !(slot_free || h->priority == PRIORITY_URGENT)) continue;
        candidate c = consider(v, i);
        candidate *rival = &best[fitness(v, h)];
        if (before(&c, rival)) *rival = c;
    }
    const candidate *first = &best[0];
    for (int f = 1; f < FITNESSES; f++)
        if (best[f].index != POLICY_NO_INDEX && before(&best[f], first)) first = &best[f];
    if (first->index == POLICY_NO_INDEX) return;
    if (!slot_free) make_room(v, &v->heads[first->index], out);
    else if (!fits(v, &v->heads[first->index]) && !first->suspended)
        snprintf(out->reason, sizeof out->reason, "the next task waits for memory: it needs %llu MB, and %llu MB are there",
                 (unsigned long long)(v->heads[first->index].peak_bytes >> 20), (unsigned long long)(v->available_bytes >> 20));
    else start_with_affinity(v, best, first, out);
}
