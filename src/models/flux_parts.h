/* What a Flux pipeline is put together from: schedule, tokenizers and parts out of the pool, four of them and for some pictures a fifth,
 * loaded one at a time, given back and taken again.
 *
 * One thread. */
#ifndef IMAGINED_MODELS_FLUX_PARTS_H
#define IMAGINED_MODELS_FLUX_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "models/model_folder.h"
#include "models/part_pool.h"
#include "sampling/flow_match_euler.h"
#include "text/tokenizer.h"

/* Sets of parts: 1 << part_kind, added up. */
enum {
    FLUX_ENCODERS = 1 << PART_CLIP_TEXT | 1 << PART_T5_ENCODER,
    FLUX_TRANSFORMER = 1 << PART_FLUX_TRANSFORMER,
    FLUX_DECODER = 1 << PART_AUTOENCODER_KL,
    FLUX_ALL_PARTS = FLUX_ENCODERS | FLUX_TRANSFORMER | FLUX_DECODER, /* that every picture takes */
    FLUX_IMAGE_ENCODER = 1 << PART_IMAGE_ENCODER, /* for those that begin from another: comes by flux_parts_ensure alone */
};

/* What parts must agree on; 0: not known yet. */
typedef struct flux_fit {
    int64_t clip_hidden, clip_vocabulary, t5_model, latent_channels, vae_factor;
    int64_t pooled, joint, in_channels, out_channels; /* the transformer's */
} flux_fit;

typedef struct flux_parts {
    part_pool *pool; /* borrowed */
    load_options options;
    model_info info;
    file_watch watch;              /* the small files; the parts' own are in `files` */
    part_files files[PART_KINDS];  /* as they were when loading began */
    model_part *parts[PART_KINDS]; /* NULL: not here yet, or not any more */
    unsigned seen;                 /* set of the parts that were here once */
    flux_fit fit;
    uint64_t bytes_coming;         /* of the part that is being loaded, in place so far */
    tokenizer *clip_tokenizer, *t5_tokenizer;
    flow_match schedule;
} flux_parts;

/* Reads the folder's small JSON files and holds what the pool has of the parts. The options' progress is told of every part that is loaded,
 * then or later. flux_parts_free, also on failure. */
bool flux_parts_begin(flux_parts *p, part_pool *pool, const char *folder, const load_options *o, error *e);
/* Loads the next thing that was not here yet: the tokenizers, then a part of FLUX_ALL_PARTS a call, the transformer last. False in *more
 * when everything was. Parts that do not fit together are an error as soon as both are known. After a failure it may be called again. */
bool flux_parts_next(flux_parts *p, bool *more, error *e);
/* Loads what is missing of `parts`, a set. Files that changed since flux_parts_begin are an error, ERROR_BUSY. */
bool flux_parts_ensure(flux_parts *p, unsigned parts, error *e);
void flux_parts_drop(flux_parts *p, unsigned parts); /* gives back what is here of `parts` */
void flux_parts_free(flux_parts *p);                 /* takes a zeroed or half-loaded one */

/* Weight bytes of a set of parts, by their files. */
uint64_t flux_parts_bytes(const flux_parts *p, unsigned parts);
unsigned flux_parts_here(const flux_parts *p); /* the set that is in memory */
/* Bytes of all weights of FLUX_ALL_PARTS, and of them those that were loaded; grows while a part is on its way. */
uint64_t flux_parts_bytes_total(const flux_parts *p);
uint64_t flux_parts_bytes_done(const flux_parts *p);
/* The first file of the model that is not as it was when loading began; NULL: none. */
const char *flux_parts_changed(const flux_parts *p);
part_figures flux_parts_figures(const flux_parts *p); /* of the parts here, shared or not */

#endif
