#include "models/flux_denoise.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "models/autoencoder_tiling.h"
#include "models/flux_latents.h"
#include "models/flux_original.h"
#include "models/flux_pipeline_internal.h"
#include "sampling/flow_match_euler.h"
#include "sampling/torch_random.h"

struct flux_denoise {
    flux_pipeline *pipeline;
    uint64_t number; /* unlike any other of this pipeline, also of those that are gone */
    flux_denoise_request request;
    int rows, columns; /* tokens of the picture */
    int next;          /* step to run */
    size_t values;     /* of the latent */
    float *latent;     /* tokens [rows·columns][in_channels] */
    float *sigmas, *timesteps;
    uint8_t *preview;  /* NULL: none was wanted so far */
    bool preview_wanted;
    int previewed;     /* the preview is of the step after which `next` was this; 0: it holds none */
    flux_original original; /* zeroed where the image begins from noise */
    autoencoder_tiles *tiles; /* while it is being decoded … */
    const autoencoder_kl *decoder; /* … by this one */
};

/* torch.randn in the latent's own shape, then packed. */
static bool draw_noise(flux_denoise *d, int channels, error *e) {
    float *planes = malloc(d->values * sizeof *planes);
    if (planes == NULL) return error_no_memory(e, "the initial noise", d->values * sizeof *planes);
    torch_randn(d->request.seed, planes, d->values);
    flux_latents_pack(planes, channels, d->rows, d->columns, d->latent);
    free(planes);
    return true;
}

/* Leaves out the steps that strength does, and begins at their noise level from the picture. */
static bool begin_from_image(flux_denoise *d, int channels, error *e) {
    const flux_denoise_request *r = &d->request;
    if (r->image == NULL) return true;
    d->next = flux_original_first_step(r->steps, r->strength);
    if (!flux_original_take(&d->original, r->image, r->mask, d->latent, channels, d->rows, d->columns, e)) return false;
    flux_original_begin(&d->original, d->sigmas[d->next], d->latent);
    if (r->mask == NULL) flux_original_free(&d->original); /* nothing of it stays */
    d->request.image = d->request.mask = NULL; /* the caller's */
    return true;
}

/* In the tiles that are asked for. A decoder that is not here now was counted with by whoever sent it away. */
static bool decoder_fits(void *context, error *e) {
    const flux_denoise *d = context;
    int columns = 2 * d->columns, rows = 2 * d->rows, tile = d->request.vae_tile;
    return d->pipeline->vae == NULL ||
           autoencoder_kl_fits(d->pipeline->vae, tile > 0 && tile < columns ? tile : columns, tile > 0 && tile < rows ? tile : rows, 1, e);
}

bool flux_denoise_new(flux_pipeline *p, const flux_denoise_request *request, flux_denoise **out, error *e) {
    if ((p->parts.seen & FLUX_DECODER) == 0 && !flux_pipeline_ensure(p, FLUX_DECODER, e)) return false;
    int channels = (int)p->parts.fit.latent_channels, multiple = p->parts.info.size_multiple;
    if (request->positive->tokens < 1 || (request->negative != NULL && request->negative->tokens != request->positive->tokens))
        return error_set(e, ERROR_INTERNAL, "the prompt and the negative prompt were encoded to different lengths");
    if (request->image != NULL && !(request->strength > 0 && request->strength <= 1))
        return error_set(e, ERROR_INVALID, "a strength of %g: it must be above 0 and at most 1", request->strength);
    flux_denoise *d = calloc(1, sizeof *d);
    if (d == NULL) return error_no_memory(e, "a picture", sizeof *d);
    d->pipeline = p;
    d->number = ++p->denoisings;
    d->request = *request;
    d->rows = request->height / multiple;
    d->columns = request->width / multiple;
    /* A picture that cannot be decoded is refused before its steps, which can take hours, not after. */
    bool ok = flux_pipeline_with_room(p, decoder_fits, d, e) &&
              ((checked_mul((size_t)d->rows * (size_t)d->columns, 4 * (size_t)channels, &d->values) && d->values < SIZE_MAX / 16) ||
               error_no_memory(e, "a picture of that size", SIZE_MAX));
    if (ok) {
        d->latent = malloc(d->values * sizeof *d->latent);
        d->sigmas = malloc(((size_t)request->steps + 1) * sizeof *d->sigmas);
        d->timesteps = malloc((size_t)request->steps * sizeof *d->timesteps);
        ok = (d->latent != NULL && d->sigmas != NULL && d->timesteps != NULL) ||
             error_no_memory(e, "a picture of that size", d->values * sizeof *d->latent);
    }
    if (ok) flow_match_sigmas(&p->parts.schedule, request->steps, (int64_t)d->rows * d->columns, d->sigmas, d->timesteps);
    if (!ok || !draw_noise(d, channels, e) || !begin_from_image(d, channels, e)) {
        flux_denoise_free(d);
        return false;
    }
    *out = d;
    return true;
}

