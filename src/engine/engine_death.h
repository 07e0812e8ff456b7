/* Why an engine process ended, and whether the task it was computing is to blame. */
#ifndef IMAGINED_ENGINE_ENGINE_DEATH_H
#define IMAGINED_ENGINE_ENGINE_DEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a waitpid status means that the work itself killed the process: ABRT, SEGV, BUS, FPE, ILL, or a KILL that came from the
 * out-of-memory killer (`oom_kills_rose`). Exits, and signals somebody else sent, are nobody's fault. */
bool engine_death_is_charged(int status, bool oom_kills_rose);
/* The same in words: "killed by SIGSEGV", "killed by SIGKILL (out of memory)", "exited with status 3". Cut to fit. */
void engine_death_describe(int status, bool oom_kills_rose, char *out, size_t capacity);
/* How often the out-of-memory killer struck in this process's cgroup (memory.events, or version 1's memory.oom_control), in the whole
 * system where there is no cgroup (/proc/vmstat). 0 where nothing tells. `root` is put before every path: "" but in tests. */
uint64_t engine_oom_kills(const char *root);

#endif
