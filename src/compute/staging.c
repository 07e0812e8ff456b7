#include "compute/staging.h"

#include <ggml-alloc.h>
#include <stdlib.h>
#include <string.h>

#include "compute/residency.h"

enum { NOTHING = -1 };

typedef struct slot {
    ggml_backend_buffer_t memory;
    int group;     /* that lies here or is on its way; NOTHING at first */
    bool computed; /* whether the event below was ever recorded */
    ggml_backend_event_t filled, used;
} slot;

struct staging {
    device *d;
    size_t claimed; /* of the device's ledger */
    ggml_backend_t computer, copier; /* two streams of one device; copier NULL: copies are synchronous */
    bool host_waits;
    const streamed_weight *weights;
    size_t count;
    int groups;
    int unfilled; /* a group whose slot was released and awaits its next group; NOTHING if there is none */
    slot slots[STAGING_SLOTS];
};

/* ── memory ── */

static const streamed_weight *first_of(const staging *s, int group) {
    const streamed_weight *w = s->weights, *end = s->weights + s->count;
    while (w < end && w->group < group) w++;
    return w;
}

static size_t group_bytes(const staging *s, int group, ggml_backend_buffer_type_t type) {
    size_t alignment = ggml_backend_buft_get_alignment(type), bytes = 0;
    for (const streamed_weight *w = first_of(s, group); w < s->weights + s->count && w->group == group; w++)
        bytes += (ggml_backend_buft_get_alloc_size(type, w->tensor) + alignment - 1) / alignment * alignment;
    return bytes;
}

static bool allocate_slots(staging *s, error *e) {
    ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(s->computer);
    size_t bytes = 0;
    for (int group = 0; group < s->groups; group++) {
        size_t size = group_bytes(s, group, type);
        if (size > bytes) bytes = size;
    }
    if (!device_claim(s->d, DEVICE_STAGING, STAGING_SLOTS * bytes, e)) return false;
    s->claimed = STAGING_SLOTS * bytes;
    for (int i = 0; i < STAGING_SLOTS; i++) {
        s->slots[i].memory = ggml_backend_buft_alloc_buffer(type, bytes);
        if (s->slots[i].memory == NULL)
            return error_set(e, ERROR_OUT_OF_MEMORY, "two blocks need %zu MiB of %s memory, which could not be had", s->claimed >> 20,
                             device_kind(s->d));
        ggml_backend_buffer_set_usage(s->slots[i].memory, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    }
    device_correct(s->d, DEVICE_STAGING, s->claimed, staging_bytes(s));
    s->claimed = staging_bytes(s);
    for (int group = 0; group < s->groups; group++) {
        struct ggml_tallocr place = ggml_tallocr_new(s->slots[group % STAGING_SLOTS].memory);
        for (const streamed_weight *w = first_of(s, group); w < s->weights + s->count && w->group == group; w++)
            if (ggml_tallocr_alloc(&place, w->tensor) != GGML_STATUS_SUCCESS)
                return error_set(e, ERROR_DEVICE, "the device refused a weight");
    }
    return true;
}

/* A device without a second stream or events still streams, only without overlap. */
static void open_copier(staging *s) {
    ggml_backend_dev_t dev = ggml_backend_get_device(s->computer);
    struct ggml_backend_dev_props properties;
    ggml_backend_dev_get_props(dev, &properties);
    if (!properties.caps.async || !properties.caps.events || (s->copier = ggml_backend_dev_init(dev, NULL)) == NULL) return;
    bool ok = true;
    for (int i = 0; i < STAGING_SLOTS; i++) {
        s->slots[i].filled = ggml_backend_event_new(dev);
        s->slots[i].used = ggml_backend_event_new(dev);
        ok = ok && s->slots[i].filled != NULL && s->slots[i].used != NULL;
    }
    if (ok) return;
    ggml_backend_free(s->copier);
    s->copier = NULL;
}

bool staging_new(device *d, const streamed_weight *weights, size_t count, int groups, staging **out, error *e) {
    *out = NULL;
    staging *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "staging buffers", sizeof *s);
    s->d = d;
    s->computer = device_backend(d);
    s->host_waits = strcmp(device_kind(d), "vulkan") == 0;
    s->weights = weights;
    s->count = count;
    s->groups = groups;
    s->unfilled = NOTHING;
    for (int i = 0; i < STAGING_SLOTS; i++) s->slots[i].group = NOTHING;
    if (!allocate_slots(s, e)) {
        staging_free(s);
        return false;
    }
    open_copier(s);
    *out = s;
    return true;
}

