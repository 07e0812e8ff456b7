/* Pictures in every format: what goes in comes out, sizes are held against the caps before anything is decoded, orientation and metadata
 * are read where tools write them, and other sizes and masks are what they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "image/exif.h"
#include "image/resample.h"

enum { WIDTH = 45, HEIGHT = 30 };

/* A smooth picture with a bright corner, so that turning it shows. */
static image make(int width, int height, int channels) {
    image i;
    error e = {0};
    assert_true(image_new(width, height, channels, &i, &e));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *p = i.pixels + (y * width + x) * channels;
            p[0] = (uint8_t)(x * 255 / width);
            p[1] = (uint8_t)(y * 255 / height);
            p[2] = x < width / 3 && y < height / 3 ? 255 : 40;
            if (channels == 4) p[3] = (uint8_t)(255 - x * 200 / width);
        }
    return i;
}

static buffer file_of(const image *i, image_format f, int quality, const char *text) {
    buffer b = {0};
    error e = {0};
    if (!image_encode(i, f, quality, text, &b, &e)) fail_msg("%s: %s", image_format_name(f), e.text);
    return b;
}

static image decoded(const void *bytes, size_t size) {
    image i;
    error e = {0};
    if (!image_decode(bytes, size, &i, &e)) fail_msg("%s", e.text);
    return i;
}

static double difference(const image *a, const image *b) {
    double sum = 0;
    size_t n = (size_t)a->width * (size_t)a->height * (size_t)a->channels;
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->channels, b->channels);
    for (size_t i = 0; i < n; i++) sum += abs(a->pixels[i] - b->pixels[i]);
    return sum / (double)n;
}

static void pictures_survive_each_format(void **state) {
    (void)state;
    for (int f = 0; f < IMAGE_FORMATS; f++)
        for (int channels = 3; channels <= 4; channels++)
            for (int quality = 80; quality <= 100; quality += 20) {
                if (f == IMAGE_JPEG && channels == 4) continue;
                image i = make(WIDTH, HEIGHT, channels);
                buffer b = file_of(&i, (image_format)f, quality, NULL), again = file_of(&i, (image_format)f, quality, NULL);
                image_info info;
                error e = {0};
                assert_true(image_probe(b.data, b.size, &info, &e));
                assert_int_equal(info.format, f);
                assert_true(info.width == WIDTH && info.height == HEIGHT && info.channels == channels);
                image back = decoded(b.data, b.size);
                bool exact = f == IMAGE_PNG || (f == IMAGE_WEBP && quality == 100);
                assert_true(exact ? difference(&i, &back) == 0 : difference(&i, &back) < 6);
                assert_int_equal(b.size, again.size);
                assert_memory_equal(b.data, again.data, b.size);
                image_free(&i);
                image_free(&back);
                buffer_free(&b);
                buffer_free(&again);
            }
}

static void texts_survive_each_format(void **state) {
    (void)state;
    static const char *const texts[] = {"a fox\nSteps: 8, Sampler: Euler", "caf\xC3\xA9", "狐 🦊\nNegative prompt: 雨\nSteps: 8", "x", ""};
    for (int f = 0; f < IMAGE_FORMATS; f++)
        for (int quality = 80; quality <= 100; quality += 20)
            for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
                for (int channels = 3; channels <= (f == IMAGE_JPEG ? 3 : 4); channels++) {
                    image i = make(WIDTH, HEIGHT, channels);
                    buffer b = file_of(&i, (image_format)f, quality, texts[t]), text = {0};
                    error e = {0};
                    assert_true(image_metadata_read(b.data, b.size, &text, &e));
                    assert_string_equal(buffer_text(&text), texts[t]);
                    image back = decoded(b.data, b.size);
                    assert_true(difference(&i, &back) < 6);
                    image_free(&i);
                    image_free(&back);
                    buffer_free(&b);
                    buffer_free(&text);
                }
}

