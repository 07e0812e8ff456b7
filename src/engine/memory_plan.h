/* How one task's memory is planned before anything is allocated: a pure function of measured figures.
 *
 * The task has three phases: it encodes the prompt (and then the picture that it begins from, where there is one), steps the latents,
 * decodes them. The compute buffers of one phase are given back before the next begins. What does not fit is planned down a ladder, one
 * rung after the other, until it does:
 *
 *     0  all fits: other models stay in the cache, all of this one is on the device
 *     1  idle models are evicted
 *     2  the encoders leave after encoding, each when it is through; the transformer and the VAE's decoder come only then
 *     3  the VAE decodes, and encodes, in tiles
 *     4  attention goes in slices
 *     5  weights of the transformer are streamed from main memory, as few as possible
 *     6  as few weights as can be stay on the device, in the smallest tiles: never planned at first, only after rung 5 failed
 *
 * A rung that is no help, for want of idle models for example, is passed over. Figures are bytes of the task's device; where the weights of
 * a part cost it nothing, as on the CPU, which computes with them in the mapped files, they are 0. */
#ifndef IMAGINED_ENGINE_MEMORY_PLAN_H
#define IMAGINED_ENGINE_MEMORY_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { MEMORY_PLAN_TILES = 8, MEMORY_PLAN_STEPS = 8, MEMORY_PLAN_TEXT_BYTES = 160 };

typedef enum memory_level {
    MEMORY_ALL_FITS,
    MEMORY_EVICT_IDLE,
    MEMORY_RELEASE_ENCODERS,
    MEMORY_TILED_DECODING,
    MEMORY_SLICED_ATTENTION,
    MEMORY_STREAMED_WEIGHTS,
    MEMORY_LEAST,
    MEMORY_LEVELS, /* none is left */
} memory_level;

/* What decoding, or encoding, in tiles of tile × tile latent cells takes. */
typedef struct memory_tile {
    int tile;
    size_t compute;
} memory_tile;

/* What a task needs, measured (the *_measure functions of the models), and what there is. */
typedef struct memory_needs {
    size_t clip_weights, t5_weights, vae_weights;
    size_t image_encoder_weights; /* where it is here, needed or not, or will come; else 0 */
    size_t transformer_weights;
    size_t transformer_minimum; /* what must be on the device when it is streamed: group 0 and two of the largest blocks; equal to
                                   transformer_weights where it cannot be streamed */
    size_t idle_models;         /* what evicting would give back; held inside available_total now */
    size_t encode_compute;      /* the larger of the encoders' compute buffers */
    size_t step_compute;
    size_t step_compute_sliced; /* not below step_compute where slicing saves nothing */
    size_t decode_compute;      /* of the whole picture */
    memory_tile tiles[MEMORY_PLAN_TILES]; /* largest tile first */
    int tile_count;             /* 0: cannot be tiled */
    size_t picture_compute;     /* of encoding a picture to begin from; 0: there is none */
    memory_tile picture_tiles[MEMORY_PLAN_TILES];
    int picture_tile_count;
    size_t latents;             /* and embeddings: what lies there from the first phase to the last */
    size_t reserve;             /* what no figure accounts for, from the shape's profile */
    size_t available_total;     /* the device's, or the limit's, less what others and other running tasks hold */
} memory_needs;

typedef struct memory_plan {
    memory_level level;    /* the lowest rung taken */
    bool evict_idle, release_encoders;
    int vae_tile;          /* latent cells; 0: whole */
    int picture_tile;      /* the same for encoding a picture */
    bool attention_sliced;
    size_t resident_bytes; /* for load_options.resident_bytes: what the transformer's weights may take, staging included; SIZE_MAX: all */
    size_t peak;           /* the most of the three phases, idle models that stay included; at most available_total */
    char steps[MEMORY_PLAN_STEPS][MEMORY_PLAN_TEXT_BYTES]; /* one text for each measure taken, in an operator's words */
    int step_count;
    size_t missing;        /* after a refusal: so many bytes more would do */
} memory_plan;

/* The plan with the earliest rung, from `first_level` on, that fits: 0, or after memory ran out in spite of a plan its level + 1; then what
 * that rung and those above it can save is taken even where the figures say that it is not needed, and if they save nothing, the next
 * one's. ERROR_TOO_LARGE, with the figure that is missing in the text and in the plan, where even the last is too much;
 * ERROR_OUT_OF_MEMORY where the figures fit but nothing is left to give up. *plan is filled in any case. */
bool memory_plan_make(const memory_needs *needs, int first_level, memory_plan *plan, error *e);

#endif
