#include "base/clock.h"

#include <stdio.h>
#include <time.h>

double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t clock_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *clock_format(int64_t unix_ms, char text[CLOCK_TEXT_BYTES]) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    char date[24];
    gmtime_r(&seconds, &parts);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, CLOCK_TEXT_BYTES, "%s.%03dZ", date, (int)(unix_ms % 1000));
    return text;
}
