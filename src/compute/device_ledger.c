#include "compute/device_ledger.h"

static const char *const needy[DEVICE_USES] = {
    [DEVICE_WEIGHTS] = "the weights need",
    [DEVICE_COMPUTE] = "the computation needs",
    [DEVICE_STAGING] = "the streamed weights need",
    [DEVICE_PINNED] = "the weights to be streamed need",
};

size_t ledger_total(const ledger *l) { return l->claimed[DEVICE_WEIGHTS] + l->claimed[DEVICE_COMPUTE] + l->claimed[DEVICE_STAGING]; }

/* What the limit leaves; SIZE_MAX where it has no say. */
static size_t limit_left(const ledger *l, device_use use) {
    if (l->limit == 0 || use == DEVICE_PINNED) return (size_t)-1;
    size_t total = ledger_total(l);
    return l->limit > total ? l->limit - total : 0;
}

size_t ledger_available(const ledger *l, device_use use, size_t reported_free) {
    size_t left = limit_left(l, use);
    return left < reported_free ? left : reported_free;
}

static unsigned long long mib_up(size_t bytes) { return (unsigned long long)(bytes >> 20) + ((bytes & 0xfffff) != 0); }

static bool refuse(const ledger *l, device_use use, size_t bytes, size_t reported_free, const char *place, error *e) {
    size_t left = limit_left(l, use);
    if (left < reported_free)
        return error_set(e, ERROR_OUT_OF_MEMORY, "%s %llu MiB of %s; %zu MiB are left of the limit of %zu MiB", needy[use], mib_up(bytes),
                         place, left >> 20, l->limit >> 20);
    return error_set(e, ERROR_OUT_OF_MEMORY, "%s %llu MiB of %s; %zu MiB are free", needy[use], mib_up(bytes), place, reported_free >> 20);
}

static void note_peak(ledger *l) {
    size_t total = ledger_total(l);
    if (total > l->peak) l->peak = total;
}

bool ledger_claim(ledger *l, device_use use, size_t bytes, size_t reported_free, const char *place, error *e) {
    if (bytes > ledger_available(l, use, reported_free)) return refuse(l, use, bytes, reported_free, place, e);
    l->claimed[use] += bytes;
    note_peak(l);
    return true;
}

void ledger_unclaim(ledger *l, device_use use, size_t bytes) { l->claimed[use] -= bytes < l->claimed[use] ? bytes : l->claimed[use]; }

void ledger_correct(ledger *l, device_use use, size_t claimed, size_t real) {
    ledger_unclaim(l, use, claimed);
    l->claimed[use] += real;
    note_peak(l);
}
