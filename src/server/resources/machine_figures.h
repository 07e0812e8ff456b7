/* What the front itself reads of the machine's memory when it is asked: whole devices (main memory within the control group; GPUs through
 * NVML) and the engine's process. No compute device is opened for it. One thread. */
#ifndef IMAGINED_SERVER_RESOURCES_MACHINE_FIGURES_H
#define IMAGINED_SERVER_RESOURCES_MACHINE_FIGURES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

typedef struct machine_figures machine_figures;

typedef struct device_figures {
    char name[128];      /* "" for main memory */
    uint64_t total, free; /* bytes */
    int index;           /* NVML's, of a GPU */
    const char *source;  /* "cgroup" (with /proc/meminfo), "nvml"; "engine": as it told last; a literal */
} device_figures;

/* Bytes of a process. */
typedef struct process_figures {
    uint64_t resident, anonymous, file, peak, swapped; /* of /proc/PID/status */
    uint64_t proportional,
        private_dirty;              /* of smaps_rollup; may be older than the others, or 0, where reading it takes long or might wait */
} process_figures;

bool machine_figures_new(machine_figures **out, error *e);
void machine_figures_free(machine_figures *m); /* NULL is fine */

/* Main memory, at most what the control group allows; page cache counts as free. */
void machine_figures_main_memory(device_figures *out);
/* The GPU that the engine names so. False when NVML is not there or does not know it. */
bool machine_figures_gpu(machine_figures *m, const char *name, device_figures *out);
/* The GPUs that NVML knows, by index from 0; false after the last. */
bool machine_figures_gpu_at(machine_figures *m, int index, device_figures *out);
/* False when there is no such process. `still`: it does nothing, and perhaps waits in the kernel (engine_client_still): the files are left
 * alone for which the caller might wait as well, and their figures stay what they were. */
bool machine_figures_process(machine_figures *m, pid_t pid, bool still, process_figures *out);

#endif
