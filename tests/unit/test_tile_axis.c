/* Tiles of every length and size: they cover all, overlap by a quarter at least, are as few as that allows, and their weights blend as
 * said. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include "models/tile_axis.h"

enum { LONGEST = 150, FACTOR = 3 };

static void check_places(const tile_axis *a, int length, int tile) {
    assert_int_equal(a->length, length);
    if (tile == 0 || tile >= length) {
        assert_int_equal(a->count, 1);
        assert_int_equal(a->size, length);
        return;
    }
    assert_int_equal(a->size, tile);
    assert_int_equal(tile_axis_first(a, 0), 0);
    assert_int_equal(tile_axis_first(a, a->count - 1) + tile, length);
    for (int i = 0; i + 1 < a->count; i++) {
        int stride = tile_axis_first(a, i + 1) - tile_axis_first(a, i);
        assert_true(stride >= 1 && 4 * (tile - stride) >= tile);
    }
    int most = tile - (tile + 3) / 4; /* one tile fewer would have to stand further apart than this */
    assert_true((a->count - 2) * most + tile < length);
}

static void check_weights(const tile_axis *a) {
    float sums[LONGEST * FACTOR] = {0}, weights[LONGEST * FACTOR];
    int contributors[LONGEST * FACTOR] = {0};
    for (int i = 0; i < a->count; i++) {
        int at = tile_axis_first(a, i) * FACTOR;
        tile_axis_weigh(a, i, FACTOR, weights);
        float top = -1;
        bool falling = false;
        for (int k = 0; k < a->size * FACTOR; k++) {
            assert_true(weights[k] >= 0 && weights[k] <= 1);
            if (weights[k] < top) falling = true;
            if (falling) assert_true(weights[k] <= top); /* up, then down: no second seam inside a tile */
            top = weights[k];
            sums[at + k] += weights[k];
            contributors[at + k] += weights[k] > 0;
        }
    }
    for (int x = 0; x < a->length * FACTOR; x++) {
        assert_true(fabsf(sums[x] - 1) < 1e-6f);
        assert_true(contributors[x] >= 1 && contributors[x] <= 2);
    }
}

static void every_length_is_tiled(void **state) {
    (void)state;
    for (int length = 1; length <= LONGEST; length++)
        for (int tile = 0; tile <= LONGEST; tile += tile == 0 ? 4 : 1) {
            tile_axis a = tile_axis_of(length, tile);
            check_places(&a, length, tile);
            check_weights(&a);
        }
}

static void a_seam_is_linear(void **state) {
    (void)state;
    tile_axis a = tile_axis_of(28, 16);
    float first[32], second[32];
    assert_int_equal(a.count, 2); /* 0 … 16 and 12 … 28 */
    tile_axis_weigh(&a, 0, 2, first);
    tile_axis_weigh(&a, 1, 2, second);
    for (int k = 0; k < 24; k++) assert_true(first[k] == 1 && second[k + 8] == 1);
    for (int k = 0; k < 8; k++) {
        assert_true(second[k] == ((float)k + 0.5f) / 8);
        assert_true(first[24 + k] == 1 - second[k]);
    }
}

static void one_tile_is_the_whole(void **state) {
    (void)state;
    tile_axis a = tile_axis_of(20, 0);
    float weights[40];
    tile_axis_weigh(&a, 0, 2, weights);
    assert_int_equal(tile_axis_first(&a, 0), 0);
    for (int k = 0; k < 40; k++) assert_true(weights[k] == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_is_tiled),
        cmocka_unit_test(a_seam_is_linear),
        cmocka_unit_test(one_tile_is_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
