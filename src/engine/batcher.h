/* How many images share the next denoising step, learnt from what steps took.
 *
 * For each key the seconds of a step are kept by batch size, as an exponentially weighted mean. The size grows by one while the last growth
 * raised the images a second by more than BATCHER_GAIN, and stops there: a machine that one image keeps busy takes them one at a time, a
 * larger one several. A growth that did not pay is tried again after BATCHER_RETRY further steps, as is a size that found no memory.
 *
 * Pure arithmetic: no clock, no device. One thread. */
#ifndef IMAGINED_ENGINE_BATCHER_H
#define IMAGINED_ENGINE_BATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "models/model_folder.h"

enum {
    BATCHER_MAX = 16,      /* images in a step */
    BATCHER_KEYS = 32,     /* remembered; the least recently used is forgotten first */
    BATCHER_SAMPLES = 3,   /* steps of a size before it is judged; one more is run first and not counted, as it builds the graph */
    BATCHER_RETRY = 500,   /* steps between two tries of a size that was given up */
};
#define BATCHER_GAIN 1.03 /* images a second after a growth over before, at least */

/* What must be the same for two steps to take the same time. */
typedef struct batch_key {
    char model[MODEL_NAME_BYTES];
    char precision[8];
    int width, height, text_tokens;
    bool guidance_pair;
} batch_key;

typedef struct batch_record {
    batch_key key;
    uint64_t used;
    uint32_t since_given_up; /* steps run since a size was tried and given up */
    struct {
        double seconds;   /* of a step of this size; 0: not known */
        uint32_t samples; /* steps that were run, with the first, which is not counted in `seconds` */
        bool no_memory;
    } sizes[BATCHER_MAX + 1]; /* [0] is not used */
} batch_record;

typedef struct batcher {
    int fixed;    /* 0: learns. Else: as many as there are, up to this */
    uint64_t uses;
    batch_record records[BATCHER_KEYS];
} batcher; /* zeroed: learns, knows nothing */

/* How many of `available` images (≥ 1) to run together now: 1 … min(available, BATCHER_MAX). */
int batcher_choose(batcher *b, const batch_key *key, int available);
/* A step of `size` images took `seconds`. */
void batcher_note(batcher *b, const batch_key *key, int size, double seconds);
/* There was no memory for a step of `size` images. */
void batcher_no_memory(batcher *b, const batch_key *key, int size);
/* Measured by an earlier engine: believed until it is measured here. */
void batcher_prime(batcher *b, const batch_key *key, int size, double seconds);
/* Seconds of a step of `size` images; 0: not known. */
double batcher_seconds(const batcher *b, const batch_key *key, int size);

#endif
