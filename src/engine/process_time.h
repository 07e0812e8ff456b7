/* What a process has done, as the kernel counts it in /proc/PID/stat (proc_pid_stat(5)). Reading that waits for nothing the process may
 * hold. */
#ifndef IMAGINED_ENGINE_PROCESS_TIME_H
#define IMAGINED_ENGINE_PROCESS_TIME_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct process_time {
    char state;         /* of its first thread: R runs, S and D wait, T is stopped, t is held by a debugger, Z has ended, … */
    double cpu_seconds; /* in user and kernel mode, of all its threads, also of those that ended */
} process_time;

/* False where there is no such process, or where the kernel does not tell. */
bool process_time_read(pid_t pid, process_time *out);
/* The same from the file's text. */
bool process_time_parse(const char *text, process_time *out);

#endif
