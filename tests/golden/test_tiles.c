/* Decoding, and encoding, in tiles against doing it whole, on latents of the demo model; and how the tile is chosen from what memory there
 * is.
 *
 *     test_tiles [DEVICE]
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "golden.h"
#include "models/autoencoder_encoder_tiling.h"

enum { SKIPPED = 77, CHANNELS = 16, FACTOR = 8, DECIBELS = 40, ENCODED_DECIBELS = 40 };

typedef struct fixture {
    device *device;
    golden *golden;
    autoencoder_kl *vae;
    autoencoder_encoder *encoder;
} fixture;

static void check(bool ok, const error *e) {
    if (!ok) fail_msg("%s", e->text);
}

/* Of pictures clamped to what can be seen, −1 … 1. */
static double psnr(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fmin(fmax((double)a[i], -1), 1) - fmin(fmax((double)b[i], -1), 1);
        sum += d * d;
    }
    return 10 * log10(4 * (double)count / sum);
}

/* Decodes all tiles; with `disturb`, other shapes are decoded in between. */
static autoencoder_tiles *decode(const fixture *f, const float *latents, int width, int height, int tile, bool disturb) {
    autoencoder_tiles *t;
    error e;
    check(autoencoder_tiles_new(f->vae, latents, width, height, tile, &t, &e), &e);
    int slices = 0;
    for (bool more = true; more; slices++) {
        check(autoencoder_tiles_decode_next(t, &more, &e), &e);
        float other[3 * 2 * FACTOR * 3 * FACTOR];
        if (disturb) check(autoencoder_kl_decode(f->vae, latents, 2, 3, 1, other, &e), &e);
    }
    assert_int_equal(slices, autoencoder_tiles_count(t));
    return t;
}

static void tiles_match(const fixture *f, const char *name, int width, int height, const int *tiles) {
    golden_array latents = golden_get(f->golden, "%s", name);
    size_t count = (size_t)(3 * width * height * FACTOR * FACTOR);
    assert_int_equal(latents.count, CHANNELS * width * height);
    float *whole = malloc(count * sizeof *whole);
    error e;
    check(autoencoder_kl_decode(f->vae, golden_f32(&latents), width, height, 1, whole, &e), &e);
    autoencoder_tiles *one = decode(f, golden_f32(&latents), width, height, 0, false);
    assert_int_equal(autoencoder_tiles_count(one), 1);
    assert_memory_equal(autoencoder_tiles_planes(one), whole, count * sizeof *whole);
    autoencoder_tiles_free(one);
    for (; *tiles > 0; tiles++) {
        autoencoder_tiles *t = decode(f, golden_f32(&latents), width, height, *tiles, *tiles == AUTOENCODER_MIN_TILE);
        double quality = psnr(autoencoder_tiles_planes(t), whole, count);
        print_message("    %s in %2d tiles of %d: %.1f dB\n", name, autoencoder_tiles_count(t), *tiles, quality);
        if (!(quality >= DECIBELS)) fail_msg("%s in tiles of %d: %.1f dB, not %d", name, *tiles, quality, DECIBELS);
        autoencoder_tiles_free(t);
    }
    free(whole);
}

static void tiles_of_a_square_match_the_whole(void **state) {
    const fixture *f = *state;
    tiles_match(f, "256x256", 32, 32, device_is_cpu(f->device) ? (int[]){24, 16, 0} : (int[]){16, 0});
}

static void tiles_of_a_rectangle_match_the_whole(void **state) {
    const fixture *f = *state;
    if (!device_is_cpu(f->device)) skip(); /* a GPU that is none takes minutes for it */
    tiles_match(f, "512x384", 64, 48, (int[]){48, 32, 24, 16, 0});
}

/* ── encoding ── */

/* Decibels of latents against the spread of the whole's. */
static double latent_psnr(const float *a, const float *whole, size_t count) {
    double sum = 0, least = whole[0], most = whole[0];
    for (size_t i = 0; i < count; i++) {
        sum += ((double)a[i] - whole[i]) * ((double)a[i] - whole[i]);
        least = fmin(least, whole[i]);
        most = fmax(most, whole[i]);
    }
    return 10 * log10((most - least) * (most - least) * (double)count / sum);
}

