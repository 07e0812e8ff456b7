#include "engine/generation.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"

struct generation {
    model_manager *models;
    engine_request request;
    flux_pipeline *pipeline; /* leased */
    conditioning positive, negative;
    flux_denoise *denoise; /* the image under way */
    uint8_t *rgb;
    generation_state state;
    engine_metrics metrics;
};

static bool uses_guidance_pair(const engine_request *r) { return r->has_negative_prompt && r->true_cfg_scale > 1; }

bool generation_new(model_manager *models, const engine_request *request, generation **out, error *e) {
    generation *g = calloc(1, sizeof *g);
    if (g == NULL) return error_no_memory(e, "a task", sizeof *g);
    g->models = models;
    g->request = *request;
    g->state = (generation_state){PHASE_LOAD, 0, request->count, 0, request->steps, false};
    *out = g;
    return true;
}

void generation_free(generation *g) {
    if (g == NULL) return;
    flux_denoise_free(g->denoise);
    conditioning_free(&g->positive);
    conditioning_free(&g->negative);
    if (g->pipeline != NULL) model_manager_release(g->models, g->pipeline);
    free(g->rgb);
    free(g);
}

generation_state generation_get_state(const generation *g) { return g->state; }
const engine_metrics *generation_metrics(const generation *g) { return &g->metrics; }

/* The front validated the request against the same folder, but the folder may have changed since. */
static bool check_against_model(const generation *g, error *e) {
    const model_info *m = flux_pipeline_info(g->pipeline);
    const engine_request *r = &g->request;
    if (r->width < m->size_multiple || r->height < m->size_multiple || r->width % m->size_multiple != 0 || r->height % m->size_multiple != 0)
        return error_field(e, ERROR_INVALID, "width", "%d×%d: width and height must be positive multiples of %d for this model", r->width,
                           r->height, m->size_multiple);
    if (r->width > MODEL_MAX_SIDE || r->height > MODEL_MAX_SIDE)
        return error_field(e, ERROR_INVALID, "width", "%d×%d: at most %d a side", r->width, r->height, MODEL_MAX_SIDE);
    if (r->steps < 1 || r->steps > ENGINE_MAX_STEPS)
        return error_field(e, ERROR_INVALID, "num_inference_steps", "%d steps: from 1 to %d are possible", r->steps, ENGINE_MAX_STEPS);
    if (r->count < 1 || r->count > ENGINE_MAX_IMAGES)
        return error_field(e, ERROR_INVALID, "n", "%d images: from 1 to %d are possible", r->count, ENGINE_MAX_IMAGES);
    return true;
}

static bool load(generation *g, error *e) {
    precision p;
    if (!precision_parse(g->request.precision, &p))
        return error_field(e, ERROR_INVALID, "precision", "'%s' is no precision: auto, f32, bf16 or f16", g->request.precision);
    if (!model_manager_load_model(g->models, g->request.model_folder, p, &g->pipeline, e) || !check_against_model(g, e)) return false;
    size_t bytes;
    if (!checked_mul((size_t)g->request.width * 3, (size_t)g->request.height, &bytes) || (g->rgb = malloc(bytes)) == NULL)
        return error_no_memory(e, "the picture", (unsigned long long)g->request.width * 3 * (unsigned long long)g->request.height);
    g->state.phase = PHASE_ENCODE;
    return true;
}

static bool encode(generation *g, error *e) {
    const engine_request *r = &g->request;
    if (!flux_pipeline_encode(g->pipeline, r->prompt, r->max_sequence_length, &g->positive, e)) return false;
    if (uses_guidance_pair(r) && !flux_pipeline_encode(g->pipeline, r->negative_prompt, r->max_sequence_length, &g->negative, e)) return false;
    g->state.phase = PHASE_DENOISE;
    return true;
}

static bool denoise(generation *g, error *e) {
    const engine_request *r = &g->request;
    if (g->denoise == NULL) {
        const flux_denoise_request d = {
            .width = r->width,
            .height = r->height,
            .steps = r->steps,
            .seed = r->seed + (uint64_t)g->state.image,
            .guidance_scale = r->guidance_scale,
            .positive = &g->positive,
            .negative = uses_guidance_pair(r) ? &g->negative : NULL,
            .true_cfg_scale = r->true_cfg_scale,
        };
        if (!flux_denoise_new(g->pipeline, &d, &g->denoise, e)) return false;
    }
    bool more;
    if (!flux_denoise_step(g->denoise, &more, e)) return false;
    g->state.step++;
    g->metrics.steps_run++;
    if (!more) g->state.phase = PHASE_DECODE;
    return true;
}

static bool decode(generation *g, generated_image *image, error *e) {
    if (!flux_denoise_decode(g->denoise, g->rgb, e)) return false;
    flux_denoise_free(g->denoise);
    g->denoise = NULL;
    *image = (generated_image){g->state.image, g->request.seed + (uint64_t)g->state.image, g->request.width, g->request.height, g->rgb};
    g->state.image++;
    g->state.step = 0;
    g->state.phase = PHASE_DENOISE;
    g->state.finished = g->state.image == g->state.images;
    return true;
}

bool generation_advance(generation *g, generated_image *image, error *e) {
    *image = (generated_image){0};
    if (g->state.finished) return error_set(e, ERROR_INTERNAL, "the task is finished already");
    double start = clock_seconds();
    switch (g->state.phase) {
    case PHASE_LOAD:
        if (!load(g, e)) return false;
        g->metrics.load_seconds += clock_seconds() - start;
        return true;
    case PHASE_ENCODE:
        if (!encode(g, e)) return false;
        g->metrics.encode_seconds += clock_seconds() - start;
        return true;
    case PHASE_DENOISE:
        if (!denoise(g, e)) return false;
        g->metrics.denoise_seconds += clock_seconds() - start;
        return true;
    case PHASE_DECODE:
        if (!decode(g, image, e)) return false;
        g->metrics.decode_seconds += clock_seconds() - start;
        return true;
    }
    return error_set(e, ERROR_INTERNAL, "the task is in no known phase");
}
