/* The VRAM manager: how full a device is, and what goes when it is too full. Arithmetic over figures it is given; whoever owns the memory
 * frees it, through a table of callbacks.
 *
 * Two bounds: the device, of which others take their share, and our own limit (IMAGINED_VRAM_LIMIT_MB), of which only we do. The fuller one
 * decides the state: low < 50 % ≤ moderate < 75 % ≤ high ≤ 90 % < critical. A state is entered at once from below, and left downwards 2
 * points later, so that a figure that trembles at a threshold does not make it flap.
 *
 * On the CPU the device is main memory, bounded by the control group, and what is ours is private bytes and compute buffers. One thread. */
#ifndef IMAGINED_ENGINE_VRAM_MANAGER_H
#define IMAGINED_ENGINE_VRAM_MANAGER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "compute/device.h"

typedef enum vram_state { VRAM_LOW, VRAM_MODERATE, VRAM_HIGH, VRAM_CRITICAL } vram_state;
const char *vram_state_name(vram_state s); /* "low", "moderate", "high", "critical" */

/* Bytes, as they are now. */
typedef struct vram_figures {
    size_t total, free; /* what the device reports; total 0: it reports nothing */
    size_t limit;       /* on what is ours; 0: none */
    size_t weights, compute, staging, cache; /* ours, by use; cache: embeddings kept on the device */
    size_t latents;     /* ours too: what tasks keep on the device between slices, suspended ones as well */
    size_t peak;        /* most that was ours at once */
} vram_figures;

/* Of a device and its ledger; no latents. */
vram_figures vram_figures_of(const device *d, size_t cache);

typedef struct vram_stats {
    vram_figures figures;
    size_t used;    /* what the device reports as used, by anybody */
    size_t ours;    /* of all uses */
    size_t foreign; /* used and not ours; never below 0, though a device may report late */
    bool limited;   /* our limit is the fuller bound, else the device is */
    size_t bound, bound_used, bound_free; /* the fuller bound: bytes, used of them, and the rest */
    double utilization_percent;           /* bound_used of bound */
    vram_state state;
} vram_stats;

/* Pure: the state follows from the figures and from the state before. */
vram_stats vram_stats_of(const vram_figures *f, vram_state before);

/* How memory is given back; each is called only from the manager's functions. Those that free return the device's bytes that came back. */
typedef struct vram_callbacks {
    void *context;
    void (*read)(void *context, vram_figures *f);
    size_t (*free_compute)(void *context);              /* compute buffers that nobody is using */
    size_t (*free_cache)(void *context);                /* cached embeddings */
    bool (*evict_idle)(void *context, size_t *bytes);   /* one model, the least recently used that is not leased; false: there is none */
} vram_callbacks;

/* What went. */
typedef struct vram_freed {
    size_t compute, cache, models; /* bytes of the device */
    int model_count;
} vram_freed;

typedef struct vram_manager vram_manager;

bool vram_manager_new(const vram_callbacks *callbacks, vram_manager **out, error *e);
void vram_manager_free(vram_manager *m); /* NULL is fine */

/* Reads the figures; the state is the manager's from then on. */
vram_stats vram_manager_get_vram_stats(vram_manager *m);
/* Frees all that can be freed, whatever the state: compute buffers, then embeddings, then every idle model. */
vram_freed vram_manager_clear_cache(vram_manager *m);
/* Whether `bytes` more would make the device critical: then weights should stay in main memory and be streamed. */
bool vram_manager_should_offload_to_cpu(vram_manager *m, size_t bytes);
/* To be called after a task. At high or above frees in the order of clear_cache, one thing after the other, until the state is moderate. */
vram_freed vram_manager_cleanup_if_needed(vram_manager *m);

#endif