static float *encode(const fixture *f, const float *pixels, int width, int height, int tile, int *slices) {
    autoencoder_encoder_tiles *t;
    error e;
    size_t bytes = (size_t)(CHANNELS * width * height / FACTOR / FACTOR) * sizeof(float);
    float *latents = malloc(bytes), other[CHANNELS * 2 * 3];
    check(autoencoder_encoder_tiles_new(f->encoder, pixels, width, height, tile, &t, &e), &e);
    *slices = 0;
    for (bool more = true; more; ++*slices) {
        check(autoencoder_encoder_tiles_encode_next(t, &more, &e), &e);
        if (tile == AUTOENCODER_MIN_TILE)
            check(autoencoder_encoder_encode(f->encoder, pixels, 2 * FACTOR, 3 * FACTOR, 1, other, &e), &e); /* others in between */
    }
    memcpy(latents, autoencoder_encoder_tiles_latents(t), bytes);
    bool more;
    assert_false(autoencoder_encoder_tiles_encode_next(t, &more, &e));
    assert_int_equal(e.code, ERROR_INTERNAL);
    autoencoder_encoder_tiles_free(t);
    return latents;
}

/* A picture that the decoder made is encoded whole and in tiles; and what is decoded again of both is compared, too. */
static void encoding_matches(const fixture *f, const char *name, int width, int height, const int *tiles) {
    golden_array made = golden_get(f->golden, "%s", name);
    size_t pixels = (size_t)(3 * width * height * FACTOR * FACTOR), values = (size_t)(CHANNELS * width * height);
    float *picture = malloc(pixels * sizeof *picture), *again = malloc(pixels * sizeof *again), *tiled = malloc(pixels * sizeof *tiled);
    float *direct = malloc(values * sizeof *direct);
    error e;
    int slices;
    check(autoencoder_kl_decode(f->vae, golden_f32(&made), width, height, 1, picture, &e), &e);
    check(autoencoder_encoder_encode(f->encoder, picture, width * FACTOR, height * FACTOR, 1, direct, &e), &e);
    float *whole = encode(f, picture, width * FACTOR, height * FACTOR, 0, &slices);
    assert_int_equal(slices, 1);
    assert_memory_equal(whole, direct, values * sizeof *whole);
    check(autoencoder_kl_decode(f->vae, whole, width, height, 1, again, &e), &e);
    for (; *tiles > 0; tiles++) {
        float *latents = encode(f, picture, width * FACTOR, height * FACTOR, *tiles, &slices);
        check(autoencoder_kl_decode(f->vae, latents, width, height, 1, tiled, &e), &e);
        double of_latents = latent_psnr(latents, whole, values), of_pixels = psnr(tiled, again, pixels);
        print_message("    %s encoded in %2d tiles of %d: latents %.1f dB, decoded %.1f dB\n", name, slices, *tiles, of_latents, of_pixels);
        assert_true(slices > 1);
        if (!(of_pixels >= ENCODED_DECIBELS))
            fail_msg("%s encoded in tiles of %d: %.1f dB, not %d", name, *tiles, of_pixels, ENCODED_DECIBELS);
        free(latents);
    }
    free(picture);
    free(again);
    free(tiled);
    free(whole);
    free(direct);
}

static void encoding_in_tiles_matches_the_whole(void **state) {
    const fixture *f = *state;
    encoding_matches(f, "256x256", 32, 32, device_is_cpu(f->device) ? (int[]){24, 16, 0} : (int[]){16, 0});
    if (device_is_cpu(f->device)) encoding_matches(f, "512x384", 64, 48, (int[]){48, 32, 24, 16, 0});
}

static void smaller_tiles_encode_in_less(void **state) {
    const fixture *f = *state;
    autoencoder_tile_need needs[AUTOENCODER_TILE_SIZES];
    size_t whole;
    int count;
    error e;
    check(autoencoder_encoder_measure(f->encoder, 1024, 512, 1, &whole, &e), &e);
    check(autoencoder_encoder_tiles_measure(f->encoder, 1024, 512, needs, &count, &e), &e);
    assert_int_equal(count, 6); /* 96 … 16 in 128 × 64 cells, as 128 is no tile */
    for (int i = 0; i < count; i++) {
        assert_true(needs[i].tile < 128 && needs[i].bytes > 0 && needs[i].bytes < (i > 0 ? needs[i - 1].bytes : whole));
    }
    check(autoencoder_encoder_tiles_measure(f->encoder, 128, 128, needs, &count, &e), &e);
    assert_int_equal(count, 0);
}

