#include "engine/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "engine/input_picture.h"
#include "engine/task_plan.h"
#include "models/flux_denoise.h"
#include "models/flux_original.h"
#include "models/flux_picture.h"

/* Without these it is not known what encoding and decoding take. */
enum { MEASURED_PARTS = FLUX_ENCODERS | FLUX_DECODER };

typedef struct image_work {
    flux_denoise *denoise; /* NULL before its first step and after its decoding */
    bool decoded;
} image_work;

struct generation {
    engine_room *room;
    engine_request request;
    model_lease *lease;
    flux_pipeline *pipeline; /* the lease's */
    conditioning positive, negative;
    int through;  /* prompts that went through the encoders, and did not come from the cache */
    engine_files files; /* of the picture to begin from and of its mask, until they are read */
    flux_picture *picture;
    float *mask;
    double picture_seconds; /* of encoding that are not the prompts' */
    int first_step; /* those before it are left out */
    bool encoded; /* the prompts and the picture are here, as far as they are wanted */
    bool loaded;  /* the model was not in memory before */
    image_work images[ENGINE_MAX_IMAGES];
    uint8_t *rgb;
    generation_state state;
    engine_metrics metrics;
    task_plan plan;
    bool planned, told_plan; /* told_plan: there is nothing new about it */
    int lowered;             /* times that memory ran out in spite of the plan */
    char evicted[MEMORY_PLAN_TEXT_BYTES]; /* what left before anything was loaded, in words; "": nothing */
    engine_plan telling;     /* scratch */
    int previewed;           /* the image of which the last step was to leave a preview; −1: of none */
};

static bool uses_guidance_pair(const engine_request *r) { return r->has_negative_prompt && r->true_cfg_scale > 1; }

bool generation_new(engine_room *room, const engine_request *request, engine_files *files, generation **out, error *e) {
    generation *g = calloc(1, sizeof *g);
    if (g == NULL) {
        engine_files_close(files);
        return error_no_memory(e, "a task", sizeof *g);
    }
    g->room = room;
    g->request = *request;
    g->previewed = -1;
    g->files = *files;
    *files = (engine_files){0};
    g->first_step = request->has_image ? flux_original_first_step(request->steps, request->strength) : 0;
    g->state = (generation_state){.phase = PHASE_LOAD, .images = request->count, .step = g->first_step, .steps = request->steps};
    *out = g;
    return true;
}

void generation_free(generation *g) {
    if (g == NULL) return;
    for (size_t i = 0; i < ENGINE_MAX_IMAGES; i++) flux_denoise_free(g->images[i].denoise);
    conditioning_free(&g->positive);
    conditioning_free(&g->negative);
    engine_files_close(&g->files);
    flux_picture_free(g->picture);
    free(g->mask);
    model_manager_release(g->room->models, g->lease);
    free(g->rgb);
    free(g);
}

generation_state generation_get_state(const generation *g) {
    generation_state s = g->state;
    if (s.phase == PHASE_LOAD && g->lease != NULL) model_lease_progress(g->lease, &s.bytes_done, &s.bytes_total);
    return s;
}

const engine_metrics *generation_metrics(const generation *g) { return &g->metrics; }

/* Of the latents. */
static size_t cells_of(const generation *g) {
    size_t factor = (size_t)flux_pipeline_info(g->pipeline)->vae_factor;
    return ((size_t)g->request.width / factor) * ((size_t)g->request.height / factor);
}

size_t generation_bytes(const generation *g) {
    size_t bytes = conditioning_bytes(&g->positive) + conditioning_bytes(&g->negative);
    for (size_t i = 0; i < ENGINE_MAX_IMAGES; i++) bytes += flux_denoise_bytes(g->images[i].denoise);
    bytes += flux_picture_bytes(g->picture) + (g->mask != NULL ? cells_of(g) * sizeof *g->mask : 0);
    return bytes + (g->rgb != NULL ? (size_t)g->request.width * (size_t)g->request.height * 3 : 0);
}

void generation_note_peak(generation *g, uint64_t bytes) {
    if (g->lease != NULL) model_lease_note_peak(g->lease, bytes);
}

