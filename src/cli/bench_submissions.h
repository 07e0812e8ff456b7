/* What taking tasks costs: durable submissions from many clients at once, and the way of one task from its submission to its first
 * denoising step. */
#ifndef IMAGINED_CLI_BENCH_SUBMISSIONS_H
#define IMAGINED_CLI_BENCH_SUBMISSIONS_H

#include "base/error.h"

enum { BENCH_CLIENTS = 64 };

typedef struct bench_submitting {
    double per_second;    /* submissions answered with 202, from BENCH_CLIENTS connections */
    double sync;          /* seconds: 4 KiB written and synced in the server's folder; median */
    double beyond_sync;   /* to_first_step without a sync made just before; median */
    double to_first_step; /* seconds from sending a task to an idle engine until its first step's event arrives; median */
} bench_submitting;

/* With a server of its own. */
bool bench_submit(bench_submitting *out, error *e);

#endif
