#include "server/webhooks/webhook_schedule.h"

static const int32_t delays[WEBHOOK_ATTEMPTS] = {0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600};

int64_t webhook_schedule_next(int made, uint64_t random, int64_t retry_after_seconds) {
    if (made >= WEBHOOK_ATTEMPTS) return -1;
    int64_t ms = (int64_t)delays[made < 0 ? 0 : made] * 1000, tenth = ms / 10;
    if (tenth > 0) ms += (int64_t)(random % (uint64_t)(2 * tenth + 1)) - tenth;
    int64_t asked = retry_after_seconds < WEBHOOK_LONGEST_RETRY_AFTER_SECONDS ? retry_after_seconds : WEBHOOK_LONGEST_RETRY_AFTER_SECONDS;
    return asked * 1000 > ms ? asked * 1000 : ms;
}