static bool check_side(const char *field, int side, int multiple, error *e) {
    if (side >= multiple && side % multiple == 0) return true;
    int below = side > multiple ? side / multiple * multiple : multiple;
    if (side < multiple)
        return error_field(e, ERROR_INVALID, field, "%s is %d: it must be a multiple of %d; the smallest is %d", field, side, multiple,
                           below);
    return error_field(e, ERROR_INVALID, field, "%s is %d: it must be a multiple of %d; the nearest are %d and %d", field, side, multiple,
                       below, below + multiple);
}

/* The front validated the request against the same folder, but the folder may have changed since. */
static bool check_against_model(const generation *g, error *e) {
    const model_info *m = flux_pipeline_info(g->pipeline);
    const engine_request *r = &g->request;
    if (!check_side("width", r->width, m->size_multiple, e) || !check_side("height", r->height, m->size_multiple, e)) return false;
    if (r->width > MODEL_MAX_SIDE || r->height > MODEL_MAX_SIDE)
        return error_field(e, ERROR_INVALID, "width", "%d×%d: at most %d a side", r->width, r->height, MODEL_MAX_SIDE);
    if (r->steps < 1 || r->steps > ENGINE_MAX_STEPS)
        return error_field(e, ERROR_INVALID, "num_inference_steps", "%d steps: from 1 to %d are possible", r->steps, ENGINE_MAX_STEPS);
    if (r->has_image && !(r->strength > 0 && r->strength <= 1))
        return error_field(e, ERROR_INVALID, "strength", "a strength of %g: it must be above 0 and at most 1", r->strength);
    if (g->files.count != r->has_image + r->has_mask || r->has_mask > r->has_image)
        return error_set(e, ERROR_INTERNAL, "the task came with %d files", g->files.count);
    if (r->count < 1 || r->count > ENGINE_MAX_IMAGES)
        return error_field(e, ERROR_INVALID, "n", "%d images: from 1 to %d are possible", r->count, ENGINE_MAX_IMAGES);
    return true;
}

static bool lease(generation *g, error *e) {
    precision p;
    if (!precision_parse(g->request.precision, &p))
        return error_field(e, ERROR_INVALID, "precision", "'%s' is no precision: auto, f32, bf16 or f16", g->request.precision);
    const model_key key = {g->request.model, g->request.model_folder, p};
    if (!model_manager_lease(g->room->models, &key, LOAD_FOR_TASK, &g->lease, e)) return false;
    g->pipeline = model_lease_pipeline(g->lease);
    if (!check_against_model(g, e)) return false;
    size_t bytes;
    return (checked_mul((size_t)g->request.width * 3, (size_t)g->request.height, &bytes) && (g->rgb = malloc(bytes)) != NULL) ||
           error_no_memory(e, "the picture", (unsigned long long)g->request.width * 3 * (unsigned long long)g->request.height);
}

static void choose_next(generation *g);

/* ── memory ── */

static flux_picture_shape shape_of(const engine_request *r) {
    return (flux_picture_shape){r->width, r->height, r->max_sequence_length, uses_guidance_pair(r), r->has_image};
}

/* Latents, embeddings and pixels: at most so many bytes, for all of its images. */
static size_t beside(const generation *g) {
    const engine_request *r = &g->request;
    size_t pixels = (size_t)r->width * (size_t)r->height;
    size_t original = r->has_image ? pixels * (3 + 4 * sizeof(float))
                                   : 0; /* the picture to begin from as bytes and as numbers, and its latents */
    return original + pixels * (3 + 6 * sizeof(float)) + (size_t)r->count * pixels * sizeof(float) + conditioning_bytes(&g->positive) +
           conditioning_bytes(&g->negative);
}

/* What is under way follows a plan that was made anew. */
static void hand_out_plan(generation *g) {
    if (g->picture != NULL) flux_picture_set_tile(g->picture, g->plan.plan.picture_tile);
    for (int i = 0; i < g->state.images; i++) {
        if (g->images[i].denoise == NULL) continue;
        flux_denoise_set_tile(g->images[i].denoise, g->plan.plan.vae_tile);
        flux_denoise_set_attention_slice(g->images[i].denoise, g->plan.attention_slice);
    }
}

