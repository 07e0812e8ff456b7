#include "engine/engine_snapshot.h"

const char *eviction_cause_name(eviction_cause c) {
    static const char *const names[EVICTION_CAUSES] = {"count", "bytes", "vram", "manual"};
    return names[c];
}
