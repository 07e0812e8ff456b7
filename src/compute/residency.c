#include "compute/residency.h"

#include "base/checked.h"

static size_t largest(const size_t *bytes, int from, int groups) {
    size_t most = 0;
    for (int i = from; i < groups; i++)
        if (bytes[i] > most) most = bytes[i];
    return most;
}

/* What `resident` leading groups and the slots for the rest take. */
static bool total(const size_t *bytes, int groups, int resident, residency_plan *p, size_t *sum) {
    *p = (residency_plan){.resident = resident, .streamed = groups - 1 - resident};
    for (int i = 0; i <= resident; i++)
        if (!checked_add(p->resident_bytes, bytes[i], &p->resident_bytes)) return false;
    p->slot_bytes = largest(bytes, resident + 1, groups);
    return checked_mul(p->slot_bytes, STAGING_SLOTS, sum) && checked_add(*sum, p->resident_bytes, sum);
}

static bool too_large(error *e) { return error_set(e, ERROR_TOO_LARGE, "the weights are larger than any memory"); }

bool residency_bounds(const size_t *bytes, int groups, size_t *all, size_t *least, error *e) {
    residency_plan p;
    size_t sum;
    *least = 0;
    if (!total(bytes, groups, groups - 1, &p, all)) return too_large(e);
    *least = *all;
    for (int resident = 0; resident < groups - 1; resident++) /* a large leading group may take less than two slots of its size */
        if (total(bytes, groups, resident, &p, &sum) && sum < *least) *least = sum;
    return true;
}

bool residency_plan_make(const size_t *bytes, int groups, size_t budget, residency_plan *out, error *e) {
    size_t sum, least;
    if (!residency_bounds(bytes, groups, &sum, &least, e)) return false;
    for (int resident = groups - 1; resident >= 0; resident--)
        if (total(bytes, groups, resident, out, &sum) && sum <= budget) return true;
    return error_set(e, ERROR_OUT_OF_MEMORY,
                     "the weights need at least %zu MiB of the device (two blocks at a time, and what every block needs); "
                     "%zu MiB are allowed: %zu MiB are missing",
                     (least + (1 << 20) - 1) >> 20, budget >> 20, (least - budget + (1 << 20) - 1) >> 20);
}
