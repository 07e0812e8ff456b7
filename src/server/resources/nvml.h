/* What NVIDIA's driver tells of its GPUs, through NVML where it is installed: looked for when the program runs, never needed.
 *
 * NVML is the only library loaded here; no context is made on a device. One thread. Source: NVIDIA's nvml.h, of which the few calls used
 * have been the same since driver 295. */
#ifndef IMAGINED_SERVER_RESOURCES_NVML_H
#define IMAGINED_SERVER_RESOURCES_NVML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct nvml nvml;

typedef struct nvml_figures {
    char name[96]; /* "NVIDIA H200"; "" where it is not told */
    uint64_t total, free; /* bytes */
} nvml_figures;

/* ERROR_UNSUPPORTED, with the reason: no library, no driver. */
bool nvml_open(nvml **out, error *e);
void nvml_close(nvml *n); /* NULL is fine */
int nvml_count(const nvml *n);
/* False when the device cannot be asked (any more). */
bool nvml_read(nvml *n, int index, nvml_figures *out);
/* The index of the device that CUDA, Vulkan, … call `name` (a device's description); −1: none. `visible` is CUDA_VISIBLE_DEVICES, or NULL:
 * its first word, an index or a UUID, says which where several have that name. */
int nvml_find(nvml *n, const char *name, const char *visible);

#endif
