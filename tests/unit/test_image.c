/* A PNG holds exactly the pixels and texts it was given, the same input gives the same bytes, and faults leave the buffer as it was. */
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "image/parameters.h"
#include "image/png.h"

enum { WIDTH = 37, HEIGHT = 21 };

static void fill(uint8_t *rgb, size_t size) {
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++) rgb[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
}

static void pixels_survive(void **state) {
    (void)state;
    uint8_t rgb[WIDTH * HEIGHT * 3], back[WIDTH * HEIGHT * 3];
    fill(rgb, sizeof rgb);
    buffer b = {0};
    error e = {0};
    buffer_append_text(&b, "before");
    assert_true(png_encode(rgb, WIDTH, HEIGHT, NULL, 0, &b, &e));
    assert_memory_equal(b.data, "before", 6);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&image, b.data + 6, b.size - 6) != 0);
    assert_int_equal(image.width, WIDTH);
    assert_int_equal(image.height, HEIGHT);
    assert_int_equal(image.format, PNG_FORMAT_RGB);
    assert_true(png_image_finish_read(&image, NULL, back, 0, NULL) != 0);
    assert_memory_equal(rgb, back, sizeof rgb);
    buffer_free(&b);
}

/* The data of the first chunk of this type; its size in *size. */
static const char *chunk(const buffer *b, const char *type, size_t *size) {
    for (size_t at = 8; at + 12 <= b->size;) {
        const unsigned char *p = (const unsigned char *)b->data + at;
        *size = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (memcmp(p + 4, type, 4) == 0) return b->data + at + 8;
        at += *size + 12;
    }
    return NULL;
}

static void texts_take_the_chunk_that_fits(void **state) {
    (void)state;
    uint8_t rgb[3] = {1, 2, 3};
    buffer b = {0};
    error e = {0};
    size_t size = 0;
    png_text_entry latin = {"parameters", "caf\xC3\xA9\nSteps: 8"}, wide = {"parameters", "狐 🦊"};
    assert_true(png_encode(rgb, 1, 1, &latin, 1, &b, &e));
    const char *text = chunk(&b, "tEXt", &size);
    assert_non_null(text);
    assert_int_equal(size, 11 + 13);
    assert_memory_equal(text, "parameters\0caf\xE9\nSteps: 8", size);
    assert_null(chunk(&b, "iTXt", &size));
    assert_null(chunk(&b, "tIME", &size));
    buffer_clear(&b);
    assert_true(png_encode(rgb, 1, 1, &wide, 1, &b, &e));
    text = chunk(&b, "iTXt", &size);
    assert_non_null(text);
    assert_int_equal(size, 11 + 2 + 1 + 1 + strlen(wide.text));
    assert_memory_equal(text + 15, wide.text, strlen(wide.text));
    buffer_free(&b);
}

static void same_picture_same_bytes(void **state) {
    (void)state;
    uint8_t rgb[WIDTH * HEIGHT * 3];
    fill(rgb, sizeof rgb);
    buffer one = {0}, two = {0};
    error e = {0};
    png_text_entry texts[] = {{"parameters", "a fox"}, {"Title", "狐"}};
    assert_true(png_encode(rgb, WIDTH, HEIGHT, texts, 2, &one, &e));
    assert_true(png_encode(rgb, WIDTH, HEIGHT, texts, 2, &two, &e));
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    buffer_free(&one);
    buffer_free(&two);
}

static void refuse(int width, int height, png_text_entry text, error_code code) {
    uint8_t rgb[3] = {0};
    buffer b = {0};
    error e = {0};
    buffer_append_text(&b, "kept");
    assert_false(png_encode(rgb, width, height, &text, 1, &b, &e));
    assert_int_equal(e.code, code);
    assert_string_equal(buffer_text(&b), "kept");
    assert_int_equal(b.size, 4);
    buffer_free(&b);
}

static void what_no_png_can_hold_is_refused(void **state) {
    (void)state;
    png_text_entry fine = {"a", "b"};
    refuse(0, 1, fine, ERROR_INVALID);
    refuse(1, -1, fine, ERROR_INVALID);
    refuse(PNG_IMAGE_MAX_SIDE + 1, 1, fine, ERROR_INVALID);
    refuse(1, 1, (png_text_entry){"", "b"}, ERROR_INVALID);
    refuse(1, 1, (png_text_entry){" a", "b"}, ERROR_INVALID);
    refuse(1, 1, (png_text_entry){"a  b", "b"}, ERROR_INVALID);
    refuse(1, 1, (png_text_entry){"caf\xC3\xA9", "b"}, ERROR_INVALID);
    refuse(1, 1, (png_text_entry){"a", "\xFF"}, ERROR_INVALID);
    char *huge = calloc(1, PNG_TEXT_MAX_BYTES + 2);
    assert_non_null(huge);
    memset(huge, 'x', PNG_TEXT_MAX_BYTES + 1);
    refuse(1, 1, (png_text_entry){"a", huge}, ERROR_TOO_LARGE);
    free(huge);
}

static void parameters_read_like_a1111s(void **state) {
    (void)state;
    buffer b = {0};
    image_parameters p = {.prompt = "a fox, blue", .negative_prompt = "blurry", .sampler = "Euler", .model = "demo",
                          .steps = 8, .width = 512, .height = 384, .guidance_scale = 3.5, .seed = UINT64_MAX};
    image_parameters_write(&p, &b);
    assert_string_equal(buffer_text(&b), "a fox, blue\nNegative prompt: blurry\n"
                                         "Steps: 8, Sampler: Euler, CFG scale: 3.5, "
                                         "Seed: 18446744073709551615, Size: 512x384, Model: demo");
    buffer_clear(&b);
    p.negative_prompt = "";
    p.true_cfg_scale = 2;
    p.model = "my, \"model\"";
    image_parameters_write(&p, &b);
    assert_string_equal(buffer_text(&b), "a fox, blue\nSteps: 8, Sampler: Euler, CFG scale: 3.5, True CFG scale: 2, "
                                         "Seed: 18446744073709551615, Size: 512x384, Model: \"my, \\\"model\\\"\"");
    buffer_clear(&b);
    p.true_cfg_scale = 1;
    p.model = "demo";
    p.strength = 0.6;
    image_parameters_write(&p, &b);
    assert_string_equal(buffer_text(&b), "a fox, blue\nSteps: 8, Sampler: Euler, CFG scale: 3.5, "
                                         "Seed: 18446744073709551615, Size: 512x384, Model: demo, Denoising strength: 0.6");
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_survive),          cmocka_unit_test(texts_take_the_chunk_that_fits),
        cmocka_unit_test(same_picture_same_bytes), cmocka_unit_test(what_no_png_can_hold_is_refused),
        cmocka_unit_test(parameters_read_like_a1111s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
