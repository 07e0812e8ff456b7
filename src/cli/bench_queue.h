/* What the queue takes while ten thousand tasks wait: no disk, no engine. */
#ifndef IMAGINED_CLI_BENCH_QUEUE_H
#define IMAGINED_CLI_BENCH_QUEUE_H

#include "base/error.h"

typedef struct bench_queue {
    double decision_us; /* median: to say which task gets a slot that has just become free */
    double change_us;   /* median: to find a task and give it another priority, there and back */
    double forecast_ms; /* all positions and estimates anew */
} bench_queue;

/* `keys` API keys whose tasks are of four priorities, four models and four sizes in turn. */
bool bench_queue_measure(int keys, bench_queue *out, error *e);

#endif