static void the_largest_tile_that_fits_is_chosen(void **state) {
    const fixture *f = *state;
    autoencoder_tile_need needs[AUTOENCODER_TILE_SIZES];
    size_t whole;
    int count, tile;
    error e;
    check(autoencoder_kl_measure(f->vae, 64, 48, 1, &whole, &e), &e);
    check(autoencoder_tiles_measure(f->vae, 64, 48, needs, &count, &e), &e);
    assert_int_equal(count, 4);
    check(autoencoder_kl_tile_for(f->vae, 64, 48, whole, &tile, &e), &e);
    assert_int_equal(tile, 0);
    size_t above = whole;
    for (int i = 0; i < count; i++) {
        static const int sizes[] = {48, 32, 24, 16};
        assert_int_equal(needs[i].tile, sizes[i]);
        assert_true(needs[i].bytes < above);
        check(autoencoder_kl_tile_for(f->vae, 64, 48, above - 1, &tile, &e), &e);
        assert_int_equal(tile, sizes[i]);
        check(autoencoder_kl_tile_for(f->vae, 64, 48, needs[i].bytes, &tile, &e), &e);
        assert_int_equal(tile, sizes[i]);
        above = needs[i].bytes;
    }
    assert_false(autoencoder_kl_tile_for(f->vae, 64, 48, above - 1, &tile, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    /* what is decoded in tiles stays within the figure */
    float latents[CHANNELS * 17 * 16] = {0};
    component_release(autoencoder_kl_component(f->vae));
    autoencoder_tiles_free(decode(f, latents, 17, 16, 16, false));
    assert_true(component_compute_bytes(autoencoder_kl_component(f->vae)) <= needs[3].bytes);
    /* the smallest latents cannot be tiled */
    check(autoencoder_tiles_measure(f->vae, 16, 16, needs, &count, &e), &e);
    assert_int_equal(count, 0);
}

static void requests_out_of_range_are_refused(void **state) {
    const fixture *f = *state;
    autoencoder_tiles *t;
    error e;
    float latents[CHANNELS] = {0};
    bool more = false;
    assert_false(autoencoder_tiles_new(f->vae, latents, 0, 1, 0, &t, &e));
    assert_null(t);
    assert_false(autoencoder_tiles_new(f->vae, latents, 1, AUTOENCODER_KL_MAX_SIDE / FACTOR + 1, 0, &t, &e));
    assert_false(autoencoder_tiles_new(f->vae, latents, 1, 1, AUTOENCODER_MIN_TILE - 1, &t, &e));
    assert_false(autoencoder_tiles_new(f->vae, latents, 1, 1, -16, &t, &e));
    check(autoencoder_tiles_new(f->vae, latents, 1, 1, 16, &t, &e), &e);
    check(autoencoder_tiles_decode_next(t, &more, &e), &e);
    assert_false(more);
    assert_false(autoencoder_tiles_decode_next(t, &more, &e));
    autoencoder_tiles_free(t);
    autoencoder_tiles_free(NULL);
}

int main(int argc, char **argv) {
    fixture f = {0};
    error e = {0};
    char path[4096];
    if (!device_open(argc > 1 ? argv[1] : "cpu", 2, &f.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return argc > 1 ? SKIPPED : 1;
    }
    f.golden = golden_open("tiles");
    golden_path(path, sizeof path, "../../../demo/model/vae");
    if (!autoencoder_kl_load(f.device, path, &LOAD_OPTIONS(PRECISION_AUTO), &f.vae, &e) ||
        !autoencoder_encoder_load(f.device, path, &LOAD_OPTIONS(PRECISION_AUTO), &f.encoder, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(tiles_of_a_square_match_the_whole, &f),
        cmocka_unit_test_prestate(tiles_of_a_rectangle_match_the_whole, &f),
        cmocka_unit_test_prestate(encoding_in_tiles_matches_the_whole, &f),
        cmocka_unit_test_prestate(smaller_tiles_encode_in_less, &f),
        cmocka_unit_test_prestate(the_largest_tile_that_fits_is_chosen, &f),
        cmocka_unit_test_prestate(requests_out_of_range_are_refused, &f),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    autoencoder_kl_free(f.vae);
    autoencoder_encoder_free(f.encoder);
    golden_free(f.golden);
    device_free(f.device);
    return failed;
}
