/* What an engine tells of its memory, its models and its choices: plain structs that cross the socket as they are, for the front to
 * show. */
#ifndef IMAGINED_ENGINE_ENGINE_SNAPSHOT_H
#define IMAGINED_ENGINE_ENGINE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "models/model_folder.h"

enum { ENGINE_MODEL_ROWS = 32, ENGINE_REASON_BYTES = 160, ENGINE_PLAN_STEPS = 8 };

/* Why a model left the cache. */
typedef enum eviction_cause { EVICTED_COUNT, EVICTED_BYTES, EVICTED_VRAM, EVICTED_MANUAL, EVICTION_CAUSES } eviction_cause;

const char *eviction_cause_name(eviction_cause c); /* "count", "bytes", "vram", "manual" */

typedef enum engine_model_state { MODEL_LOADING, MODEL_CACHED, MODEL_IN_USE } engine_model_state;

/* A model in the cache. Parts shared with other models count in each row, and once in the totals. */
typedef struct engine_model_row {
    char name[MODEL_NAME_BYTES]; /* as the front named it */
    char precision[8];
    engine_model_state state;
    int32_t leases;
    uint64_t loads;                                            /* how often it was loaded since the engine started */
    uint64_t size_bytes;                                       /* weights, wherever they are */
    uint64_t mapped_bytes, private_bytes, vram_bytes;          /* weights: in mappings, in private main memory, on the device */
    uint64_t compute_bytes;                                    /* compute buffers it keeps */
    uint64_t peak_bytes; /* most that a task of it took of the device, beyond the weights, with what ran beside it */
    uint64_t resident_blocks, streamed_blocks;                 /* of the transformer; streamed 0: all is on the device */
    double load_seconds;                                       /* of the last load */
    int64_t last_used_ms;                                      /* Unix milliseconds */
} engine_model_row;

/* A choice of the optimization manager with its reason, in an operator's words. */
typedef struct engine_choice {
    char value[32]; /* "flash", "tiled", "torch.bfloat16", … */
    char reason[ENGINE_REASON_BYTES];
} engine_choice;

typedef struct engine_snapshot {
    uint64_t number;   /* rises by one with each snapshot of one engine */
    int64_t taken_ms;  /* Unix milliseconds */
    /* The device: bytes. limit 0: none. On the CPU "device" is main memory and what is ours is private bytes and compute buffers. */
    uint64_t total_bytes, free_bytes, limit_bytes;
    uint64_t weight_bytes, compute_bytes, staging_bytes, cache_bytes, peak_bytes; /* ours, by use; cache: embeddings */
    uint64_t latent_bytes; /* main memory that tasks keep: latents, embeddings, pixels */
    uint64_t pinned_bytes;                                                        /* host memory pinned for streaming */
    uint64_t process_bytes;                                                       /* resident main memory of the engine */
    char state[12]; /* "low", "moderate", "high", "critical" */
    /* The cache of models. */
    uint64_t max_models, max_cache_bytes, cached_weight_bytes;
    uint64_t loads, evictions[EVICTION_CAUSES];
    int32_t model_count;
    engine_model_row models[ENGINE_MODEL_ROWS];
    /* The cache of prompt embeddings. */
    uint64_t prompt_hits, prompt_misses, prompt_entries, prompt_bytes, prompt_max_bytes;
    /* Batching. */
    uint64_t steps, batched_steps, batched_images; /* device runs of a step; of those, with more than one image; images in these */
    /* The optimization manager. */
    bool amp_enabled, flash_attention_available;
    engine_choice dtype, attention, vae, tf32;
} engine_snapshot;

/* What a task took, measured: for the next admission and for estimates. Keyed by all fields up to `batch`. */
typedef struct engine_profile {
    char model[MODEL_NAME_BYTES];
    char precision[8];
    int32_t width, height, text_tokens;
    bool guidance_pair;
    int32_t batch;         /* images in a step */
    uint64_t peak_bytes;   /* device memory beyond the weights, the most there was at once; 0: not known */
    uint64_t reserve_bytes; /* of it, what no ledger entry accounts for */
    double step_seconds;   /* of one step of the whole batch; 0: not known; so below */
    double load_seconds, encode_seconds, decode_seconds;
} engine_profile;

#endif
