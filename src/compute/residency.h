/* Which weights stay on a device whose budget is smaller than they are: arithmetic alone, no device. */
#ifndef IMAGINED_COMPUTE_RESIDENCY_H
#define IMAGINED_COMPUTE_RESIDENCY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { STAGING_SLOTS = 2 };

/* Groups of weights: 0 is always needed; 1, 2, … are used one after the other, in this order. */
typedef struct residency_plan {
    int resident;          /* of the groups from 1 on, the leading ones that stay */
    int streamed;          /* the others; none when everything fits */
    size_t resident_bytes; /* of group 0 and the leading groups */
    size_t slot_bytes;     /* of the largest streamed group: each slot holds one group at a time */
} residency_plan;

/* What all groups take, and the least that a budget can be: mostly group 0 and two slots of the largest group. ERROR_TOO_LARGE. */
bool residency_bounds(const size_t *bytes, int groups, size_t *all, size_t *least, error *e);
/* As many leading groups as fit into `budget` beside the slots that the others need. bytes[groups], the first group 0's; what a device adds
 * for alignment is counted in already. ERROR_OUT_OF_MEMORY with the missing figure when not even two groups fit beside group 0. */
bool residency_plan_make(const size_t *bytes, int groups, size_t budget, residency_plan *out, error *e);

#endif
