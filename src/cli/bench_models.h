/* What it costs to go from one model in the cache to another. */
#ifndef IMAGINED_CLI_BENCH_MODELS_H
#define IMAGINED_CLI_BENCH_MODELS_H

#include <stdbool.h>

#include "base/error.h"

typedef struct bench_switching {
    double lease;     /* seconds to lease a cached model, its files looked at */
    double switching; /* from the lease to the end of a small picture's first step: after the other model's task, less after the same model's */
} bench_switching;

/* Medians, with the demo model in two precisions on the CPU, in this process. */
bool bench_switch_models(bench_switching *out, error *e);

#endif
