#include "engine/memory_plan.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "base/checked.h"

/* Sums of figures that cannot overflow are no concern of the plan: what is too much for size_t is too much for any device. */
static size_t add(size_t a, size_t b) {
    size_t sum;
    return checked_add(a, b, &sum) ? sum : SIZE_MAX;
}

static size_t less(size_t a, size_t b) { return a > b ? a - b : 0; }
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t text_encoders(const memory_needs *n) { return add(n->clip_weights, n->t5_weights); }
static size_t encoders(const memory_needs *n) { return add(text_encoders(n), n->image_encoder_weights); }

/* A phase of the VAE: what the whole picture takes, and what it takes in tiles. */
typedef struct tiling {
    size_t whole;
    const memory_tile *tiles;
    int count;
} tiling;

static tiling decoding(const memory_needs *n) { return (tiling){n->decode_compute, n->tiles, n->tile_count}; }
static tiling encoding(const memory_needs *n) { return (tiling){n->picture_compute, n->picture_tiles, n->picture_tile_count}; }

static size_t compute_of(const tiling *t, int tile) {
    for (int i = 0; i < t->count; i++)
        if (t->tiles[i].tile == tile) return t->tiles[i].compute;
    return t->whole;
}

static size_t decode_compute(const memory_needs *n, int tile) {
    tiling t = decoding(n);
    return compute_of(&t, tile);
}

static size_t picture_compute(const memory_needs *n, int tile) {
    tiling t = encoding(n);
    return compute_of(&t, tile);
}

static size_t step_compute(const memory_needs *n, const memory_plan *p) {
    return p->attention_sliced ? n->step_compute_sliced : n->step_compute;
}

/* What is there in every phase. */
static size_t always(const memory_needs *n, const memory_plan *p) {
    return add(add(n->latents, n->reserve), p->evict_idle ? 0 : n->idle_models);
}

/* What is there while the latents are stepped and decoded, but for the transformer and the compute buffers. */
static size_t beside_transformer(const memory_needs *n, const memory_plan *p) {
    return add(add(always(n, p), n->vae_weights), p->release_encoders ? 0 : encoders(n));
}

static size_t transformer_bytes(const memory_needs *n, const memory_plan *p) {
    return p->resident_bytes < n->transformer_weights ? p->resident_bytes : n->transformer_weights;
}

static size_t peak_of(const memory_needs *n, const memory_plan *p) {
    size_t others = add(n->vae_weights, transformer_bytes(n, p)), picture = picture_compute(n, p->picture_tile);
    size_t of_texts = add(text_encoders(n), n->encode_compute), of_picture = add(n->image_encoder_weights, picture);
    if (!p->release_encoders) of_texts = add(add(encoders(n), others), larger(n->encode_compute, picture));
    size_t compute = larger(step_compute(n, p), decode_compute(n, p->vae_tile));
    size_t encoding_peak = add(always(n, p), p->release_encoders ? larger(of_texts, of_picture) : of_texts);
    return larger(encoding_peak, add(add(beside_transformer(n, p), transformer_bytes(n, p)), compute));
}

/* The largest tile whose decoding takes at most `room`, the whole picture before any tile; where none does, the one that takes least. */
static int tile_within(const tiling *t, size_t room, bool whole_allowed) {
    int best = 0;
    size_t least = SIZE_MAX;
    if (whole_allowed || t->count == 0) {
        if (t->whole <= room) return 0;
        least = t->whole;
    }
    for (int i = 0; i < t->count; i++) {
        if (t->tiles[i].compute <= room) return t->tiles[i].tile;
        if (t->tiles[i].compute < least) {
            least = t->tiles[i].compute;
            best = t->tiles[i].tile;
        }
    }
    return best;
}

/* When weights are streamed, room for compute is room taken from blocks that could stay: decoding, which happens once, is to take no more
 * of it than a step does. */
static size_t decode_room(const memory_needs *n, const memory_plan *p, memory_level level, int forced) {
    if (forced > MEMORY_TILED_DECODING || level >= MEMORY_LEAST) return 0;
    if (level >= MEMORY_STREAMED_WEIGHTS) return step_compute(n, p);
    return less(n->available_total, add(beside_transformer(n, p), n->transformer_weights));
}

/* Of the encoders that leave when they are through, the image encoder is the last, and alone. */
static size_t picture_room(const memory_needs *n, const memory_plan *p, memory_level level, int forced) {
    if (forced > MEMORY_TILED_DECODING || level >= MEMORY_LEAST) return 0;
    if (p->release_encoders) return less(n->available_total, add(always(n, p), n->image_encoder_weights));
    return decode_room(n, p, level, forced);
}

static size_t resident_bytes(const memory_needs *n, const memory_plan *p, memory_level level) {
    if (level >= MEMORY_LEAST) return n->transformer_minimum;
    size_t compute = larger(step_compute(n, p), decode_compute(n, p->vae_tile));
    if (!p->release_encoders) compute = larger(compute, larger(n->encode_compute, picture_compute(n, p->picture_tile)));
    size_t room = less(n->available_total, add(beside_transformer(n, p), compute));
    if (room >= n->transformer_weights) return SIZE_MAX;
    return larger(room, n->transformer_minimum);
}

