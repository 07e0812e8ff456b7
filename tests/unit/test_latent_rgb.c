/* What a latent looks like: colours worked out by hand from the predicted clean latent, squares of cells where there are too many, and the
 * map of a model read with each fault named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "models/flux_latents.h"
#include "models/latent_rgb.h"

/* Two channels: the first is red, the second is green less half the blue; a grey bias. */
static const latent_rgb map = {.channels = 2, .factors = {{1, 0, 0}, {0, 1, -0.5f}}, .bias = {0, 0, 0.5f}};

static int shade(double color) {
    double value = floor((color + 1) * 127.5 + 0.5);
    return value < 0 ? 0 : value > 255 ? 255 : (int)value;
}

static void colors_are_those_of_the_clean_latent(void **state) {
    (void)state;
    enum { ROWS = 2, COLUMNS = 3, CELLS = 4 * ROWS * COLUMNS };
    float planes[2 * CELLS], drift[2 * CELLS], latent[2 * CELLS], velocity[2 * CELLS];
    for (int i = 0; i < 2 * CELLS; i++) {
        planes[i] = (float)(i % 7 - 3) * 0.5f;
        drift[i] = (float)(i % 5) * 0.25f;
    }
    flux_latents_pack(planes, 2, ROWS, COLUMNS, latent);
    flux_latents_pack(drift, 2, ROWS, COLUMNS, velocity);
    int width, height;
    latent_rgb_size(ROWS, COLUMNS, &width, &height);
    assert_int_equal(width, 2 * COLUMNS);
    assert_int_equal(height, 2 * ROWS);
    uint8_t rgb[CELLS * 3];
    latent_rgb_paint(&map, latent, velocity, 0.5f, ROWS, COLUMNS, rgb);
    for (int i = 0; i < CELLS; i++) {
        double red = planes[i] - 0.5 * drift[i], green = planes[CELLS + i] - 0.5 * drift[CELLS + i];
        assert_int_equal(rgb[3 * i], shade(red));
        assert_int_equal(rgb[3 * i + 1], shade(green));
        assert_int_equal(rgb[3 * i + 2], shade(0.5 - green / 2));
    }
}

static void what_is_no_number_is_black_and_what_is_too_much_is_cut(void **state) {
    (void)state;
    float latent[8] = {NAN, INFINITY, -INFINITY, 5}, velocity[8] = {0};
    uint8_t rgb[12];
    latent_rgb_paint(&map, latent, velocity, 1, 1, 1, rgb);
    assert_int_equal(rgb[0], 0);
    assert_int_equal(rgb[3], 255);
    assert_int_equal(rgb[6], 0);
    assert_int_equal(rgb[9], 255);
}

/* 1,026 cells a row become 513 pixels of 2 × 2, and 4,100 become 1,025 and so 513 of 8 × 8, the last of them cut. */
static void squares_of_cells_are_their_mean(void **state) {
    (void)state;
    static const struct {
        int columns, side, width;
    } cases[] = {{513, 2, 513}, {2050, 8, 513}};
    enum { ROWS = 3 };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        int columns = cases[n].columns, side = cases[n].side, width, height;
        size_t cells = (size_t)columns * 4 * ROWS;
        latent_rgb_size(ROWS, columns, &width, &height);
        assert_int_equal(width, cases[n].width);
        assert_int_equal(height, (2 * ROWS + side - 1) / side);
        float *planes = calloc(2 * cells, sizeof *planes), *latent = calloc(2 * cells, sizeof *latent),
              *none = calloc(2 * cells, sizeof *none);
        uint8_t *rgb = malloc((size_t)width * (size_t)height * 3 + 1);
        for (size_t i = 0; i < cells; i++) planes[i] = (float)(i % 11) * 0.125f - 0.5f;
        flux_latents_pack(planes, 2, ROWS, columns, latent);
        rgb[(size_t)width * (size_t)height * 3] = 77;
        latent_rgb_paint(&map, latent, none, 0.5f, ROWS, columns, rgb);
        assert_int_equal(rgb[(size_t)width * (size_t)height * 3], 77);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                double sum = 0;
                int count = 0;
                for (int v = y * side; v < (y + 1) * side && v < 2 * ROWS; v++)
                    for (int u = x * side; u < (x + 1) * side && u < 2 * columns; u++, count++) sum += planes[v * 2 * columns + u];
                int expected = shade(sum / count), found = rgb[(y * width + x) * 3];
                if (abs(found - expected) > 1) fail_msg("pixel %d, %d is %d and not %d", x, y, found, expected);
            }
        free(planes);
        free(latent);
        free(none);
        free(rgb);
    }
    for (int columns = 1; columns <= 8192; columns += 37) {
        int width, height;
        latent_rgb_size(1, columns, &width, &height);
        assert_in_range(width, 1, LATENT_RGB_MAX_SIDE);
        assert_int_equal(height, columns <= 512 ? 2 : 1);
    }
}

static bool read_map(const char *text, int channels, latent_rgb *out, error *e) {
    json_document d;
    *e = (error){0};
    assert_true(json_parse(text, strlen(text), "imagined.json", &d, e));
    bool ok = latent_rgb_read(json_root(&d), channels, out, e);
    json_document_free(&d);
    return ok;
}

static void a_map_is_read_or_refused_whole(void **state) {
    (void)state;
    latent_rgb read = latent_rgb_known(16);
    error e;
    assert_int_equal(read.channels, 16);
    assert_int_equal(latent_rgb_known(4).channels, 0);
    assert_true(read_map("{}", 2, &read, &e) && read_map("{\"latent_rgb\": null}", 2, &read, &e));
    assert_int_equal(read.channels, 16);
    static const struct {
        const char *text, *named;
        int channels;
    } faults[] = {
        {"{\"latent_rgb\": []}", "latent_rgb", 1},
        {"{\"latent_rgb\": {\"bias\": [0, 0, 0]}}", "factors", 1},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, 3]]}}", "bias", 1},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, 3]], \"bias\": [0, 0]}}", "bias", 1},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, 3]], \"bias\": 5}}", "bias", 1},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, 3]], \"bias\": [0, 0, 0]}}", "factors", 2},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, 3], [1, 2, 3]], \"bias\": [0, 0, 0]}}", "factors", 1},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, \"3\"]], \"bias\": [0, 0, 0]}}", "factors", 1},
        {"{\"latent_rgb\": {\"factors\": [[1, 2, 1e30]], \"bias\": [0, 0, 0]}}", "factors", 1},
        {"{\"latent_rgb\": {\"factors\": [1, 2, 3], \"bias\": [0, 0, 0]}}", "factors", 3},
        {"{\"latent_rgb\": {\"factors\": [], \"bias\": [0, 0, 0]}}", "factors", 33},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (read_map(faults[i].text, faults[i].channels, &read, &e)) fail_msg("taken: %s", faults[i].text);
        if (strstr(e.text, faults[i].named) == NULL) fail_msg("'%s' does not name %s", e.text, faults[i].named);
        assert_int_equal(read.channels, 16);
    }
    assert_true(read_map("{\"latent_rgb\": {\"factors\": [[1, 0, -2.5], [0, 1, 0]], \"bias\": [0.5, 0, 0]}}", 2, &read, &e));
    assert_int_equal(read.channels, 2);
    assert_true(read.factors[0][2] == -2.5f && read.bias[0] == 0.5f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colors_are_those_of_the_clean_latent),
        cmocka_unit_test(what_is_no_number_is_black_and_what_is_too_much_is_cut),
        cmocka_unit_test(squares_of_cells_are_their_mean),
        cmocka_unit_test(a_map_is_read_or_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
