/* When a message is tried again: the schedule that Standard Webhooks recommends (standard-webhooks.md, "Retry schedule"). */
#ifndef IMAGINED_SERVER_WEBHOOKS_WEBHOOK_SCHEDULE_H
#define IMAGINED_SERVER_WEBHOOKS_WEBHOOK_SCHEDULE_H

#include <stdint.h>

enum { WEBHOOK_ATTEMPTS = 10, WEBHOOK_LONGEST_RETRY_AFTER_SECONDS = 6 * 3600 };

/* Milliseconds from the end of attempt number `made` (1: the first) to the next; −1: there is none, it is given up. `random` is any number:
 * by it the time is up to a tenth shorter or longer, so that what failed together does not come back together. What the receiver asked for
 * (seconds; 0: nothing) is kept to where it is longer, up to WEBHOOK_LONGEST_RETRY_AFTER_SECONDS. */
int64_t webhook_schedule_next(int made, uint64_t random, int64_t retry_after_seconds);

#endif
