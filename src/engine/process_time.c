#include "engine/process_time.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/machine.h"

bool process_time_parse(const char *text, process_time *out) {
    /* The second field is a name that may hold anything, brackets and spaces included. */
    const char *end = strrchr(text, ')');
    unsigned long long user, kernel;
    char state;
    if (end == NULL || sscanf(end + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu", &state, &user, &kernel) != 3) return false;
    *out = (process_time){.state = state, .cpu_seconds = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK)};
    return true;
}

bool process_time_read(pid_t pid, process_time *out) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    return machine_read(path, text, sizeof text) && process_time_parse(text, out);
}