static bool make_plan(generation *g, int first_level, error *e) {
    flux_picture_shape shape = shape_of(&g->request);
    if (!task_plan_make(g->room, g->lease, &shape, beside(g), first_level, &g->plan, e)) return false;
    task_plan_apply(g->room, g->lease, &g->plan);
    hand_out_plan(g);
    g->told_plan = g->plan.plan.step_count == 0 && g->evicted[0] == '\0' && !g->planned;
    g->planned = true;
    return true;
}

const engine_plan *generation_new_plan(generation *g) {
    if (g->told_plan || !g->planned) return NULL;
    g->told_plan = true;
    task_plan_tell(&g->plan, g->evicted, &g->telling);
    return &g->telling;
}

/* When no plan is left for a finished picture: all that decoding does not need goes, and the smallest tiles are taken. Others load their
 * parts again. */
static bool decode_in_the_least(generation *g) {
    if (g->lowered > MEMORY_LEVELS) return false;
    g->lowered = MEMORY_LEVELS + 1;
    flux_pipeline_drop(g->pipeline, FLUX_ENCODERS | FLUX_IMAGE_ENCODER | FLUX_TRANSFORMER);
    g->plan.plan.vae_tile = AUTOENCODER_MIN_TILE;
    hand_out_plan(g);
    return true;
}

bool generation_go_lower(generation *g) {
    bool decoding = g->state.phase == PHASE_DECODE;
    if (!g->planned || (g->lowered > 0 && !decoding)) return false;
    prompt_cache_clear(g->room->prompts);
    while (model_manager_evict_one(g->room->models, EVICTED_VRAM)) continue;
    flux_pipeline_release_compute(g->pipeline);
    task_plan before = g->plan;
    if (g->lowered < MEMORY_LEVELS && make_plan(g, before.plan.level + 1, NULL)) {
        g->lowered++;
        if (g->plan.plan.release_encoders && g->encoded) flux_pipeline_drop(g->pipeline, FLUX_ENCODERS | FLUX_IMAGE_ENCODER);
        return true;
    }
    g->plan = before;
    return decoding && decode_in_the_least(g);
}

/* Before anything of it is loaded, by the sizes of its files: a picture that cannot fit is refused then, and idle models leave then. */
static bool plan_roughly(generation *g, error *e) {
    flux_picture_shape shape = shape_of(&g->request);
    task_plan rough;
    if (!task_plan_make(g->room, g->lease, &shape, beside(g), 0, &rough, e)) return false;
    if (!rough.plan.evict_idle) return true;
    snprintf(g->evicted, sizeof g->evicted, "%s", rough.plan.steps[0]);
    task_plan_evict(g->room, &rough);
    return true;
}

/* With all figures, as soon as everything that they come from was here: before the transformer, which is nearly all of a model, is
 * loaded. */
static bool can_plan(generation *g) {
    const flux_parts *p = flux_pipeline_parts(g->pipeline);
    return (p->seen & MEASURED_PARTS) == MEASURED_PARTS && p->clip_tokenizer != NULL && p->t5_tokenizer != NULL;
}

static bool lacks_image_encoder(generation *g) {
    return g->request.has_image && (flux_parts_here(flux_pipeline_parts(g->pipeline)) & FLUX_IMAGE_ENCODER) == 0;
}

/* To be measured. Where it does not fit beside what was measured before, that leaves, and comes again when it is needed. */
static bool load_image_encoder(generation *g, error *e) {
    error fault = {0};
    flux_picture_shape shape = shape_of(&g->request);
    flux_picture_needs needs;
    if (flux_pipeline_ensure(g->pipeline, FLUX_IMAGE_ENCODER, &fault)) return true;
    if (fault.code == ERROR_OUT_OF_MEMORY && flux_pipeline_measure(g->pipeline, &shape, &needs, &fault)) {
        flux_pipeline_drop(g->pipeline, FLUX_ALL_PARTS);
        return flux_pipeline_ensure(g->pipeline, FLUX_IMAGE_ENCODER, e);
    }
    if (e != NULL) *e = fault;
    return false;
}

