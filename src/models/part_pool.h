/* The parts of all models in memory, each once: two pipelines whose text encoder is the same file (by hard or symbolic link, or the very
 * folder) hold one between them.
 *
 * A part is known by its kind, how it was loaded (precision, copied, resident bytes) and its files (part_files.h). It lives as long as
 * somebody holds it. A part keeps the graph of the last shape it ran; holders take turns, all on one thread, the device's. */
#ifndef IMAGINED_MODELS_PART_POOL_H
#define IMAGINED_MODELS_PART_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "models/autoencoder_encoder.h"
#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/component.h"
#include "models/flux_transformer.h"
#include "models/part_files.h"
#include "models/t5_encoder.h"

/* In the order they are loaded: the largest comes when all else is known. The image encoder comes only where a picture is to begin from
 * another; its file is the autoencoder's, whose decoder counts it. */
typedef enum part_kind {
    PART_CLIP_TEXT,
    PART_T5_ENCODER,
    PART_AUTOENCODER_KL,
    PART_FLUX_TRANSFORMER,
    PART_IMAGE_ENCODER,
    PART_KINDS,
} part_kind;

typedef struct part_pool part_pool;
typedef struct model_part model_part;

bool part_pool_new(device *d, part_pool **out, error *e); /* the device outlives the pool */
void part_pool_free(part_pool *pool);                     /* nothing may be held; NULL is fine */
device *part_pool_device(const part_pool *pool);

/* The part, loaded from `folder` if it is not in memory yet. `files` is what part_files_read said of the folder: files that changed since
 * are an error, ERROR_BUSY. The part is yours to give back. */
bool part_pool_take(part_pool *pool, part_kind kind, const char *folder, const part_files *files, const load_options *o, model_part **out,
                    error *e);
/* The same, only if it is in memory; else NULL. */
model_part *part_pool_find(part_pool *pool, part_kind kind, const part_files *files, const load_options *o);
void part_pool_give_back(part_pool *pool, model_part *p); /* frees what nobody holds any more; NULL is fine */

/* What the part is. The kind must be right. */
clip_text *model_part_clip_text(const model_part *p);
t5_encoder *model_part_t5_encoder(const model_part *p);
flux_transformer *model_part_flux_transformer(const model_part *p);
autoencoder_kl *model_part_autoencoder_kl(const model_part *p);
autoencoder_encoder *model_part_image_encoder(const model_part *p);

int model_part_holders(const model_part *p);
/* Gives back the part's graph and compute buffer; the next run builds them again. */
void model_part_release_graph(model_part *p);
bool model_part_prefetch(const model_part *p, size_t *at, size_t bytes); /* component_prefetch */

/* Bytes that parts hold. */
typedef struct part_figures {
    size_t weights;  /* the larger of the weight files and of what was made of them: what a cache of models counts */
    size_t mapped;   /* weight files in the address space */
    size_t private;  /* weights in main memory of our own */
    size_t device;   /* weights on a device with memory of its own */
    size_t compute;  /* compute buffers of the graphs they keep */
} part_figures;

part_figures model_part_figures(const model_part *p);
part_figures part_pool_figures(const part_pool *pool); /* of all parts, each once */
void part_figures_add(part_figures *sum, const part_figures *f);

#endif
