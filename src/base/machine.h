/* What of this machine the process may use: its cores and memory, as affinity and control groups (v2 and v1) bound them. */
#ifndef IMAGINED_BASE_MACHINE_H
#define IMAGINED_BASE_MACHINE_H

#include <stddef.h>

/* Cores of the affinity mask, at most the cpu quota rounded up; at least 1. */
int machine_cores(void);

/* Main memory in bytes. `total`: of the machine or, when smaller, the control group's limit; `free`: what can still be had, page cache
 * counted as free. */
void machine_memory(size_t *free_bytes, size_t *total_bytes);

#endif
