#include "cli/bench_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/median.h"
#include "queue/queue_manager.h"

enum { QUEUED = 10000, RUNS = 501 };

static bool submit(queue_manager *q, int number, int keys, int64_t now, task **out, error *e) {
    char key[16], model[16];
    int kind = number / keys;
    snprintf(key, sizeof key, "key-%d", number % keys);
    snprintf(model, sizeof model, "model-%d", kind / 4 % 4);
    const task_request r = {.model = model,
                            .prompt = "a raccoon on a purple background",
                            .precision = "auto",
                            .width = 256 << kind / 16 % 4,
                            .height = 256,
                            .steps = 20,
                            .count = 1,
                            .owner = key};
    return queue_manager_submit_task(q, &r, (task_priority)(1 + number % 3), now, out, e);
}

static bool fill(queue_manager *q, int keys, char ids[QUEUED][TASK_ID_BYTES], error *e) {
    for (int i = 0; i < QUEUED; i++) {
        task *t;
        if (!submit(q, i, keys, 1000 + i, &t, e)) return false;
        memcpy(ids[i], t->id, TASK_ID_BYTES);
    }
    return true;
}

/* A slot is taken and freed with each run; what left is replaced, so that the queue stays as long. */
static bool measure_decisions(queue_manager *q, int keys, double seconds[RUNS], error *e) {
    const queue_situation ready = {.engine_ready = true};
    for (int i = 0; i < RUNS; i++) {
        int64_t now = 100000 + i;
        queue_decision d;
        task *t;
        double start = clock_seconds();
        queue_manager_decide(q, &ready, now, &d);
        seconds[i] = clock_seconds() - start;
        if (d.action != POLICY_ADMIT) return error_set(e, ERROR_INTERNAL, "the queue decided to %s", policy_action_name(d.action));
        queue_manager_start(q, d.task, now);
        queue_manager_complete(q, d.task, now);
        if (!submit(q, i, keys, now, &t, e)) return false;
    }
    return true;
}

static bool measure_changes(queue_manager *q, char ids[QUEUED][TASK_ID_BYTES], double seconds[RUNS], error *e) {
    for (int i = 0; i < RUNS; i++) {
        double start = clock_seconds();
        task *t = queue_manager_find(q, ids[(size_t)i * (QUEUED / RUNS)]);
        bool waits = t != NULL && t->status == TASK_QUEUED;
        task_priority was = waits ? t->priority : PRIORITY_LOW;
        if (waits && (!queue_manager_set_priority(q, t, PRIORITY_LOW, e) || !queue_manager_set_priority(q, t, was, e))) return false;
        seconds[i] = clock_seconds() - start;
    }
    return true;
}

bool bench_queue_measure(int keys, bench_queue *out, error *e) {
    const queue_limits limits = {
        .max_queued = QUEUED + RUNS, .max_active = 2, .keep_finished = 10, .max_suspended = 8, .age_ms = 300000, .affinity_ms = 10000};
    double decisions[RUNS], changes[RUNS];
    queue_manager *q = NULL;
    char(*ids)[TASK_ID_BYTES] = malloc(QUEUED * sizeof *ids);
    bool ok = ids != NULL || error_no_memory(e, "the queue's benchmark", QUEUED * sizeof *ids);
    ok = ok && queue_manager_new(&limits, &q, e) && fill(q, keys, ids, e) && measure_decisions(q, keys, decisions, e) &&
         measure_changes(q, ids, changes, e);
    if (ok) {
        double start = clock_seconds();
        queue_manager_position(q, queue_manager_first(q));
        *out = (bench_queue){median(decisions, RUNS) * 1e6, median(changes, RUNS) * 1e6, (clock_seconds() - start) * 1e3};
    }
    queue_manager_free(q);
    free(ids);
    return ok;
}
