/* What of this machine the process may use: its cores and memory, as affinity and control groups (v2 and v1) bound them. */
#ifndef IMAGINED_BASE_MACHINE_H
#define IMAGINED_BASE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

/* Cores of the affinity mask, at most the cpu quota rounded up; at least 1. */
int machine_cores(void);

/* Main memory in bytes. `total`: of the machine or, when smaller, the control group's limit; `free`: what can still be had, page cache
 * counted as free. */
void machine_memory(size_t *free_bytes, size_t *total_bytes);

/* The first `capacity` − 1 bytes of a small file of the kernel ("/proc/self/status"); false when it cannot be read or is empty. Allocates
 * nothing. */
bool machine_read(const char *path, char *text, size_t capacity);
/* The number after `key` at the start of a line of such a text ("MemTotal:  123 kB", "inactive_file 123"); false when there is none. */
bool machine_number(const char *text, const char *key, unsigned long long *value);

#endif
