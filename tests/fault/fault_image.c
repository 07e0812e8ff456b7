/* Pictures when memory runs out at any point, in libpng as well (the other libraries allocate for themselves): nothing is left, and the
 * buffer holds what it held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fault.h"
#include "image/parameters.h"
#include "image/png.h"
#include "image/resample.h"

enum { WIDTH = 64, HEIGHT = 48 };

static bool encode(void *context, error *e) {
    static const png_text_entry texts[] = {{"parameters", "a caf\xC3\xA9"}, {"Title", "狐"}};
    buffer b = {0};
    buffer_append_text(&b, "before");
    size_t before = b.size;
    bool started = buffer_ok(&b);
    bool ok = png_encode(context, WIDTH, HEIGHT, texts, 2, &b, e);
    if (ok) assert_true(b.size > 100);
    else assert_int_equal(b.size, started ? before : 0);
    buffer_free(&b);
    return ok;
}

static void encoding_fails_cleanly(void **state) {
    (void)state;
    uint8_t rgb[WIDTH * HEIGHT * 3];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    assert_true(fault_fail_each(encode, rgb) > 10);
}

static bool describe(void *context, error *e) {
    (void)context;
    char prompt[5000];
    memset(prompt, 'x', sizeof prompt - 1);
    prompt[sizeof prompt - 1] = '\0';
    buffer b = {0};
    image_parameters p = {
        .prompt = prompt, .negative_prompt = prompt, .sampler = "Euler", .model = "a, b", .steps = 1, .width = 8, .height = 8};
    image_parameters_write(&p, &b);
    bool ok = buffer_ok(&b) || error_no_memory(e, "parameters", 0);
    buffer_free(&b);
    return ok;
}

static void describing_fails_cleanly(void **state) {
    (void)state;
    assert_true(fault_fail_each(describe, NULL) >= 2);
}

typedef struct round_trip {
    image_format format;
    buffer file; /* to read */
} round_trip;

static bool make_picture(image *i, error *e) {
    if (!image_new(WIDTH, HEIGHT, 3, i, e)) return false;
    for (int n = 0; n < WIDTH * HEIGHT * 3; n++) i->pixels[n] = (uint8_t)(n * 7);
    return true;
}

static bool write_picture(void *context, error *e) {
    const round_trip *t = context;
    image i;
    buffer b = {0};
    bool ok = make_picture(&i, e) && image_encode(&i, t->format, 80, "a fox 狐\nSteps: 8", &b, e);
    assert_true(ok || b.size == 0);
    image_free(&i);
    buffer_free(&b);
    return ok;
}

static bool read_picture(void *context, error *e) {
    const round_trip *t = context;
    image i = {0}, smaller = {0};
    buffer text = {0};
    uint8_t *mask = NULL;
    bool ok = image_decode(t->file.data, t->file.size, &i, e) && image_metadata_read(t->file.data, t->file.size, &text, e) &&
              image_resize(&i, 20, 10, &smaller, e) && image_mask(&smaller, MASK_FROM_LIGHT, &mask, e);
    free(mask);
    image_free(&smaller);
    image_free(&i);
    buffer_free(&text);
    return ok;
}

static void each_format_fails_cleanly(void **state) {
    (void)state;
    for (int f = 0; f < IMAGE_FORMATS; f++) {
        round_trip t = {.format = (image_format)f};
        image i;
        error e = {0};
        assert_true(make_picture(&i, &e) && image_encode(&i, t.format, 80, "a fox 狐\nSteps: 8", &t.file, &e));
        assert_true(fault_fail_each(write_picture, &t) >= 3);
        assert_true(fault_fail_each(read_picture, &t) >= 8);
        image_free(&i);
        buffer_free(&t.file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(encoding_fails_cleanly), cmocka_unit_test(describing_fails_cleanly),
                                       cmocka_unit_test(each_format_fails_cleanly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
