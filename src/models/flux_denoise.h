/* One image on its way from noise to pixels (diffusers' FluxPipeline, its denoising loop), in steps that images of the same pipeline,
 * shape, text length and guidance mode may run together, each at a step index of its own.
 *
 * One thread; the pipeline outlives its denoisings. */
#ifndef IMAGINED_MODELS_FLUX_DENOISE_H
#define IMAGINED_MODELS_FLUX_DENOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/flux_pipeline.h"

enum { FLUX_DENOISE_MAX_BATCH = 16 }; /* images in one step */

/* What one denoising needs. */
typedef struct flux_denoise_request {
    int width, height, steps; /* pixels, multiples of the model's size_multiple */
    uint64_t seed;
    double guidance_scale;
    const conditioning *positive;
    const conditioning *negative; /* NULL: no classifier-free guidance */
    double true_cfg_scale;
    size_t attention_slice; /* of the steps' graphs (flux_step_shape); 0: attention all at once */
    int vae_tile;           /* latent cells of the tiles that the picture is decoded in; 0: whole */
    /* Image to image; all are copied. Latents of the picture to begin from, [latent channels][height / factor][width / factor], as
     * autoencoder_encoder_encode makes them; NULL: begin from noise, and the two below mean nothing. */
    const float *image;
    double strength;   /* above 0, to 1: the share of the steps that is run; at 1 it begins from noise alone */
    const float *mask; /* a number a latent cell, [height / factor][width / factor]: 1 is painted anew, 0 stays as it is; NULL: all anew */
} flux_denoise_request;

typedef struct flux_denoise flux_denoise; /* its latent, its schedule, where it stands */

/* Draws the initial noise, or mixes it with the picture to begin from, and makes the schedule. ERROR_OUT_OF_MEMORY already here for a
 * picture that there is no memory to decode. The request's conditionings are copied to the device as needed and must stay valid. */
bool flux_denoise_new(flux_pipeline *p, const flux_denoise_request *request, flux_denoise **out, error *e);
void flux_denoise_free(flux_denoise *d); /* NULL is fine */
int flux_denoise_steps_done(const flux_denoise *d); /* of `steps`; those that `strength` leaves out count as done */
size_t flux_denoise_bytes(const flux_denoise *d); /* main memory it holds: the latent, the schedule, a preview, what a mask keeps, what is decoded so far; 0 for NULL */

/* The next step is to leave a preview of what the picture becomes (latent_rgb.h). Where the model has no map for that, or there is no
 * memory, it leaves none. */
void flux_denoise_want_preview(flux_denoise *d);
/* That of the last step, where it was to leave one: *width × *height × 3 bytes of RGB, borrowed until the next; else NULL. */
const uint8_t *flux_denoise_preview(const flux_denoise *d, int *width, int *height);

/* Whether two images may run a step together. Their prompts, seeds, guidance scales, numbers of steps and places in them may differ. */
bool flux_denoise_can_share(const flux_denoise *a, const flux_denoise *b);
/* One Euler step of each of 1 … FLUX_DENOISE_MAX_BATCH different images that can share and have steps to go. The pictures equal those of
 * single steps but for rounding, as matrix products take their sums in another order for another number of rows; one image alone always
 * gives the same bits. After a failure no image has moved: they can be tried again, alone or with fewer others. */
bool flux_denoise_step_batch(flux_denoise *const *items, int count, error *e);
/* The same of one image alone; false in *more after its last step. */
bool flux_denoise_step(flux_denoise *d, bool *more, error *e);
/* Decodes the latent into width × height × 3 bytes of RGB: a tile a call; false in *more after the last, when `rgb` is filled. After a
 * failure the latent is as it was, and it can be tried again, with another tile. */
bool flux_denoise_decode_next(flux_denoise *d, uint8_t *rgb, bool *more, error *e);
bool flux_denoise_decode(flux_denoise *d, uint8_t *rgb, error *e); /* all of it */
/* Changes of the request's own; what was decoded so far is decoded anew. */
void flux_denoise_set_tile(flux_denoise *d, int tile);
void flux_denoise_set_attention_slice(flux_denoise *d, size_t bytes);

#endif
