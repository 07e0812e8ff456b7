/* What a model folder says of itself, read from its small JSON files alone: enough to list models, to validate a request and to fill in
 * defaults, without a device and without touching a weight. Any process may use it.
 *
 * A folder is a diffusers pipeline: model_index.json names the class and the parts; imagined.json beside it, optional, holds our
 * defaults (width, height, steps, guidance, max_sequence_length) and what latents look like (latent_rgb). */
#ifndef IMAGINED_MODELS_MODEL_FOLDER_H
#define IMAGINED_MODELS_MODEL_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/latent_rgb.h"

enum { MODEL_NAME_BYTES = 128, MODEL_PATH_BYTES = 1024, MODEL_MAX_SIDE = 16384 };

typedef struct model_info {
    char name[MODEL_NAME_BYTES];    /* the folder's name, or "demo" */
    char folder[MODEL_PATH_BYTES];
    char class_name[64];            /* "FluxPipeline" */
    uint64_t size_bytes;            /* of all weight files */
    int vae_factor;                 /* pixels a latent cell, each way (8) */
    int latent_channels;
    int size_multiple;              /* width and height are multiples of this (twice the VAE factor) */
    bool guidance_embedded;         /* guidance_scale means something (dev, not schnell) */
    int width, height, steps;       /* defaults */
    double guidance;
    latent_rgb latent_rgb;          /* for previews; 0 channels: none */
    int max_sequence_length;        /* default and, where the tokenizer's is sane, the one it was trained with */
} model_info;

/* Reads the folder's JSON. ERROR_NOT_FOUND, ERROR_BAD_FILE (file and key named), ERROR_UNSUPPORTED (another pipeline class). */
bool model_folder_read(const char *folder, const char *name, model_info *out, error *e);

/* How much of a picture to begin from is made new where nobody says (diffusers' FluxImg2ImgPipeline). */
#define MODEL_DEFAULT_STRENGTH 0.6
/* The size of what is made from a picture of from_width × from_height, where nobody says: its proportions, in at most as many pixels as the
 * model's own size has, rounded to the size_multiple. */
void model_size_for_picture(const model_info *m, int from_width, int from_height, int *width, int *height);

typedef struct model_list {
    model_info *models; /* "demo" first where there is one, then by name */
    size_t count;
} model_list;

/* The demo model (where found) and each subfolder of `models_folder` that holds a model_index.json. Folders that cannot be used are left
 * out and logged by the caller through `complain` (may be NULL). A missing models_folder is an empty one. */
bool model_list_read(const char *demo_folder, const char *models_folder,
                     void (*complain)(void *context, const char *folder, const error *e), void *context, model_list *out, error *e);
void model_list_free(model_list *l);
const model_info *model_list_find(const model_list *l, const char *name); /* NULL when there is none */

#endif