/* The VAE may not fit beside the encoders. What those take to encode is measured then, and they come again when they are needed. */
static bool load_part(generation *g, bool *more, error *e) {
    error fault = {0};
    flux_picture_shape shape = shape_of(&g->request);
    flux_picture_needs needs;
    bool encoders_alone = (flux_parts_here(flux_pipeline_parts(g->pipeline)) & FLUX_ALL_PARTS) == FLUX_ENCODERS;
    if (model_lease_advance(g->lease, more, &fault)) return true;
    if (fault.code == ERROR_OUT_OF_MEMORY && encoders_alone && !g->planned && flux_pipeline_measure(g->pipeline, &shape, &needs, &fault)) {
        flux_pipeline_drop(g->pipeline, FLUX_ENCODERS);
        return model_lease_advance(g->lease, more, e);
    }
    if (e != NULL) *e = fault;
    return false;
}

/* One part of the model a slice. */
static bool load(generation *g, error *e) {
    bool more;
    if (g->lease == NULL) {
        if (!lease(g, e)) return false;
        g->loaded = !model_lease_loaded(g->lease);
        return can_plan(g) || plan_roughly(g, e);
    }
    if (!g->planned && can_plan(g) && lacks_image_encoder(g)) return load_image_encoder(g, e);
    if (!g->planned && can_plan(g) && !make_plan(g, 0, e)) return false;
    if (g->planned && g->plan.plan.release_encoders && !g->encoded) {
        g->state.phase = PHASE_ENCODE; /* before the rest is loaded */
        return true;
    }
    if (!load_part(g, &more, e)) return false;
    if (more || !g->planned) return true;
    /* An earlier plan may have sent these away. */
    if (!flux_pipeline_ensure(g->pipeline, FLUX_DECODER | FLUX_TRANSFORMER, e)) return false;
    if (g->encoded) choose_next(g);
    else g->state.phase = PHASE_ENCODE;
    return true;
}

/* ── where it stands ── */

static int steps_done(const generation *g, int i) {
    const flux_denoise *d = g->images[i].denoise;
    return d != NULL ? flux_denoise_steps_done(d) : g->first_step;
}

static bool has_steps(const generation *g, int i) { return !g->images[i].decoded && steps_done(g, i) < g->request.steps; }

/* After encoding: what is denoised is decoded at once, lowest image first; else the lowest that has steps to go is next. */
static void choose_next(generation *g) {
    generation_state *s = &g->state;
    int next = -1;
    for (int i = 0; i < s->images; i++) {
        if (g->images[i].decoded) continue;
        if (!has_steps(g, i)) {
            next = i;
            break;
        }
        if (next < 0) next = i;
    }
    s->finished = next < 0;
    s->image = s->finished ? s->images : next;
    s->step = s->finished ? 0 : steps_done(g, next);
    s->phase = s->finished || !has_steps(g, next) ? PHASE_DECODE : PHASE_DENOISE;
}

static bool is_encoded(const generation *g) { return g->state.phase == PHASE_DENOISE || g->state.phase == PHASE_DECODE; }

int generation_images_to_step(const generation *g) {
    int count = 0;
    for (int i = 0; is_encoded(g) && i < g->state.images; i++) count += has_steps(g, i);
    return count;
}

bool generation_can_share(const generation *a, const generation *b) {
    const engine_request *r = &a->request, *s = &b->request;
    return generation_images_to_step(a) > 0 && generation_images_to_step(b) > 0 && a->pipeline == b->pipeline && r->width == s->width &&
           r->height == s->height && a->positive.tokens == b->positive.tokens && uses_guidance_pair(r) == uses_guidance_pair(s);
}

bool generation_begins_from_picture(const generation *g) { return g->request.has_image; }

batch_key generation_batch_key(const generation *g) {
    const engine_request *r = &g->request;
    batch_key key = {.width = r->width, .height = r->height, .text_tokens = r->max_sequence_length, .guidance_pair = uses_guidance_pair(r)};
    snprintf(key.model, sizeof key.model, "%s", r->model);
    snprintf(key.precision, sizeof key.precision, "%s", r->precision);
    return key;
}

void generation_fill_profile(const generation *g, engine_profile *out) {
    const engine_metrics *m = &g->metrics;
    out->load_seconds = g->loaded ? m->load_seconds : 0;
    out->encode_seconds = m->encode_cached ? 0 : m->encode_seconds - g->picture_seconds;
    out->decode_seconds = m->decode_seconds / g->state.images;
}

/* ── slices ── */

