#include "models/flux_measure.h"

#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "models/autoencoder_encoder_tiling.h"
#include "models/flux_pipeline_internal.h"

static bool same_shape(const flux_picture_shape *a, const flux_picture_shape *b) {
    return a->width == b->width && a->height == b->height && a->text_tokens == b->text_tokens && a->guidance_pair == b->guidance_pair &&
           a->begins_from_picture == b->begins_from_picture;
}

/* What was measured of this shape before; else an empty place in the table, the oldest measured. */
static flux_measured *measured_for(flux_pipeline *p, const flux_picture_shape *shape) {
    flux_measured *oldest = &p->measured[0];
    for (size_t i = 0; i < FLUX_MEASURED_SHAPES; i++) {
        flux_measured *m = &p->measured[i];
        if (m->used > 0 && same_shape(&m->shape, shape)) oldest = m;
        if (m->used > 0 && same_shape(&m->shape, shape)) break;
        if (m->used < oldest->used) oldest = m;
    }
    if (oldest->used == 0 || !same_shape(&oldest->shape, shape)) *oldest = (flux_measured){.shape = *shape};
    oldest->used = ++p->measurements;
    return oldest;
}

static flux_step_shape step_shape(const flux_pipeline *p, const flux_picture_shape *s) {
    int multiple = p->parts.info.size_multiple;
    return (flux_step_shape){s->height / multiple, s->width / multiple, s->text_tokens, s->guidance_pair ? 2 : 1, 0};
}

/* Other models may have brought the encoders before this one's tokenizers are read. */
static bool encoders_here(const flux_pipeline *p) { return p->clip != NULL && p->t5 != NULL && p->parts.clip_tokenizer != NULL; }

static bool measure_encoders(flux_pipeline *p, flux_measured *m, error *e) {
    size_t clip, t5;
    if (!clip_text_measure(p->clip, flux_pipeline_clip_tokens(p), 1, &clip, e) ||
        !t5_encoder_measure(p->t5, m->shape.text_tokens, 1, &t5, e))
        return false;
    m->needs.encode = clip > t5 ? clip : t5;
    m->parts |= FLUX_ENCODERS;
    return true;
}

static bool measure_decoder(flux_pipeline *p, flux_measured *m, error *e) {
    flux_step_shape s = step_shape(p, &m->shape);
    if (!autoencoder_kl_measure(p->vae, 2 * s.columns, 2 * s.rows, 1, &m->needs.decode, e) ||
        !autoencoder_tiles_measure(p->vae, 2 * s.columns, 2 * s.rows, m->needs.tiles, &m->needs.tile_count, e))
        return false;
    m->parts |= FLUX_DECODER;
    return true;
}

static bool measure_image_encoder(flux_pipeline *p, flux_measured *m, error *e) {
    const flux_picture_shape *s = &m->shape;
    if (!autoencoder_encoder_measure(p->image_encoder, s->width, s->height, 1, &m->needs.picture, e) ||
        !autoencoder_encoder_tiles_measure(p->image_encoder, s->width, s->height, m->needs.picture_tiles, &m->needs.picture_tile_count, e))
        return false;
    m->parts |= FLUX_IMAGE_ENCODER;
    return true;
}

/* From the files' headers: the transformer need not be here. */
static bool measure_transformer(flux_pipeline *p, flux_measured *m, error *e) {
    char folder[MODEL_PATH_BYTES];
    flux_step_shape whole = step_shape(p, &m->shape), sliced = whole;
    device *d = part_pool_device(p->parts.pool);
    flux_needs needs, slices;
    size_t tokens = (size_t)whole.rows * (size_t)whole.columns + (size_t)whole.text_tokens, scores;
    if (!file_join(folder, sizeof folder, p->parts.info.folder, "transformer", e)) return false;
    if (!flux_transformer_measure(d, folder, &p->parts.options, &whole, &needs, e)) return false;
    m->transformer_weights = needs.weights;
    m->transformer_minimum = needs.least_weights;
    m->needs.step = m->needs.step_sliced = needs.step;
    m->parts |= FLUX_TRANSFORMER;
    if (device_is_cpu(d) || !checked_mul(tokens, tokens * sizeof(float), &scores)) return true;
    sliced.attention_slice = scores / ATTENTION_MAX_SLICES + 1; /* at least: of one head */
    if (!flux_transformer_measure(d, folder, &p->parts.options, &sliced, &slices, e)) return false;
    if (slices.step < needs.step) m->needs.step_sliced = slices.step;
    m->needs.least_slice = sliced.attention_slice;
    return true;
}

static bool measure(flux_pipeline *p, flux_measured *m, error *e) {
    return ((m->parts & FLUX_TRANSFORMER) != 0 || measure_transformer(p, m, e)) &&
           ((m->parts & FLUX_ENCODERS) != 0 || !encoders_here(p) || measure_encoders(p, m, e)) &&
           ((m->parts & FLUX_DECODER) != 0 || p->vae == NULL || measure_decoder(p, m, e)) &&
           ((m->parts & FLUX_IMAGE_ENCODER) != 0 || !m->shape.begins_from_picture || p->image_encoder == NULL ||
            measure_image_encoder(p, m, e));
}

/* Bytes of the device that the part's weights take, or would take. */
static size_t weights_of(const flux_pipeline *p, part_kind kind) {
    bool cpu = device_is_cpu(part_pool_device(p->parts.pool));
    const model_part *part = p->parts.parts[kind];
    if (part != NULL) return cpu ? model_part_figures(part).private : model_part_figures(part).device;
    return cpu && !p->parts.options.copied ? 0 : (size_t)p->parts.files[kind].weight_bytes;
}

bool flux_pipeline_measure(flux_pipeline *p, const flux_picture_shape *shape, flux_picture_needs *out, error *e) {
    flux_measured *m = measured_for(p, shape);
    *out = (flux_picture_needs){0};
    if (!measure(p, m, e)) return false;
    bool cpu = device_is_cpu(part_pool_device(p->parts.pool));
    part_figures now = flux_pipeline_figures(p);
    out->clip_weights = weights_of(p, PART_CLIP_TEXT);
    out->t5_weights = weights_of(p, PART_T5_ENCODER);
    out->vae_weights = weights_of(p, PART_AUTOENCODER_KL);
    if (shape->begins_from_picture || p->image_encoder != NULL) out->image_encoder_weights = weights_of(p, PART_IMAGE_ENCODER);
    /* The CPU pages in what it maps; what it copied it cannot do without. */
    out->transformer_weights = cpu ? weights_of(p, PART_FLUX_TRANSFORMER) : m->transformer_weights;
    out->transformer_minimum = cpu ? out->transformer_weights : m->transformer_minimum;
    out->compute = m->needs;
    out->held = (cpu ? now.private : now.device) + now.compute;
    return true;
}

size_t flux_pipeline_slice_for(flux_pipeline *p, const flux_picture_shape *shape, size_t bytes) {
    flux_step_shape s = step_shape(p, shape);
    size_t slice;
    if (p->transformer != NULL && flux_step_slice_for(p->transformer, &s, bytes, &slice, NULL)) return slice;
    return measured_for(p, shape)->needs.least_slice;
}
