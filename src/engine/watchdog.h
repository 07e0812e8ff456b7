/* Whether an engine that has something to answer has hung. Arithmetic alone: the caller looks at the engine now and then and says what it
 * saw.
 *
 * How long a slice takes says nothing: a step of a large model on a slow CPU takes many minutes. What counts is a sign of life:
 * - a message;
 * - on the CPU, CPU time: a thousandth of a core, over the timeout together. A process that waits for a lock or a disk uses none, and
 *   threads that only wake some times a second to look around use less; a niced engine on a machine that others keep busy still gets
 *   several times that. What spins for ever counts as work;
 * - on other devices the same, but only for so long: a slice waits there in the driver, and some drivers are waited for in a loop.
 *
 * Only time in which somebody looked counts: a machine that slept, a container that was frozen, a server that was stopped with its engine,
 * wake with the seconds they had. Nor does time in which a debugger holds the engine. */
#ifndef IMAGINED_ENGINE_WATCHDOG_H
#define IMAGINED_ENGINE_WATCHDOG_H

#include <stdbool.h>

/* On devices other than the CPU (and before that is known), CPU time alone counts as life for so many timeouts. */
enum { WATCHDOG_VOUCHED = 6 };

typedef struct watchdog {
    double looked_at; /* clock_seconds */
    double silent;    /* seconds looked at since the last message */
    double still;     /* seconds looked at since the last sign of life */
    double cpu;       /* CPU seconds used by then; below 0: not known */
} watchdog;

/* What there is to see of an engine. */
typedef struct watchdog_sight {
    double now;       /* clock_seconds */
    bool awaited;     /* it has something to answer */
    bool heard;       /* a message came since the last look */
    bool debugged;
    bool on_cpu;      /* that is where it computes */
    double cpu;       /* CPU seconds that it used in all its life; below 0: cannot be told, and counts as work */
} watchdog_sight;

typedef enum watchdog_verdict {
    WATCHDOG_ALIVE,
    WATCHDOG_STILL, /* hung: neither message nor work for the timeout */
    WATCHDOG_SILENT /* hung: work perhaps, but no message for WATCHDOG_VOUCHED timeouts, not on the CPU */
} watchdog_verdict;

/* From now on something is awaited of an engine that owed nothing before. */
void watchdog_begin(watchdog *w, double now);
/* `timeout`: seconds, above 0. */
watchdog_verdict watchdog_look(watchdog *w, const watchdog_sight *s, double timeout);
/* Whether more than two looks in a row saw no sign of life: no hang yet, but it may wait for something that never comes. */
bool watchdog_is_still(const watchdog *w, double timeout);
/* When to look next, as clock_seconds: twenty times in a timeout, at most each 0.1 s and at least each 30 s. */
double watchdog_due(const watchdog *w, double timeout);

#endif
