/* Who holds how many bytes of a device: claims by use, their sum's peak and an optional limit. Plain arithmetic, no device; device.h
 * applies it.
 *
 * Every allocation on a device is claimed before it is made, with the size ggml names for it, and corrected to the size it then has. What
 * is claimed counts against the limit whoever asks. Pinned main memory is kept apart: it is none of the device's. On the CPU the device is
 * main memory: private weights (not mapped ones) and compute buffers. */
#ifndef IMAGINED_COMPUTE_DEVICE_LEDGER_H
#define IMAGINED_COMPUTE_DEVICE_LEDGER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef enum device_use {
    DEVICE_WEIGHTS, /* that stay */
    DEVICE_COMPUTE, /* graphs: inputs, intermediate results, the threads' scratch */
    DEVICE_STAGING, /* through which streamed weights pass */
    DEVICE_PINNED,  /* main memory that the device copies from */
    DEVICE_USES,
} device_use;

typedef struct ledger {
    size_t claimed[DEVICE_USES];
    size_t peak;  /* most that was claimed at once, pinned memory apart */
    size_t limit; /* 0: none */
} ledger;

/* All that is claimed of the device: without pinned memory. */
size_t ledger_total(const ledger *l);
/* How much more can be claimed for this use, when the place it is in (the device; main memory for pinned) reports `reported_free` bytes. */
size_t ledger_available(const ledger *l, device_use use, size_t reported_free);
/* ERROR_OUT_OF_MEMORY when that is less than `bytes`: what is needed and what there is, and the limit where that is what is in the way.
 * `place` names the memory ("vulkan memory"). */
bool ledger_claim(ledger *l, device_use use, size_t bytes, size_t reported_free, const char *place, error *e);
void ledger_unclaim(ledger *l, device_use use, size_t bytes);
/* A claim of `claimed` bytes turned out to be `real` bytes: no question any more. */
void ledger_correct(ledger *l, device_use use, size_t claimed, size_t real);

#endif