static void long_texts_are_refused_where_they_do_not_fit(void **state) {
    (void)state;
    static char text[40001];
    memset(text, 'x', sizeof text - 1);
    image i = make(8, 8, 3);
    buffer b = {0};
    error e = {0};
    buffer_append_text(&b, "before");
    assert_false(image_encode(&i, IMAGE_JPEG, 80, text, &b, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    assert_string_equal(buffer_text(&b), "before");
    assert_true(image_encode(&i, IMAGE_WEBP, 80, text, &b, &e));
    buffer_free(&b);
    image_free(&i);
}

static void wrong_wishes_are_refused(void **state) {
    (void)state;
    image i = make(8, 8, 4), large;
    buffer b = {0};
    error e = {0};
    assert_false(image_encode(&i, IMAGE_JPEG, 80, NULL, &b, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_false(image_encode(&i, IMAGE_PNG, 0, NULL, &b, &e));
    assert_false(image_encode(&i, IMAGE_PNG, 101, NULL, &b, &e));
    assert_false(image_encode(&i, IMAGE_PNG, 80, "\xFF", &b, &e));
    assert_false(image_new(IMAGE_MAX_SIDE, IMAGE_MAX_SIDE, 3, &large, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    assert_false(image_resize(&i, 0, 5, &large, &e));
    assert_int_equal(b.size, 0);
    image_free(&i);
}

static void sizes_are_held_against_the_caps_before_decoding(void **state) {
    (void)state;
    for (int f = 0; f < IMAGE_FORMATS; f++) {
        image i = make(WIDTH, HEIGHT, 3), none;
        buffer b = file_of(&i, (image_format)f, 80, NULL);
        uint8_t *p = (uint8_t *)b.data;
        /* The size in the head says 16000 × 16000, or a side too long; the pixels behind are those of before. */
        if (f == IMAGE_PNG) memcpy(p + 16, "\0\0\x3E\x80\0\0\x3E\x80\x08\x02\0\0\0\x50\x32\x11\x9F", 13);
        if (f == IMAGE_WEBP) memcpy(p + 26, "\xFF\x3F\xFF\x3F", 4);
        for (size_t at = 2; f == IMAGE_JPEG; at += 2 + (size_t)(p[at + 2] << 8 | p[at + 3]))
            if (p[at + 1] == 0xC0) {
                memcpy(p + at + 5, "\x3E\x80\x3E\x80", 4);
                break;
            }
        if (f == IMAGE_PNG) { /* and its checksum is right */
            uint32_t crc = 0xFFFFFFFF;
            for (int k = 12; k < 29; k++) {
                crc ^= p[k];
                for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
            }
            for (int k = 0; k < 4; k++) p[29 + k] = (uint8_t)(~crc >> (24 - 8 * k));
        }
        image_info info;
        error e = {0};
        assert_false(image_probe(b.data, b.size, &info, &e));
        if (e.code != ERROR_TOO_LARGE) fail_msg("%s: %s", image_format_name((image_format)f), e.text);
        assert_false(image_decode(b.data, b.size, &none, &e));
        assert_int_equal(e.code, ERROR_TOO_LARGE);
        assert_null(none.pixels);
        image_free(&i);
        buffer_free(&b);
    }
}

static void what_is_cut_short_is_refused(void **state) {
    (void)state;
    for (int f = 0; f < IMAGE_FORMATS; f++) {
        image i = make(WIDTH, HEIGHT, 3), none;
        buffer b = file_of(&i, (image_format)f, 80, "a text");
        for (size_t size = 0; size + 40 < b.size; size++) {
            error e = {0};
            uint8_t *copy = malloc(size + 1); /* so that a sanitizer sees a byte too many */
            memcpy(copy, b.data, size);
            assert_false(image_decode(copy, size, &none, &e));
            assert_true(e.code == ERROR_INVALID || e.code == ERROR_UNSUPPORTED);
            free(copy);
        }
        image_free(&i);
        buffer_free(&b);
    }
}

/* A JPEG with this EXIF block behind its SOI. */
static buffer with_exif(const buffer *jpeg, const void *tiff, size_t size) {
    buffer b = {0};
    size_t length = size + 8;
    const char head[] = {(char)0xFF, (char)0xE1, (char)(length >> 8), (char)length};
    buffer_append(&b, jpeg->data, 2);
    buffer_append(&b, head, 4);
    buffer_append(&b, "Exif\0", 6);
    buffer_append(&b, tiff, size);
    buffer_append(&b, jpeg->data + 2, jpeg->size - 2);
    return b;
}

/* Where the pixel that is shown at (x, y) lies in the stored picture. */
static void stored_at(int orientation, int x, int y, int *sx, int *sy) {
    static const struct {
        bool swap, flip_x, flip_y;
    } how[9] = {[1] = {false, false, false}, [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
                [5] = {true, false, false},  [6] = {true, false, true},  [7] = {true, true, true},  [8] = {true, true, false}};
    *sx = how[orientation].swap ? y : x;
    *sy = how[orientation].swap ? x : y;
    if (how[orientation].flip_x) *sx = WIDTH - 1 - *sx;
    if (how[orientation].flip_y) *sy = HEIGHT - 1 - *sy;
}

static void orientation_is_followed(void **state) {
    (void)state;
    image i = make(WIDTH, HEIGHT, 3);
    buffer plain = file_of(&i, IMAGE_JPEG, 95, NULL);
    image upright = decoded(plain.data, plain.size);
    for (int orientation = 0; orientation <= 9; orientation++) {
        uint8_t tiff[] = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0";
        tiff[18] = (uint8_t)orientation;
        int meant = orientation >= 1 && orientation <= 8 ? orientation : 1;
        buffer b = with_exif(&plain, tiff, sizeof tiff - 1);
        image_info info;
        error e = {0};
        assert_true(image_probe(b.data, b.size, &info, &e));
        image turned = decoded(b.data, b.size);
        assert_int_equal(info.width, meant >= 5 ? HEIGHT : WIDTH);
        assert_int_equal(turned.width, info.width);
        assert_int_equal(turned.height, info.height);
        for (int y = 0; y < turned.height; y++)
            for (int x = 0; x < turned.width; x++) {
                int sx, sy;
                stored_at(meant, x, y, &sx, &sy);
                assert_memory_equal(turned.pixels + (y * turned.width + x) * 3, upright.pixels + (sy * WIDTH + sx) * 3, 3);
            }
        image_free(&turned);
        buffer_free(&b);
    }
    image_free(&upright);
    image_free(&i);
    buffer_free(&plain);
}

static void comments_of_other_writers_are_read(void **state) {
    (void)state;
    /* Little endian block with a UserComment; its value follows at 44. */
    static const char head[] = "II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0\x01\0\x86\x92\x07\0";
    static const struct {
        const char *value;
        size_t size;
        const char *text;
    } cases[] = {{"ASCII\0\0\0a fox", 13, "a fox"},
                 {"UNICODE\0a\0 \0f\0", 14, "a f"},
                 {"UNICODE\0\0a\0 \0f", 14, "a f"}, /* against the block's order */
                 {"UNICODE\0\xFE\xFF\x72\xD0", 12, "狐"},
                 {"UNICODE\0\x3E\xD8\x8A\xDD", 12, "🦊"},
                 {"UNICODE\0\x3E\xD8", 10, "\xEF\xBF\xBD"},
                 {"\0\0\0\0\0\0\0\0a\xFF", 10, "a\xEF\xBF\xBD"},
                 {"JIS\0\0\0\0\0abc", 11, ""},
                 {"UNI", 3, ""}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        buffer b = {0}, text = {0};
        buffer_append(&b, head, sizeof head - 1);
        const char count[] = {(char)cases[c].size, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0};
        buffer_append(&b, count, sizeof count);
        buffer_append(&b, cases[c].value, cases[c].size);
        exif_comment((const uint8_t *)b.data, b.size, &text);
        assert_string_equal(buffer_text(&text), cases[c].text);
        buffer_free(&b);
        buffer_free(&text);
    }
}

static void resizing_keeps_flat_colours_and_halves_patterns(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {7, 3}, {45, 30}, {90, 60}, {13, 200}};
    error e = {0};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        image flat = make(WIDTH, HEIGHT, 4), out;
        for (int n = 0; n < WIDTH * HEIGHT; n++) memcpy(flat.pixels + n * 4, "\x10\x80\xF0\x80", 4);
        assert_true(image_resize(&flat, sizes[s][0], sizes[s][1], &out, &e));
        for (int n = 0; n < out.width * out.height; n++)
            for (int c = 0; c < 4; c++) assert_in_range(out.pixels[n * 4 + c] + 1, flat.pixels[c], flat.pixels[c] + 2);
        image_free(&flat);
        image_free(&out);
    }
    /* The same size is the same picture; black and white stripes become grey. */
    image i = make(WIDTH, HEIGHT, 3), same, grey;
    assert_true(image_resize(&i, WIDTH, HEIGHT, &same, &e));
    assert_true(difference(&i, &same) == 0);
    for (int n = 0; n < WIDTH * HEIGHT; n++) memset(i.pixels + n * 3, n % WIDTH % 2 == 0 ? 255 : 0, 3);
    assert_true(image_resize(&i, WIDTH / 9, HEIGHT / 9, &grey, &e));
    for (int n = 0; n < grey.width * grey.height * 3; n++) assert_in_range(grey.pixels[n], 100, 155);
    image_free(&i);
    image_free(&same);
    image_free(&grey);
}

static void what_is_invisible_leaves_no_fringe(void **state) {
    (void)state;
    image i = make(16, 16, 4), out;
    error e = {0};
    for (int n = 0; n < 256; n++) memcpy(i.pixels + n * 4, n % 16 < 8 ? "\xFF\x00\x00\xFF" : "\x00\xFF\x00\x00", 4);
    assert_true(image_resize(&i, 5, 5, &out, &e));
    for (int n = 0; n < 25; n++)
        if (out.pixels[n * 4 + 3] > 0) assert_true(out.pixels[n * 4] > 250 && out.pixels[n * 4 + 1] == 0);
    image_free(&i);
    image_free(&out);
}

static void masks_come_from_alpha_or_light(void **state) {
    (void)state;
    static const uint8_t blue[3] = {0, 0, 255};
    image i;
    error e = {0};
    uint8_t *mask;
    assert_true(image_new(3, 1, 4, &i, &e));
    memcpy(i.pixels, "\xFF\xFF\xFF\xFF" "\xFF\xFF\xFF\x00" "\x00\x00\x00\xFF", 12);
    assert_true(image_mask(&i, MASK_FROM_ALPHA, &mask, &e));
    assert_memory_equal(mask, "\x00\xFF\x00", 3);
    free(mask);
    assert_true(image_mask(&i, MASK_FROM_LIGHT, &mask, &e));
    assert_memory_equal(mask, "\xFF\x00\x00", 3);
    free(mask);
    image_flatten(&i, blue);
    assert_int_equal(i.channels, 3);
    assert_memory_equal(i.pixels, "\xFF\xFF\xFF\x00\x00\xFF\x00\x00\x00", 9);
    assert_true(image_mask(&i, MASK_FROM_ALPHA, &mask, &e));
    assert_memory_equal(mask, "\x00\x00\x00", 3);
    free(mask);
    image_free(&i);
}

static void formats_have_names(void **state) {
    (void)state;
    image_format f;
    assert_true(image_format_parse("JPG", &f) && f == IMAGE_JPEG);
    assert_true(image_format_parse("image/webp", &f) && f == IMAGE_WEBP);
    assert_true(image_format_parse("png", &f) && f == IMAGE_PNG);
    assert_false(image_format_parse("gif", &f));
    assert_string_equal(image_format_type(IMAGE_JPEG), "image/jpeg");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_survive_each_format),
        cmocka_unit_test(texts_survive_each_format),
        cmocka_unit_test(long_texts_are_refused_where_they_do_not_fit),
        cmocka_unit_test(wrong_wishes_are_refused),
        cmocka_unit_test(sizes_are_held_against_the_caps_before_decoding),
        cmocka_unit_test(what_is_cut_short_is_refused),
        cmocka_unit_test(orientation_is_followed),
        cmocka_unit_test(comments_of_other_writers_are_read),
        cmocka_unit_test(resizing_keeps_flat_colours_and_halves_patterns),
        cmocka_unit_test(what_is_invisible_leaves_no_fringe),
        cmocka_unit_test(masks_come_from_alpha_or_light),
        cmocka_unit_test(formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