void flux_denoise_free(flux_denoise *d) {
    if (d == NULL) return;
    free(d->latent);
    free(d->sigmas);
    free(d->timesteps);
    free(d->preview);
    flux_original_free(&d->original);
    autoencoder_tiles_free(d->tiles);
    free(d);
}

int flux_denoise_steps_done(const flux_denoise *d) { return d->next; }

static size_t preview_bytes(const flux_denoise *d) {
    int width, height;
    latent_rgb_size(d->rows, d->columns, &width, &height);
    return (size_t)width * (size_t)height * 3;
}

void flux_denoise_want_preview(flux_denoise *d) {
    const flux_parts *parts = &d->pipeline->parts;
    if (parts->info.latent_rgb.channels != (int)parts->fit.latent_channels) return; /* none, as a rule: 0 */
    if (d->preview == NULL) d->preview = malloc(preview_bytes(d));
    d->preview_wanted = d->preview != NULL;
}

const uint8_t *flux_denoise_preview(const flux_denoise *d, int *width, int *height) {
    latent_rgb_size(d->rows, d->columns, width, height);
    return d->previewed > 0 && d->previewed == d->next ? d->preview : NULL;
}

size_t flux_denoise_bytes(const flux_denoise *d) {
    if (d == NULL) return 0;
    return sizeof *d + (d->preview != NULL ? preview_bytes(d) : 0) + (d->values + 2 * (size_t)d->request.steps + 1) * sizeof(float) +
           flux_original_bytes(&d->original) + autoencoder_tiles_bytes(d->tiles);
}

/* ── one step ── */

static int branches(const flux_denoise *d) { return d->request.negative != NULL ? 2 : 1; }

bool flux_denoise_can_share(const flux_denoise *a, const flux_denoise *b) {
    return a->pipeline == b->pipeline && a->rows == b->rows && a->columns == b->columns && branches(a) == branches(b) &&
           a->request.positive->tokens == b->request.positive->tokens;
}

static bool check_batch(flux_denoise *const *items, int count, error *e) {
    if (count < 1 || count > FLUX_DENOISE_MAX_BATCH)
        return error_set(e, ERROR_INTERNAL, "%d pictures in a step: from 1 to %d are possible", count, FLUX_DENOISE_MAX_BATCH);
    for (int i = 0; i < count; i++) {
        if (!flux_denoise_can_share(items[0], items[i]))
            return error_set(e, ERROR_INTERNAL, "pictures that cannot share a step were to do so");
        if (items[i]->next >= items[i]->request.steps) return error_set(e, ERROR_INTERNAL, "the picture has had all its steps");
    }
    return true;
}

/* Images that share a step. Each takes `branches` items of the graph's batch beside each other: positive, then negative. */
typedef struct batch {
    flux_denoise *const *items;
    int count;
    flux_step_slot *slot;
} batch;

static bool take_graph(void *context, error *e) {
    batch *b = context;
    const flux_denoise *d = b->items[0];
    if (!flux_pipeline_ensure(d->pipeline, FLUX_TRANSFORMER, e)) return false;
    size_t slice = 0; /* the narrowest bound of all */
    for (int i = 0; i < b->count; i++) {
        size_t own = b->items[i]->request.attention_slice;
        if (own > 0 && (slice == 0 || own < slice)) slice = own;
    }
    const flux_step_shape shape = {d->rows, d->columns, d->request.positive->tokens, b->count * branches(d), slice};
    return flux_steps_take(&d->pipeline->steps, d->pipeline->transformer, &shape, d->values, &b->slot, e);
}

/* Only where another had the place before: the graph keeps its conditionings from step to step. */
static void set_conditioning(flux_step_slot *s, int item, const flux_denoise *d, const conditioning *c, int branch) {
    uint64_t member = 2 * d->number + (uint64_t)branch;
    if (s->members[item] == member) return;
    flux_step_condition_item(s->step, item, c->hidden, c->pooled);
    s->members[item] = member;
}

static void set_conditionings(const batch *b) {
    int item = 0;
    for (int i = 0; i < b->count; i++) {
        const flux_denoise *d = b->items[i];
        set_conditioning(b->slot, item++, d, d->request.positive, 0);
        if (d->request.negative != NULL) set_conditioning(b->slot, item++, d, d->request.negative, 1);
    }
}

