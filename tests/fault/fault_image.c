/* PNG encoding when memory runs out at any point, in libpng as well: nothing is left, and the buffer holds what it held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fault.h"
#include "image/parameters.h"
#include "image/png.h"

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
    image_parameters p = {.prompt = prompt, .negative_prompt = prompt, .sampler = "Euler", .model = "a, b", .steps = 1, .width = 8, .height = 8};
    image_parameters_write(&p, &b);
    bool ok = buffer_ok(&b) || error_no_memory(e, "parameters", 0);
    buffer_free(&b);
    return ok;
}

static void describing_fails_cleanly(void **state) {
    (void)state;
    assert_true(fault_fail_each(describe, NULL) >= 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(encoding_fails_cleanly), cmocka_unit_test(describing_fails_cleanly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
