/* One task's way through the model in bounded slices: load → encode → denoise step by step → decode. Its images may run their steps side by
 * side, also with those of other tasks; each is decoded as soon as it has had its last.
 *
 * The step loop of the engine process and `imagined generate` both drive it. One thread. */
#ifndef IMAGINED_ENGINE_GENERATION_H
#define IMAGINED_ENGINE_GENERATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/batcher.h"
#include "engine/engine_room.h"
#include "engine/task_message.h"

typedef struct generation generation;

/* A finished image: width × height × 3 bytes of RGB, borrowed until the next call on this generation. */
typedef struct generated_image {
    int index;
    uint64_t seed;
    int width, height;
    const uint8_t *rgb;
} generated_image;

/* What an image looks like after `step` of its steps: width × height × 3 bytes of RGB, borrowed until the next call on this generation. */
typedef struct generated_preview {
    int image, step;
    int width, height;
    const uint8_t *rgb;
} generated_preview;

/* Where a generation stands: what its next slice will do. */
typedef struct generation_state {
    engine_phase phase;
    int image, images;
    int step, steps; /* finished and all steps of this image; those that strength leaves out count as finished */
    bool finished;
    uint64_t bytes_done, bytes_total; /* of weights, while loading, also in the middle of a slice; else 0 */
} generation_state;

/* Copies the request and takes the files that it names, whatever happens: *files is empty afterwards. The model is leased in the first
 * slice. The room outlives the generation. */
bool generation_new(engine_room *room, const engine_request *request, engine_files *files, generation **out, error *e);
void generation_free(generation *g); /* NULL is fine; gives the model back */
generation_state generation_get_state(const generation *g);
/* Runs one slice. When it completed an image, *image is filled (else image->rgb is NULL). A denoising slice is one step of one image, a
 * decoding slice one tile. Memory that runs out in spite of the plan evicts idle models and plans the rest one step lower, once; a finished
 * image's decoding, as often as there is a smaller tile. After a failure only generation_free is allowed. */
bool generation_advance(generation *g, generated_image *image, error *e);
const engine_metrics *generation_metrics(const generation *g);
/* Main memory that it keeps between two slices: latents, embeddings, pixels. */
size_t generation_bytes(const generation *g);
/* Its model's row keeps the most that a task took: `bytes` of the device beyond the weights. Nothing before the model is leased. */
void generation_note_peak(generation *g, uint64_t bytes);
/* The seconds of its phases: of a load and of encoding prompts only where they took place, of decoding for one image. */
void generation_fill_profile(const generation *g, engine_profile *out);
/* How its memory is planned, each time that was done anew; NULL when there is nothing new to tell. Borrowed. */
const engine_plan *generation_new_plan(generation *g);
/* After ERROR_OUT_OF_MEMORY in a denoising step of one image: whether it may be tried again, in less memory. generation_advance asks for
 * itself. */
bool generation_go_lower(generation *g);

/* Its images that have denoising steps to go and can run them side by side; 0 before its prompts are encoded. */
int generation_images_to_step(const generation *g);
/* Whether images of both may run a step together: both have some, of one model, shape, text length and guidance mode. */
bool generation_can_share(const generation *a, const generation *b);
batch_key generation_batch_key(const generation *g);
bool generation_begins_from_picture(const generation *g);

typedef struct generation_share {
    generation *task;
    int images;   /* the first so many of its images_to_step */
    bool preview; /* the first of these is to leave a preview */
} generation_share;
/* One slice of several tasks that can share: a step of each of these images, FLUX_DENOISE_MAX_BATCH at most. *seconds: what the step took.
 * After a failure nobody has moved and each may go on: apart, or with fewer images. */
bool generation_step_together(const generation_share *shares, int count, double *seconds, error *e);
/* The preview that the task's last step left; false: it was to leave none, or its model has no colours for it. */
bool generation_get_preview(const generation *g, generated_preview *out);

#endif
