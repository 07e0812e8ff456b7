/* A place to compute: ggml's CPU backend, or a GPU through Vulkan, CUDA, … chosen by name.
 *
 * Only this folder, and through it the models, calls ggml. Public headers only; backend libraries are loaded at run time from
 * the distribution's folder (or IMAGINED_GGML_BACKENDS), so the front process, which never opens a device, never loads one. */
#ifndef IMAGINED_COMPUTE_DEVICE_H
#define IMAGINED_COMPUTE_DEVICE_H

#include <ggml-backend.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "compute/device_ledger.h"
#include "compute/team.h"

typedef struct device device;

typedef enum precision { PRECISION_AUTO, PRECISION_F32, PRECISION_BF16, PRECISION_F16, PRECISION_INT8 } precision;

/* "auto", "f32", "bf16", "f16", "int8". False for anything else. */
bool precision_parse(const char *text, precision *out);
const char *precision_name(precision p);

/* Opens the device `name`: "auto" (the first GPU, else the CPU), "cpu", "vulkan", "cuda", … or ggml's own device name
 * ("Vulkan0"). `threads` 0 means one a core the process may use. ERROR_DEVICE lists the devices there are. One thread at a time
 * uses a device. */
bool device_open(const char *name, int threads, device **out, error *e);
void device_free(device *d); /* after everything that lives on it; NULL is fine */

const char *device_kind(const device *d); /* "cpu", "vulkan", "cuda", … */
const char *device_name(const device *d); /* the hardware's name */
bool device_is_cpu(const device *d);
int device_threads(const device *d);
team *device_team(const device *d); /* the CPU's threads; NULL elsewhere */
ggml_backend_t device_backend(const device *d);
/* What the device reports now. For the CPU: main memory, bounded by the cgroup. */
void device_memory(const device *d, size_t *free_bytes, size_t *total_bytes);

/* ── the ledger of its memory (device_ledger.h) ── */

/* Claims memory before it is allocated. ERROR_OUT_OF_MEMORY when device_available is less. Each success is paired with a device_unclaim of
 * the same bytes, or of the real ones after device_correct. */
bool device_claim(device *d, device_use use, size_t bytes, error *e);
/* What device_claim would say, claiming nothing. */
bool device_could_claim(const device *d, device_use use, size_t bytes, error *e);
void device_unclaim(device *d, device_use use, size_t bytes);
/* What was claimed as `claimed` bytes was allocated and has `real` ones. */
void device_correct(device *d, device_use use, size_t claimed, size_t real);
/* What can be claimed now: what the limit leaves or, when smaller, what the device reports free; SIZE_MAX where neither is known. */
size_t device_available(const device *d);
void device_set_limit(device *d, size_t bytes); /* 0: none. What is claimed already stays claimed */
void device_reset_peak(device *d);              /* from now on */
const ledger *device_ledger(const device *d);

/* What weights stored in f32 are loaded as when no precision is asked for (PRECISION_AUTO): PRECISION_F32, as at first, BF16 or F16. To be
 * set before anything is loaded. The CPU, which computes in f32 whatever is stored, makes no use of it. */
void device_set_autocast(device *d, precision p);
precision device_autocast(const device *d);
/* Whether the device can run this operation, with the shapes and types of its sources. */
bool device_supports(const device *d, const struct ggml_tensor *op);

#endif