/* What is done on a rung; the rungs down to `forced` save what they can whether or not the figures ask for it. */
static memory_plan plan_at(const memory_needs *n, memory_level level, int forced) {
    memory_plan p = {.level = level, .resident_bytes = SIZE_MAX};
    p.evict_idle = level >= MEMORY_EVICT_IDLE && n->idle_models > 0;
    p.release_encoders = level >= MEMORY_RELEASE_ENCODERS && encoders(n) > 0;
    p.attention_sliced = level >= MEMORY_SLICED_ATTENTION && n->step_compute_sliced < n->step_compute;
    if (level >= MEMORY_TILED_DECODING) {
        tiling of_decoding = decoding(n), of_encoding = encoding(n);
        p.vae_tile = tile_within(&of_decoding, decode_room(n, &p, level, forced), forced < MEMORY_TILED_DECODING);
        p.picture_tile = tile_within(&of_encoding, picture_room(n, &p, level, forced), forced < MEMORY_TILED_DECODING);
    }
    if (level >= MEMORY_STREAMED_WEIGHTS && n->transformer_minimum < n->transformer_weights)
        p.resident_bytes = resident_bytes(n, &p, level);
    p.peak = peak_of(n, &p);
    return p;
}

static bool same_measures(const memory_plan *a, const memory_plan *b) {
    return a->evict_idle == b->evict_idle && a->release_encoders == b->release_encoders && a->vae_tile == b->vae_tile &&
           a->picture_tile == b->picture_tile && a->attention_sliced == b->attention_sliced && a->resident_bytes == b->resident_bytes;
}

/* The first rung from first_level on that saves anything. */
static int effective_level(const memory_needs *n, int first_level) {
    int level = first_level < MEMORY_ALL_FITS ? MEMORY_ALL_FITS : first_level;
    for (; level > MEMORY_ALL_FITS && level < MEMORY_LEVELS; level++) {
        memory_plan here = plan_at(n, (memory_level)level, level), above = plan_at(n, (memory_level)(level - 1), level - 1);
        if (!same_measures(&here, &above)) break;
    }
    return level < MEMORY_LEVELS ? level : MEMORY_LEVELS;
}

/* ── texts ── */

static unsigned long long mib(size_t bytes) { return (unsigned long long)(bytes / 1048576 + (bytes % 1048576 != 0)); }

static void say(memory_plan *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(memory_plan *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(p->steps[p->step_count++], MEMORY_PLAN_TEXT_BYTES, format, args);
    va_end(args);
}

static void describe(const memory_needs *n, memory_plan *p) {
    if (p->evict_idle) say(p, "evict idle models: %llu MiB", mib(n->idle_models));
    if (p->release_encoders)
        say(p, "release the %sencoders after encoding: %llu MiB", n->image_encoder_weights > 0 ? "" : "text ", mib(encoders(n)));
    if (p->vae_tile > 0)
        say(p, "decode in tiles of %d latent cells: %llu MiB instead of %llu MiB", p->vae_tile, mib(decode_compute(n, p->vae_tile)),
            mib(n->decode_compute));
    if (p->picture_tile > 0)
        say(p, "encode the picture in tiles of %d latent cells: %llu MiB instead of %llu MiB", p->picture_tile,
            mib(picture_compute(n, p->picture_tile)), mib(n->picture_compute));
    if (p->attention_sliced)
        say(p, "attention in slices: a step computes in %llu MiB instead of %llu MiB", mib(n->step_compute_sliced), mib(n->step_compute));
    if (p->resident_bytes < n->transformer_weights)
        say(p, "stream weights from main memory: the transformer keeps %llu of %llu MiB on the device", mib(p->resident_bytes),
            mib(n->transformer_weights));
}

static bool refuse(const memory_needs *n, memory_plan *p, error *e) {
    p->missing = less(p->peak, n->available_total);
    if (p->missing == 0)
        return error_set(e, ERROR_OUT_OF_MEMORY,
                         "the device's memory ran out although %llu MiB seemed to be there for %llu MiB; nothing is left to give up",
                         mib(n->available_total), mib(p->peak));
    return error_set(
        e, ERROR_TOO_LARGE,
        "the picture needs %llu MiB of device memory at the least, of which %llu MiB are missing; ask for a smaller picture, or choose a "
        "smaller model or a lower precision",
        mib(p->peak), mib(p->missing));
}

bool memory_plan_make(const memory_needs *needs, int first_level, memory_plan *plan, error *e) {
    int first = effective_level(needs, first_level);
    for (int level = first; level < MEMORY_LEVELS; level++) {
        *plan = plan_at(needs, (memory_level)level, first);
        if (plan->peak > needs->available_total) continue;
        describe(needs, plan);
        return true;
    }
    *plan = plan_at(needs, MEMORY_LEAST, MEMORY_LEAST);
    describe(needs, plan);
    plan->level = MEMORY_LEVELS;
    return refuse(needs, plan, e);
}
