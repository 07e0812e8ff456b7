/* The ladder of the memory plan: for every small combination of figures the plan fits and takes the earliest rung that can, by comparison
 * with a search of all the measures there are; one byte less moves one rung on; a retry gives up something that the plan before it kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/memory_plan.h"

/* One set of measures, and its peak straight from the three phases' definitions. */
typedef struct measures {
    bool evict, release, sliced;
    int tile; /* index into tiles, −1: whole */
    int picture_tile; /* the same of picture_tiles */
    size_t transformer;
} measures;

static size_t max3(size_t a, size_t b, size_t c) { return (a > b ? a : b) > c ? (a > b ? a : b) : c; }

static size_t peak(const memory_needs *n, measures m) {
    size_t idle = m.evict ? 0 : n->idle_models, texts = n->clip_weights + n->t5_weights, rest = n->latents + n->reserve + idle;
    size_t picture = m.picture_tile < 0 ? n->picture_compute : n->picture_tiles[m.picture_tile].compute, encoder = n->image_encoder_weights;
    size_t step = m.sliced ? n->step_compute_sliced : n->step_compute;
    size_t decode = m.tile < 0 ? n->decode_compute : n->tiles[m.tile].compute;
    size_t kept = m.release ? 0 : texts + encoder, model = n->vae_weights + m.transformer;
    size_t drawing = max3(rest + kept + model + step, rest + kept + model + decode, 0);
    if (m.release) return max3(rest + texts + n->encode_compute, rest + encoder + picture, drawing);
    return max3(rest + kept + model + n->encode_compute, rest + kept + model + picture, drawing);
}

/* The lowest of the rungs that some fitting set of measures uses, at its best: MEMORY_LEVELS when none fits. */
static int best_level(const memory_needs *n) {
    for (int level = MEMORY_ALL_FITS; level <= MEMORY_STREAMED_WEIGHTS; level++)
        for (int evict = 0; evict <= (level >= MEMORY_EVICT_IDLE); evict++)
            for (int release = 0; release <= (level >= MEMORY_RELEASE_ENCODERS && n->t5_weights + n->image_encoder_weights > 0); release++)
                for (int tile = -1; tile < (level >= MEMORY_TILED_DECODING ? n->tile_count : 0); tile++)
                    for (int picture = -1; picture < (level >= MEMORY_TILED_DECODING ? n->picture_tile_count : 0); picture++)
                        for (int sliced = 0; sliced <= (level >= MEMORY_SLICED_ATTENTION); sliced++) {
                            size_t transformer = level >= MEMORY_STREAMED_WEIGHTS ? n->transformer_minimum : n->transformer_weights;
                            if (peak(n, (measures){evict, release, sliced, tile, picture, transformer}) <= n->available_total) return level;
                        }
    return MEMORY_LEVELS;
}

static measures measures_of(const memory_needs *n, const memory_plan *p) {
    measures m = {p->evict_idle, p->release_encoders, p->attention_sliced, -1, -1, n->transformer_weights};
    if (p->resident_bytes < m.transformer) m.transformer = p->resident_bytes;
    for (int i = 0; i < n->tile_count; i++)
        if (n->tiles[i].tile == p->vae_tile) m.tile = i;
    for (int i = 0; i < n->picture_tile_count; i++)
        if (n->picture_tiles[i].tile == p->picture_tile) m.picture_tile = i;
    return m;
}

static void check(const memory_needs *n, int first_level) {
    memory_plan p;
    error e;
    bool fits = memory_plan_make(n, first_level, &p, &e);
    assert_int_equal(p.peak, peak(n, measures_of(n, &p)));
    assert_true(p.step_count == p.evict_idle + p.release_encoders + (p.vae_tile > 0) + (p.picture_tile > 0) + p.attention_sliced +
                                    (p.resident_bytes < n->transformer_weights));
    assert_true(p.resident_bytes >= n->transformer_minimum);
    if (fits) {
        assert_true(p.peak <= n->available_total);
        assert_true((int)p.level >= first_level && p.level < MEMORY_LEVELS);
        if (first_level == 0) assert_int_equal(p.level, best_level(n));
    } else {
        assert_int_equal(p.level, MEMORY_LEVELS);
        if (first_level == 0) {
            assert_int_equal(best_level(n), MEMORY_LEVELS);
            assert_int_equal(e.code, ERROR_TOO_LARGE);
        }
        assert_int_equal(p.missing, p.peak > n->available_total ? p.peak - n->available_total : 0);
        if (p.missing == 0) assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
        else if (first_level == 0) { /* so much more really does */
            memory_needs more = *n;
            more.available_total += p.missing;
            assert_true(memory_plan_make(&more, first_level, &p, &e));
        }
    }
}

