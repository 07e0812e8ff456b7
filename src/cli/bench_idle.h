/* What it costs to have no engine while nothing needs one. */
#ifndef IMAGINED_CLI_BENCH_IDLE_H
#define IMAGINED_CLI_BENCH_IDLE_H

#include "base/error.h"

/* Seconds from a request that needs an engine, on a server that stopped its idle one, until the demo model is loaded in a new one: the
 * median of several. Takes a second or two each, as the shortest time to be idle is one second. */
bool bench_idle_engine(double *seconds, error *e);

#endif
