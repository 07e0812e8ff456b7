#include "engine/slice_order.h"

static int class_of(const slice_claim *c, uint64_t slice) {
    bool impatient = slice - c->since > SLICE_PATIENCE && c->priority != SLICE_URGENT;
    return impatient ? SLICE_URGENT + 1 : c->priority * 2; /* right behind the urgent */
}

int slice_next(const slice_claim *claims, size_t stride, int count, uint64_t slice) {
    int best = -1;
    const slice_claim *best_claim = NULL;
    for (int i = 0; i < count; i++) {
        const slice_claim *c = (const slice_claim *)(const void *)((const char *)claims + (size_t)i * stride);
        if (c->suspended) continue;
        int class = class_of(c, slice), best_class = best < 0 ? 0 : class_of(best_claim, slice);
        if (best >= 0 && (class > best_class || (class == best_class && c->since >= best_claim->since))) continue;
        best = i;
        best_claim = c;
    }
    return best;
}

bool slice_may_join(const slice_claim *lead, const slice_claim *other) {
    return !other->suspended && (lead->priority != SLICE_URGENT || other->priority == SLICE_URGENT);
}
