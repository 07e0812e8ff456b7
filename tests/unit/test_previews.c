/* The newest preview of each task is kept and no other, within its bounds; and as files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/pictures/previews.h"

/* width × height pixels, red from left to right, blue everywhere as the step. */
static preview make(const char *id, int step, int width, int height, uint8_t *rgb) {
    preview v = {.image = step % 3, .step = step, .width = width, .height = height, .rgb = rgb};
    snprintf(v.task, sizeof v.task, "%s", id);
    for (int i = 0; i < width * height; i++) {
        rgb[3 * i] = (uint8_t)(i % width * 255 / width);
        rgb[3 * i + 1] = 0;
        rgb[3 * i + 2] = (uint8_t)step;
    }
    return v;
}

static void the_newest_of_each_task_is_kept(void **state) {
    (void)state;
    previews *p;
    error e = {0};
    uint8_t rgb[8 * 8 * 3];
    assert_true(previews_new(&p, &e));
    assert_null(previews_find(p, "a"));
    previews_drop(p, "a"); /* nothing happens */
    static const char *const tasks[] = {"a", "b", "c"};
    for (int step = 1; step <= 5; step++)
        for (int i = 0; i < 3; i++) {
            preview v = make(tasks[i], step + 10 * i, 8 - step, 8, rgb);
            assert_true(previews_put(p, &v, &e));
            memset(rgb, 99, sizeof rgb); /* a copy was taken */
        }
    for (int i = 0; i < 3; i++) {
        const preview *v = previews_find(p, tasks[i]);
        assert_non_null(v);
        assert_string_equal(v->task, tasks[i]);
        assert_int_equal(v->step, 5 + 10 * i);
        assert_int_equal(v->image, (5 + 10 * i) % 3);
        assert_int_equal(v->width, 3);
        assert_int_equal(v->height, 8);
        assert_int_equal(v->rgb[3 * 23 + 2], 5 + 10 * i);
    }
    previews_drop(p, "b");
    assert_null(previews_find(p, "b"));
    assert_non_null(previews_find(p, "a"));
    assert_non_null(previews_find(p, "c"));
    previews_drop(p, "c");
    previews_drop(p, "c");
    assert_non_null(previews_find(p, "a"));
    previews_free(p); /* with one in it */
    previews_free(NULL);
}

static void sides_beyond_the_bound_are_refused_and_change_nothing(void **state) {
    (void)state;
    previews *p;
    error e = {0};
    static uint8_t rgb[PREVIEW_MAX_SIDE * 3 * 2];
    assert_true(previews_new(&p, &e));
    preview good = make("a", 1, PREVIEW_MAX_SIDE, 1, rgb);
    assert_true(previews_put(p, &good, &e));
    static const int sides[][2] = {{PREVIEW_MAX_SIDE + 1, 1}, {1, PREVIEW_MAX_SIDE + 1}, {0, 1}, {1, 0}, {-1, -1}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        preview bad = {.task = "a", .step = 2, .width = sides[i][0], .height = sides[i][1], .rgb = rgb};
        assert_false(previews_put(p, &bad, &e));
        assert_int_equal(e.code, ERROR_TOO_LARGE);
        bad.task[0] = 'n';
        assert_false(previews_put(p, &bad, &e));
        assert_null(previews_find(p, "n"));
        assert_int_equal(previews_find(p, "a")->step, 1);
    }
    previews_free(p);
}

/* The picture in `file`, which is of this format. */
static image decoded(const buffer *file, image_format format) {
    image i;
    image_info info;
    error e = {0};
    assert_true(image_probe(file->data, file->size, &info, &e) && image_decode(file->data, file->size, &i, &e));
    assert_int_equal(info.format, format);
    return i;
}

static void files_are_enlarged_but_never_made_smaller(void **state) {
    (void)state;
    uint8_t rgb[16 * 8 * 3];
    const preview wide = make("a", 7, 16, 8, rgb);
    static const struct {
        int side, width, height;
    } cases[] = {{0, 16, 8}, {5, 16, 8}, {16, 16, 8}, {17, 17, 8}, {100, 100, 50}, {1024, 1024, 512}};
    for (int format = 0; format < IMAGE_FORMATS; format++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            buffer file = {0};
            error e = {0};
            assert_true(preview_encode(&wide, cases[i].side, (image_format)format, 90, &file, &e));
            image back = decoded(&file, (image_format)format);
            assert_int_equal(back.width, cases[i].width);
            assert_int_equal(back.height, cases[i].height);
            assert_true(back.pixels[0] < 60 && back.pixels[3 * (back.width - 1)] > 180);
            if (format == IMAGE_PNG && back.width == 16) assert_memory_equal(back.pixels, rgb, sizeof rgb);
            image_free(&back);
            buffer_free(&file);
        }
    const preview flat = make("a", 7, 16, 1, rgb); /* its height stays above nothing */
    buffer file = {0};
    error e = {0};
    assert_true(preview_encode(&flat, 17, IMAGE_PNG, 90, &file, &e));
    image back = decoded(&file, IMAGE_PNG);
    assert_int_equal(back.height, 1);
    image_free(&back);
    buffer_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_of_each_task_is_kept),
        cmocka_unit_test(sides_beyond_the_bound_are_refused_and_change_nothing),
        cmocka_unit_test(files_are_enlarged_but_never_made_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
