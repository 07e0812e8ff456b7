/* Who is next: the scheduling policy, a pure function of what waits, what runs, the models, the memory and the clock. It allocates nothing,
 * keeps nothing and asks no clock, so that it can be simulated; it runs in the front only. Each call makes one decision; the caller carries
 * it out, and asks again until there is none.
 *
 * What it sees are not tasks but lanes: tasks of one priority, API key, model and kind of batch wait in a FIFO of which only the head
 * matters. A suspended task is a head of its own. The cost of a decision is one pass over the heads.
 *
 * The order. Heads have a rank: urgent, overdue, high, normal, low. A waiting task rises one rank for every `age_ms` it has waited, up to
 * overdue, never into urgent. Within a rank, suspended tasks go first; then
 *   - high, normal, low, urgent: the key that holds fewest slots, then the one that has received least service lately (a virtual time, as
 *     in start-time fair queueing: Goyal, Vin, Cheng 1996), then the older task;
 *   - overdue: keys in turn: the one whose last start, or, if that is later, whose task's submission, is longest ago.
 *
 * Affinity. The first of high, normal or low gives way to a task of its rank that can share steps with one that runs, or else to one whose
 * model is loaded, if that task's key holds no more slots than its own; but only until `affinity_ms` after it first gave way. A slot is
 * never left empty for it.
 *
 * Memory. A task whose measured need does not fit beside those that run waits for one of them to end, and none but an urgent one overtakes
 * it.
 *
 * The bound on waiting. Let a task of key B, priority p (high 1, normal 2, low 3), be submitted at s. From s + p · age_ms on it is overdue.
 * While it waits, let n of B's tasks be older, and K keys have tasks waiting. Then at most (n + 1) · K starts of tasks that are not urgent
 * come before its own, at most one of each key between two of B's:
 *   B's own overdue tasks start in the order of submission, so at most n before it. A task of another key k goes first only if k's turn,
 *   the later of its last start and that task's submission, is before B's turn. As it starts, k's turn becomes the latest of all, and stays
 *   after B's until B starts one. New keys and new tasks have later turns from the outset: they cannot extend it.
 * Tasks that are put back after an engine's death start again and count again. Urgent tasks stand outside this bound: they are few, or they
 * mean nothing. Ageing off (age_ms 0): no bound. */
#ifndef IMAGINED_QUEUE_POLICY_H
#define IMAGINED_QUEUE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue/task.h"

typedef struct policy_settings {
    int64_t age_ms;      /* IMAGINED_AGING_SECONDS; 0: off */
    int64_t affinity_ms; /* IMAGINED_AFFINITY_SECONDS; 0: off */
    uint32_t max_active; /* MAX_CONCURRENT_TASKS */
    uint32_t max_suspended;
} policy_settings;

typedef enum policy_rank { RANK_URGENT, RANK_OVERDUE, RANK_HIGH, RANK_NORMAL, RANK_LOW } policy_rank;

/* The head of a lane, or a suspended task. */
typedef struct policy_head {
    uint64_t sequence;    /* number of its submission; starts draw from the same counter (policy_key.turn) */
    int64_t submitted_ms;
    int64_t passed_ms;    /* when it first gave way for affinity; 0: not yet */
    uint64_t batch;       /* equal numbers can share steps; 0: shares with none */
    uint64_t peak_bytes;  /* memory it was measured to need; 0: not known */
    uint32_t key, model;  /* indices into the view's keys and loaded */
    uint32_t length;      /* tasks in the lane, itself among them */
    uint8_t priority;     /* task_priority */
    bool suspended;
} policy_head;

/* An API key with tasks. */
typedef struct policy_key {
    uint32_t slots;   /* tasks of it that hold one */
    uint64_t turn;    /* number of its last start of a task that was not urgent; 0: none */
    double service;   /* virtual time up to which it has been served */
} policy_key;

/* A task in the engine's hands. */
typedef struct policy_held {
    uint64_t started; /* order of starts: larger is later */
    uint64_t batch;
    uint8_t priority;
    bool suspended;   /* holds no slot */
    bool fixed;       /* cannot be suspended: the engine is through with it */
    bool cancel_owed; /* its end was asked for, and the engine was not told yet */
} policy_held;

typedef struct policy_view {
    policy_settings settings;
    int64_t now_ms;
    const policy_head *heads;
    size_t head_count;
    const policy_held *held;
    size_t held_count;
    const policy_key *keys;
    const bool *loaded;          /* by model */
    double virtual_time;         /* of the last start: keys below it count as if they were there */
    uint64_t available_bytes;    /* memory for another task; 0: not known */
    int64_t earliest_deadline_ms; /* of all tasks that are not final; 0: none */
    bool engine_ready;           /* messages to it may be sent */
    bool can_suspend;
    bool open;                   /* tasks may start: neither paused nor draining */
} policy_view;

typedef enum policy_action { POLICY_NONE, POLICY_ADMIT, POLICY_SUSPEND, POLICY_RESUME, POLICY_CANCEL, POLICY_EXPIRE } policy_action;

enum { POLICY_REASON_BYTES = 160 };
#define POLICY_NO_INDEX SIZE_MAX

typedef struct policy_decision {
    policy_action action;
    size_t index;  /* ADMIT, RESUME: into heads. SUSPEND, CANCEL: into held. EXPIRE: the task with the earliest deadline */
    size_t passed; /* ADMIT: the head that gave way for affinity, or POLICY_NO_INDEX; its passed_ms is set by the caller if it is 0 */
    char reason[POLICY_REASON_BYTES]; /* in an operator's words; for NONE: what is waited for, or "" */
} policy_decision;

void policy_decide(const policy_view *view, policy_decision *out);

policy_rank policy_rank_of(task_priority priority, int64_t submitted_ms, int64_t now_ms, int64_t age_ms);
const char *policy_rank_name(policy_rank r); /* "urgent", "overdue", … */
const char *policy_action_name(policy_action a); /* "admit", … */

#endif
