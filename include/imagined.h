/* imagined as a library: prompts in, pixels out, in the calling process.
 *
 *     imagined_fault why;
 *     imagined *engine;
 *     if (!imagined_open(&(imagined_options){.device = "auto"}, &engine, &why)) …why.text…
 *     imagined_request request = IMAGINED_REQUEST_DEFAULTS;
 *     request.model_folder = "/models/flux1-dev";
 *     request.prompt = "a fox on a blue background";
 *     imagined_image image;
 *     if (!imagined_generate(engine, &request, NULL, NULL, &image, &why)) …
 *     … image.rgb: image.width × image.height × 3 bytes, rows from the top …
 *     imagined_image_free(&image);
 *     imagined_close(engine);
 *
 * Functions that can fail return false and fill *why (NULL is allowed) with a sentence. One thread at a time uses an engine; several
 * engines may live side by side. Strings are UTF-8. Nothing is written to standard output. */
#ifndef IMAGINED_H
#define IMAGINED_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct imagined imagined; /* a device and the models loaded on it */

typedef struct imagined_fault {
    int code;        /* never 0; the values of error_code in base/error.h */
    char field[64];  /* the request's field at fault, or "" */
    char text[512];
} imagined_fault;

typedef struct imagined_options {
    const char *device; /* "auto" (or NULL): a GPU if there is one, else "cpu"; or "vulkan", "cuda", … */
    int threads;        /* of the CPU; 0: one a core */
    int max_models;     /* models kept in memory, the least recently used leaves first; 0: 2 */
    int vram_limit_mb;  /* MiB of the device's memory to take at most (on the CPU of main memory, mapped weights apart); 0: no limit */
} imagined_options;

/* What to make. Zero or NULL asks for the model's default, where the comment does not say otherwise. Files are read while it is made. */
typedef struct imagined_request {
    const char *model_folder;    /* diffusers layout; required */
    const char *prompt;          /* at most 8 KiB; required */
    const char *negative_prompt; /* NULL: none; used when true_cfg_scale > 1 */
    const char *precision;       /* "auto" (NULL), "f32", "bf16", "f16" */
    int width, height;           /* pixels; multiples of twice the VAE's factor */
    int steps;
    int max_sequence_length;     /* tokens of the T5 encoder */
    double guidance_scale;       /* < 0: the model's default */
    double true_cfg_scale;       /* > 1 with a negative prompt: classifier-free guidance */
    uint64_t seed;               /* as torch.Generator("cpu").manual_seed takes it */
    const char
        *image; /* a PNG, JPEG or WebP file to begin from; NULL: from noise. Without width and height the picture has its proportions */
    const char *mask;            /* such a file, too: what of the image is painted anew; NULL: all of it */
    bool mask_is_alpha;          /* what is transparent in the mask is painted anew; else what is white */
    double strength;             /* above 0, to 1: how much is made new, as the share of the steps that are run; 0: 0.6 */
} imagined_request;

#define IMAGINED_REQUEST_DEFAULTS {.guidance_scale = -1, .true_cfg_scale = 1}

typedef struct imagined_progress {
    const char *phase; /* "load", "encode", "denoise", "decode": what comes next */
    int step, steps;   /* finished and all denoising steps; those that strength leaves out count as finished */
} imagined_progress;

/* Called before each slice of work, on the calling thread; false ends the generation (fault code ERROR_CANCELLED). */
typedef bool imagined_on_progress(void *context, const imagined_progress *p);

typedef struct imagined_image {
    int width, height;
    uint8_t *rgb; /* yours: imagined_image_free */
    uint64_t seed;
    int steps;
    double guidance_scale; /* as used: defaults filled in */
    double strength;       /* as used; 0 without an image to begin from */
} imagined_image;

bool imagined_open(const imagined_options *options, imagined **out, imagined_fault *why);
void imagined_close(imagined *engine); /* NULL is fine */
const char *imagined_device(const imagined *engine); /* "cpu: AMD EPYC …"; borrowed */

bool imagined_generate(imagined *engine, const imagined_request *request, imagined_on_progress *progress, void *context,
                       imagined_image *out, imagined_fault *why);
void imagined_image_free(imagined_image *image);

const char *imagined_version(void);

#ifdef __cplusplus
}
#endif

#endif