void staging_free(staging *s) {
    if (s == NULL) return;
    ggml_backend_synchronize(s->computer);
    if (s->copier != NULL) ggml_backend_synchronize(s->copier);
    for (int i = 0; i < STAGING_SLOTS; i++) {
        if (s->slots[i].filled != NULL) ggml_backend_event_free(s->slots[i].filled);
        if (s->slots[i].used != NULL) ggml_backend_event_free(s->slots[i].used);
        if (s->slots[i].memory != NULL) ggml_backend_buffer_free(s->slots[i].memory);
    }
    if (s->copier != NULL) ggml_backend_free(s->copier);
    device_unclaim(s->d, DEVICE_STAGING, s->claimed);
    free(s);
}

size_t staging_bytes(const staging *s) {
    size_t bytes = 0;
    for (int i = 0; i < STAGING_SLOTS; i++) bytes += ggml_backend_buffer_get_size(s->slots[i].memory);
    return bytes;
}

/* ── copying ── */

static slot *slot_of(staging *s, int group) { return &s->slots[group % STAGING_SLOTS]; }

/* The slot's last group may still be computed with. On Vulkan the copies can run on a queue of their own that the copier's waits do not
 * reach, so there this thread waits: the next group's computation is on its way already, and the device is not idle meanwhile. */
static void await_use(staging *s, slot *at) {
    if (s->copier == NULL) ggml_backend_synchronize(s->computer);
    if (s->copier == NULL || !at->computed) return;
    if (s->host_waits) ggml_backend_event_synchronize(at->used);
    ggml_backend_event_wait(s->copier, at->used);
}

static void fetch(staging *s, int group) {
    slot *at = slot_of(s, group);
    if (at->group == group) return;
    await_use(s, at);
    for (const streamed_weight *w = first_of(s, group); w < s->weights + s->count && w->group == group; w++) {
        if (s->copier != NULL) ggml_backend_tensor_set_async(s->copier, w->tensor, w->source, 0, ggml_nbytes(w->tensor));
        else ggml_backend_tensor_set(w->tensor, w->source, 0, ggml_nbytes(w->tensor));
    }
    if (s->copier != NULL) ggml_backend_event_record(at->filled, s->copier);
    at->group = group;
}

/* The group that is next in `group`'s slot: of this run or, after the last one, of the next run. */
static int next_in_slot(const staging *s, int group) {
    return group + STAGING_SLOTS < s->groups ? group + STAGING_SLOTS : group % STAGING_SLOTS;
}

static void refill(staging *s) {
    if (s->unfilled != NOTHING) fetch(s, next_in_slot(s, s->unfilled));
    s->unfilled = NOTHING;
}

void staging_begin(staging *s) {
    s->unfilled = NOTHING;
    for (int group = 0; group < STAGING_SLOTS && group < s->groups; group++) fetch(s, group);
}

void staging_acquire(staging *s, int group) {
    fetch(s, group);
    if (s->copier != NULL) ggml_backend_event_wait(s->computer, slot_of(s, group)->filled);
}

/* The slot is filled again only after the next group's computation was handed over, so that waiting for this one holds nothing up. */
void staging_release(staging *s, int group) {
    slot *at = slot_of(s, group);
    if (s->copier != NULL) {
        ggml_backend_event_record(at->used, s->computer);
        at->computed = true;
    }
    refill(s);
    s->unfilled = group;
}

void staging_end(staging *s) {
    refill(s);
    ggml_backend_synchronize(s->computer);
}