static void every_combination_takes_the_earliest_rung_that_fits(void **state) {
    (void)state;
    static const size_t some[] = {0, 1, 3};
    memory_needs n = {0};
    for (int c = 0; c < 3 * 3 * 3 * 3 * 3 * 3 * 3 * 3; c++) {
        int rest = c;
        size_t v[8];
        for (int i = 0; i < 8; i++, rest /= 3) v[i] = some[rest % 3];
        n = (memory_needs){.clip_weights = v[0], .t5_weights = v[0], .idle_models = v[1], .vae_weights = 1, .transformer_minimum = v[2],
                           .transformer_weights = v[2] + v[3], .encode_compute = v[4], .step_compute_sliced = v[5], .step_compute = v[5] + v[6],
                           .decode_compute = 3 * v[7], .latents = 1, .reserve = v[0],
                           .tiles = {{64, 2 * v[7]}, {32, v[7] + 1}, {16, v[7]}}, .tile_count = (int)v[1]};
        for (n.available_total = 0; n.available_total < 24; n.available_total++)
            for (int first = 0; first <= MEMORY_LEVELS; first++) check(&n, first);
    }
}

/* The same of tasks that begin from a picture. */
static void pictures_are_encoded_within_the_plan(void **state) {
    (void)state;
    static const size_t some[] = {0, 1, 3};
    for (int c = 0; c < 3 * 3 * 3 * 3 * 3 * 3; c++) {
        int rest = c;
        size_t v[6];
        for (int i = 0; i < 6; i++, rest /= 3) v[i] = some[rest % 3];
        memory_needs n = {.t5_weights = v[0], .image_encoder_weights = v[1], .vae_weights = 1, .transformer_weights = 2 + v[2], .transformer_minimum = 2,
                          .idle_models = 1, .encode_compute = v[3], .step_compute = v[4] + 1, .step_compute_sliced = v[4], .decode_compute = v[4] + 2,
                          .tiles = {{16, v[4]}}, .tile_count = 1, .picture_compute = 3 * v[5], .picture_tiles = {{32, 2 * v[5]}, {16, v[5]}},
                          .picture_tile_count = 2, .latents = 1};
        for (n.available_total = 0; n.available_total < 24; n.available_total++)
            for (int first = 0; first <= MEMORY_LEVELS; first++) check(&n, first);
    }
}

/* Every rung saves something here. */
static const memory_needs ladder = {
    .clip_weights = 100, .t5_weights = 900, .vae_weights = 50, .transformer_weights = 5000, .transformer_minimum = 2000, .idle_models = 3000,
    .encode_compute = 10, .step_compute = 700, .step_compute_sliced = 300, .decode_compute = 2500,
    .tiles = {{64, 1200}, {32, 600}, {16, 200}}, .tile_count = 3, .latents = 5, .reserve = 7};

static memory_plan plan_with(size_t available, int first_level) {
    memory_needs n = ladder;
    memory_plan p;
    error e;
    n.available_total = available;
    memory_plan_make(&n, first_level, &p, &e);
    return p;
}

/* From the peak of a rung, one byte less is the next rung; at that rung's own peak it is still that rung. */
static void one_byte_less_moves_one_rung(void **state) {
    (void)state;
    static const size_t ends[MEMORY_STREAMED_WEIGHTS + 1] = {
        12 + 3000 + 1000 + 50 + 5000 + 2500, 12 + 1000 + 50 + 5000 + 2500, 12 + 50 + 5000 + 2500, 12 + 50 + 5000 + 700, 12 + 50 + 5000 + 300,
        12 + 50 + 2000 + 300};
    for (int level = MEMORY_ALL_FITS; level <= MEMORY_STREAMED_WEIGHTS; level++) {
        memory_plan p = plan_with(ends[level], 0);
        assert_int_equal(p.level, level);
        assert_int_equal(p.peak, ends[level]);
        assert_int_equal(p.missing, 0);
        p = plan_with(ends[level] - 1, 0);
        if (level == MEMORY_STREAMED_WEIGHTS) {
            assert_int_equal(p.level, MEMORY_LEVELS);
            assert_int_equal(p.missing, 1);
        } else assert_int_equal(p.level, level + 1);
    }
}

static void the_largest_tile_that_fits_is_taken(void **state) {
    (void)state;
    assert_int_equal(plan_with(12 + 50 + 5000 + 2500, 0).vae_tile, 0);
    assert_int_equal(plan_with(12 + 50 + 5000 + 2499, 0).vae_tile, 64);
    assert_int_equal(plan_with(12 + 50 + 5000 + 1199, 0).vae_tile, 32);
    assert_int_equal(plan_with(12 + 50 + 5000 + 599, 0).vae_tile, 16);
    /* and the figures of slices only where slices are needed */
    assert_false(plan_with(12 + 50 + 5000 + 700, 0).attention_sliced);
    assert_int_equal(plan_with(12 + 50 + 5000 + 699, 0).vae_tile, 32);
    assert_true(plan_with(12 + 50 + 5000 + 699, 0).attention_sliced);
}

static void streaming_keeps_as_much_as_there_is_room_for(void **state) {
    (void)state;
    memory_plan p = plan_with(12 + 50 + 4000 + 300, 0);
    assert_int_equal(p.level, MEMORY_STREAMED_WEIGHTS);
    assert_int_equal(p.resident_bytes, 4000);
    assert_int_equal(p.vae_tile, 16); /* a larger one would take room from blocks that stay */
    assert_true(plan_with(1 << 20, 0).resident_bytes == SIZE_MAX);
}

