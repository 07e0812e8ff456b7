/* Time: one clock for durations, one for dates. */
#ifndef IMAGINED_BASE_CLOCK_H
#define IMAGINED_BASE_CLOCK_H

#include <stdint.h>

/* Seconds on the monotonic clock; only differences mean anything. */
double clock_seconds(void);
/* Milliseconds since 1970 UTC. */
int64_t clock_unix_ms(void);

enum { CLOCK_TEXT_BYTES = 32 };
/* RFC 3339, UTC, milliseconds: 2026-01-31T12:00:00.123Z. Writes at most CLOCK_TEXT_BYTES. Returns text. */
const char *clock_format(int64_t unix_ms, char text[CLOCK_TEXT_BYTES]);

#endif
