#include "server/http/random_id.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "queue/task.h"

void random_id(const char *prefix, char *out) {
    uint8_t random[10];
    ssize_t n;
    do n = getrandom(random, sizeof random, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof random) memset(random, 0, sizeof random); /* the time still tells requests apart */
    char id[TASK_ID_BYTES];
    task_id_format(clock_unix_ms(), random, id);
    snprintf(out, RANDOM_ID_BYTES, "%.4s%s", prefix, id);
}