static bool run(const batch *b, error *e) {
    float timesteps[2 * FLUX_DENOISE_MAX_BATCH], guidance[2 * FLUX_DENOISE_MAX_BATCH];
    int item = 0;
    for (int i = 0; i < b->count; i++) {
        const flux_denoise *d = b->items[i];
        for (int branch = 0; branch < branches(d); branch++, item++) {
            /* FluxPipeline hands the transformer timestep / 1000, in float32. */
            timesteps[item] = d->timesteps[d->next] / 1000.0f;
            guidance[item] = (float)d->request.guidance_scale;
            memcpy(b->slot->latents + (size_t)item * d->values, d->latent, d->values * sizeof *d->latent);
        }
    }
    return flux_step_run(b->slot->step, b->slot->latents, timesteps, guidance, b->slot->velocity, e);
}

/* velocity: the image's own, positive first; is left guided. */
static void move(flux_denoise *d, float *velocity) {
    if (d->request.negative != NULL) {
        float scale = (float)d->request.true_cfg_scale;
        for (size_t i = 0; i < d->values; i++) {
            float negative = velocity[d->values + i];
            velocity[i] = negative + scale * (velocity[i] - negative);
        }
    }
    flow_match_step(d->latent, velocity, (int64_t)d->values, d->sigmas[d->next], d->sigmas[d->next + 1]);
    d->next++;
    flux_original_restore(&d->original, d->sigmas[d->next], d->latent);
    if (!d->preview_wanted) return;
    /* The latent lies on the line from noise to what this velocity leads to: x − σ·v is that, before the step and after it. */
    latent_rgb_paint(&d->pipeline->parts.info.latent_rgb, d->latent, velocity, d->sigmas[d->next], d->rows, d->columns, d->preview);
    d->preview_wanted = false;
    d->previewed = d->next;
}

bool flux_denoise_step_batch(flux_denoise *const *items, int count, error *e) {
    batch b = {items, count, NULL};
    if (!check_batch(items, count, e) || !flux_pipeline_with_room(items[0]->pipeline, take_graph, &b, e)) return false;
    set_conditionings(&b);
    if (!run(&b, e)) return false;
    for (int i = 0; i < count; i++) move(items[i], b.slot->velocity + (size_t)(i * branches(items[i])) * items[i]->values);
    return true;
}

bool flux_denoise_step(flux_denoise *d, bool *more, error *e) {
    if (!flux_denoise_step_batch(&d, 1, e)) return false;
    *more = d->next < d->request.steps;
    return true;
}

/* ── pixels ── */

static bool begin_decoding(flux_denoise *d, error *e) {
    flux_pipeline *p = d->pipeline;
    float *planes = malloc(d->values * sizeof *planes);
    if (planes == NULL) return error_no_memory(e, "decoding the picture", d->values * sizeof *planes);
    flux_latents_unpack(d->latent, (int)p->parts.fit.latent_channels, d->rows, d->columns, planes);
    bool ok = autoencoder_tiles_new(p->vae, planes, 2 * d->columns, 2 * d->rows, d->request.vae_tile, &d->tiles, e);
    free(planes);
    return ok;
}

typedef struct decoding {
    flux_denoise *denoise;
    bool more;
} decoding;

static bool decode_tile(void *context, error *e) {
    decoding *c = context;
    flux_denoise *d = c->denoise;
    if (!flux_pipeline_ensure(d->pipeline, FLUX_DECODER, e)) return false;
    if (d->tiles != NULL && d->decoder != d->pipeline->vae) flux_denoise_set_tile(d, d->request.vae_tile); /* it left and came again */
    d->decoder = d->pipeline->vae;
    return (d->tiles != NULL || begin_decoding(d, e)) &&
           autoencoder_tiles_decode_next(d->tiles, &c->more, e);
}

bool flux_denoise_decode_next(flux_denoise *d, uint8_t *rgb, bool *more, error *e) {
    decoding c = {d, true};
    if (!flux_pipeline_with_room(d->pipeline, decode_tile, &c, e)) return false;
    *more = c.more;
    if (!c.more) {
        autoencoder_kl_to_rgb8(autoencoder_tiles_planes(d->tiles), d->request.width, d->request.height, rgb);
        flux_denoise_set_tile(d, d->request.vae_tile);
    }
    return true;
}

void flux_denoise_set_tile(flux_denoise *d, int tile) {
    autoencoder_tiles_free(d->tiles);
    d->tiles = NULL;
    d->request.vae_tile = tile;
}

void flux_denoise_set_attention_slice(flux_denoise *d, size_t bytes) { d->request.attention_slice = bytes; }

bool flux_denoise_decode(flux_denoise *d, uint8_t *rgb, error *e) {
    for (bool more = true; more;)
        if (!flux_denoise_decode_next(d, rgb, &more, e)) return false;
    return true;
}