/* From the cache or through the encoders. *through tells which. */
static bool encode_prompt(generation *g, const char *prompt, conditioning *out, bool *through, error *e) {
    const engine_request *r = &g->request;
    const prompt_key key = {r->model_folder, r->precision, prompt, flux_pipeline_encoders_stamp(g->pipeline), r->max_sequence_length};
    *through = !prompt_cache_find(g->room->prompts, &key, out);
    if (!*through) return true;
    if (g->plan.plan.release_encoders) flux_pipeline_drop(g->pipeline, FLUX_TRANSFORMER | FLUX_DECODER | FLUX_IMAGE_ENCODER);
    if (!flux_pipeline_encode(g->pipeline, prompt, r->max_sequence_length, out, e)) return false;
    prompt_cache_keep(g->room->prompts, &key, out);
    g->through++;
    return true;
}

/* The files become pixels and cells. */
static bool read_files(generation *g, error *e) {
    const engine_request *r = &g->request;
    uint8_t *rgb;
    if (!input_picture_read(g->files.fds[0], r->width, r->height, &rgb, e)) return false;
    bool ok = (!r->has_mask || g->mask != NULL ||
               input_mask_read(g->files.fds[1], r->mask_is_alpha, r->width, r->height, flux_pipeline_info(g->pipeline)->vae_factor,
                               &g->mask, e)) &&
              flux_picture_new(g->pipeline, rgb, r->width, r->height, g->plan.plan.picture_tile, &g->picture, e);
    free(rgb);
    if (ok) engine_files_close(&g->files);
    return ok;
}

/* Reads the files, or encodes a tile of the picture. */
static bool encode_picture(generation *g, error *e) {
    double start = clock_seconds();
    bool more;
    if (g->plan.plan.release_encoders) flux_pipeline_drop(g->pipeline, FLUX_ALL_PARTS);
    bool ok = g->picture == NULL ? read_files(g, e) : flux_picture_encode_next(g->picture, &more, e);
    g->picture_seconds += clock_seconds() - start;
    return ok;
}

static bool all_encoded(const generation *g) {
    const engine_request *r = &g->request;
    return g->positive.hidden != NULL && (!uses_guidance_pair(r) || g->negative.hidden != NULL) &&
           (!r->has_image || (g->picture != NULL && flux_picture_latents(g->picture) != NULL));
}

/* What is next of prompts and picture. *worked: it was more than a look into the cache. */
static bool encode_next(generation *g, bool *worked, error *e) {
    const engine_request *r = &g->request;
    if (g->positive.hidden == NULL) return encode_prompt(g, r->prompt, &g->positive, worked, e);
    if (uses_guidance_pair(r) && g->negative.hidden == NULL) return encode_prompt(g, r->negative_prompt, &g->negative, worked, e);
    *worked = true;
    return encode_picture(g, e);
}

/* At most one prompt or one tile a slice goes through the encoders; where they leave afterwards, all do, so that no other task's slice
 * finds them in its way. */
static bool encode(generation *g, error *e) {
    bool worked = false, release = g->plan.plan.release_encoders;
    while (!all_encoded(g) && (release || !worked))
        if (!encode_next(g, &worked, e)) return false;
    if (!all_encoded(g)) return true;
    g->metrics.encode_cached = g->through == 0;
    g->encoded = true;
    if (!release) {
        choose_next(g);
        return true;
    }
    flux_pipeline_drop(g->pipeline, FLUX_ENCODERS | FLUX_IMAGE_ENCODER);
    g->state.phase = PHASE_LOAD; /* the rest of it */
    return true;
}

/* Its initial noise and schedule, where it has none yet. */
static bool begin_image(generation *g, int i, error *e) {
    const engine_request *r = &g->request;
    if (g->images[i].denoise != NULL) return true;
    const flux_denoise_request d = {
        .width = r->width,
        .height = r->height,
        .steps = r->steps,
        .seed = r->seed + (uint64_t)i,
        .guidance_scale = r->guidance_scale,
        .positive = &g->positive,
        .negative = uses_guidance_pair(r) ? &g->negative : NULL,
        .true_cfg_scale = r->true_cfg_scale,
        .attention_slice = g->plan.attention_slice,
        .vae_tile = g->plan.plan.vae_tile,
        .image = g->picture != NULL ? flux_picture_latents(g->picture) : NULL,
        .strength = r->strength,
        .mask = g->mask,
    };
    return flux_denoise_new(g->pipeline, &d, &g->images[i].denoise, e);
}

