/* Base 64 from mutated bytes: never a write beyond what BASE64_BYTES promises or a read past the end, and what is taken is, but for blanks
 * and padding, the one text of its bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/base64.h"
#include "mutate.h"

enum { ROUNDS = 300000, CAPACITY = 96 };

static const char *const seeds[] = {"Zm9vYmFy", "Zm9vYg==", "Zm9vYmE=", "data:image/png;base64,iVBORw0KGgo=", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ\nAAAADUlEQVR4nGNgYGBg", ""};

static int taken, refused;

/* The text without blanks and padding. */
static size_t bare(const char *text, size_t size, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        if (memchr(" \t\r\n=", text[i], 5) == NULL) out[n++] = text[i];
    return n;
}

static void check(const char *text, size_t size) {
    char given[CAPACITY], again[BASE64_SIZE(BASE64_BYTES(CAPACITY))], one[sizeof again];
    size_t at = 0, n = 0;
    error e = {0};
    if (!base64_data_url(text, size, &at, &e)) at = 0;
    assert_true(at <= size);
    uint8_t *bytes = malloc(BASE64_BYTES(size - at)); /* exact, so that a sanitizer sees one byte too many */
    assert_non_null(bytes);
    if (!base64_decode(text + at, size - at, bytes, &n, &e)) {
        refused++;
        assert_int_equal(e.code, ERROR_INVALID);
        free(bytes);
        return;
    }
    taken++;
    assert_true(n <= BASE64_BYTES(size - at));
    base64_encode(bytes, n, again);
    size_t digits = bare(text + at, size - at, given);
    assert_int_equal(bare(again, BASE64_SIZE(n), one), digits);
    assert_memory_equal(one, given, digits);
    free(bytes);
}

static void whatever_comes_is_decoded_or_refused(void **state) {
    (void)state;
    static const char letters[] = "AZaz09+/==\n\r\t -_,;:";
    uint64_t random = 7;
    for (int round = 0; round < ROUNDS; round++) {
        const char *seed = seeds[next_random(&random) % (sizeof seeds / sizeof *seeds)];
        char text[CAPACITY];
        size_t size = strlen(seed);
        memcpy(text, seed, size);
        size = mutate_letters(letters, &random, text, size, CAPACITY);
        char *exact = exact_copy(text, size);
        check(exact, size);
        free(exact);
    }
    assert_true(taken > ROUNDS / 20 && refused > ROUNDS / 20); /* it was a test of both outcomes */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_comes_is_decoded_or_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
