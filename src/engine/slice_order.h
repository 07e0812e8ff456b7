/* Whose slice is next among the tasks an engine holds.
 *
 * URGENT goes first, whatever waits. Then the highest class goes first, and within a class whoever waited longest for a slice; but a task
 * that was passed over for SLICE_PATIENCE slices gets the next one whatever its class, so that none stands still. Suspended ones get none.
 *
 * Pure. The classes are the queue's: 0 urgent … 3 low. */
#ifndef IMAGINED_ENGINE_SLICE_ORDER_H
#define IMAGINED_ENGINE_SLICE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLICE_URGENT = 0, SLICE_PATIENCE = 12 };

typedef struct slice_claim {
    int priority;
    bool suspended;
    uint64_t since; /* number of the slice it had last; for one that had none, of the last but one before it came, so that it is before who had that */
} slice_claim;

/* Index of the next, `slice` being the number of the slice to give; of equals the first. −1 when all are suspended. `stride` is the
 * distance in bytes between two claims, which may lie in larger structs. */
int slice_next(const slice_claim *claims, size_t stride, int count, uint64_t slice);
/* Whether a task may take part in a slice that is given to `lead`: not in an urgent one, unless it is urgent itself. */
bool slice_may_join(const slice_claim *lead, const slice_claim *other);

#endif