/* The first `wanted` images with steps to go, begun, into `items`. */
static bool gather(generation *g, int wanted, flux_denoise **items, error *e) {
    for (int i = 0; wanted > 0 && i < g->state.images; i++) {
        if (!has_steps(g, i)) continue;
        if (!begin_image(g, i, e)) return false;
        *items++ = g->images[i].denoise;
        wanted--;
    }
    return wanted == 0 || error_set(e, ERROR_INTERNAL, "a task was to step more images than it has");
}

static int first_to_step(const generation *g) {
    int i = 0;
    while (!has_steps(g, i)) i++;
    return i;
}

static void note_step(generation *g, int images, int batch, double seconds) {
    engine_metrics *m = &g->metrics;
    m->denoise_seconds += seconds;
    m->mean_batch = (m->mean_batch * m->steps_run + (double)batch * images) / (m->steps_run + images);
    m->steps_run += images;
    if (batch > m->largest_batch) m->largest_batch = batch;
    choose_next(g);
}

bool generation_step_together(const generation_share *shares, int count, double *seconds, error *e) {
    flux_denoise *items[FLUX_DENOISE_MAX_BATCH];
    int batch = 0;
    double start = clock_seconds();
    for (int i = 0; i < count; i++) {
        if (shares[i].images < 1 || shares[i].images > FLUX_DENOISE_MAX_BATCH - batch)
            return error_set(e, ERROR_INTERNAL, "more images than %d were to share a step", FLUX_DENOISE_MAX_BATCH);
        if (!gather(shares[i].task, shares[i].images, items + batch, e)) return false;
        if (shares[i].preview) flux_denoise_want_preview(items[batch]);
        shares[i].task->previewed = shares[i].preview ? first_to_step(shares[i].task) : -1;
        batch += shares[i].images;
    }
    if (!flux_denoise_step_batch(items, batch, e)) return false;
    *seconds = clock_seconds() - start;
    for (int i = 0; i < count; i++) note_step(shares[i].task, shares[i].images, batch, *seconds);
    return true;
}

bool generation_get_preview(const generation *g, generated_preview *out) {
    const flux_denoise *d = g->previewed >= 0 ? g->images[g->previewed].denoise : NULL;
    *out = (generated_preview){.image = g->previewed};
    if (d != NULL) out->rgb = flux_denoise_preview(d, &out->width, &out->height);
    if (out->rgb != NULL) out->step = flux_denoise_steps_done(d);
    return out->rgb != NULL;
}

/* One tile. */
static bool decode(generation *g, generated_image *image, error *e) {
    int i = g->state.image;
    bool more;
    if (!flux_denoise_decode_next(g->images[i].denoise, g->rgb, &more, e)) return false;
    if (more) return true;
    flux_denoise_free(g->images[i].denoise);
    g->images[i] = (image_work){.decoded = true};
    *image = (generated_image){i, g->request.seed + (uint64_t)i, g->request.width, g->request.height, g->rgb};
    choose_next(g);
    return true;
}

static bool run_slice(generation *g, generated_image *image, error *e) {
    double start = clock_seconds(), seconds;
    switch (g->state.phase) {
    case PHASE_LOAD:
        if (!load(g, e)) return false;
        g->metrics.load_seconds += clock_seconds() - start;
        return true;
    case PHASE_ENCODE:
        if (!encode(g, e)) return false;
        g->metrics.encode_seconds += clock_seconds() - start;
        return true;
    case PHASE_DENOISE: return generation_step_together(&(generation_share){g, 1}, 1, &seconds, e);
    case PHASE_DECODE:
        if (!decode(g, image, e)) return false;
        g->metrics.decode_seconds += clock_seconds() - start;
        return true;
    }
    return error_set(e, ERROR_INTERNAL, "the task is in no known phase");
}

bool generation_advance(generation *g, generated_image *image, error *e) {
    error fault = {0};
    *image = (generated_image){0};
    if (g->state.finished) return error_set(e, ERROR_INTERNAL, "the task is finished already");
    if (run_slice(g, image, &fault) || (fault.code == ERROR_OUT_OF_MEMORY && generation_go_lower(g))) return true;
    if (e != NULL) *e = fault;
    return false;
}