static void a_retry_gives_up_more_than_before(void **state) {
    (void)state;
    memory_plan before = plan_with(1 << 20, 0);
    for (int tries = 1; before.level < MEMORY_LEAST; tries++) {
        memory_plan after = plan_with(1 << 20, before.level + 1);
        assert_true(after.level > before.level && after.level < MEMORY_LEVELS && tries <= MEMORY_LEAST);
        assert_true(after.peak <= before.peak);
        assert_true(after.evict_idle != before.evict_idle || after.release_encoders != before.release_encoders ||
                    after.vae_tile != before.vae_tile || after.attention_sliced != before.attention_sliced ||
                    after.resident_bytes != before.resident_bytes);
        before = after;
    }
    assert_int_equal(before.vae_tile, 16);
    assert_int_equal(before.resident_bytes, 2000);
    /* nothing is left: no figure is missing, but the device said no */
    memory_needs n = ladder;
    memory_plan p;
    error e;
    n.available_total = 1 << 20;
    assert_false(memory_plan_make(&n, before.level + 1, &p, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    assert_int_equal(p.missing, 0);
}

static void a_retry_passes_over_rungs_that_save_nothing(void **state) {
    (void)state;
    const memory_needs n = {.transformer_weights = 10, .transformer_minimum = 10, .step_compute = 8, .step_compute_sliced = 4, .decode_compute = 2,
                            .available_total = 100};
    memory_plan p;
    error e;
    assert_true(memory_plan_make(&n, MEMORY_EVICT_IDLE, &p, &e));
    assert_int_equal(p.level, MEMORY_SLICED_ATTENTION);
    assert_true(p.attention_sliced && !p.evict_idle && !p.release_encoders && p.vae_tile == 0);
    assert_int_equal(p.step_count, 1);
}

static void texts_are_for_operators(void **state) {
    (void)state;
    memory_needs n = ladder;
    size_t *figures[] = {&n.clip_weights, &n.t5_weights, &n.vae_weights, &n.transformer_weights, &n.transformer_minimum, &n.idle_models,
                         &n.encode_compute, &n.step_compute, &n.step_compute_sliced, &n.decode_compute, &n.latents, &n.reserve,
                         &n.tiles[0].compute, &n.tiles[1].compute, &n.tiles[2].compute};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) *figures[i] <<= 20;
    memory_plan p;
    error e;
    n.available_total = (size_t)4362 << 20;
    assert_true(memory_plan_make(&n, 0, &p, &e));
    assert_int_equal(p.step_count, 5);
    assert_string_equal(p.steps[0], "evict idle models: 3000 MiB");
    assert_string_equal(p.steps[1], "release the text encoders after encoding: 1000 MiB");
    assert_string_equal(p.steps[2], "decode in tiles of 16 latent cells: 200 MiB instead of 2500 MiB");
    assert_string_equal(p.steps[3], "attention in slices: a step computes in 300 MiB instead of 700 MiB");
    assert_string_equal(p.steps[4], "stream weights from main memory: the transformer keeps 4000 of 5000 MiB on the device");
    memory_needs drawing = n; /* from a picture, on which the tiles are spent */
    drawing.image_encoder_weights = (size_t)40 << 20;
    drawing.picture_compute = (size_t)9000 << 20;
    drawing.picture_tiles[0] = (memory_tile){32, (size_t)4000 << 20};
    drawing.picture_tile_count = 1;
    assert_true(memory_plan_make(&drawing, 0, &p, &e));
    assert_int_equal(p.step_count, 6);
    assert_string_equal(p.steps[1], "release the encoders after encoding: 1040 MiB");
    assert_string_equal(p.steps[3], "encode the picture in tiles of 32 latent cells: 4000 MiB instead of 9000 MiB");
    n.available_total = (size_t)2000 << 20;
    assert_false(memory_plan_make(&n, 0, &p, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(e.text, "needs 2362 MiB"));
    assert_non_null(strstr(e.text, "362 MiB are missing"));
    assert_int_equal(p.missing, (size_t)362 << 20);
}

/* Figures beyond what sums can hold are refused, not wrapped around into something that fits. */
static void absurd_figures_do_not_fit(void **state) {
    (void)state;
    memory_needs n = ladder;
    memory_plan p;
    error e;
    n.available_total = SIZE_MAX - 1;
    n.transformer_weights = n.transformer_minimum = SIZE_MAX - 100;
    assert_false(memory_plan_make(&n, 0, &p, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_takes_the_earliest_rung_that_fits),
        cmocka_unit_test(pictures_are_encoded_within_the_plan),
        cmocka_unit_test(one_byte_less_moves_one_rung),
        cmocka_unit_test(the_largest_tile_that_fits_is_taken),
        cmocka_unit_test(streaming_keeps_as_much_as_there_is_room_for),
        cmocka_unit_test(a_retry_gives_up_more_than_before),
        cmocka_unit_test(a_retry_passes_over_rungs_that_save_nothing),
        cmocka_unit_test(texts_are_for_operators),
        cmocka_unit_test(absurd_figures_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
