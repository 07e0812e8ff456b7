/* The ground everything stands on: errors cut at characters, buffers that remember failure, JSON getters that name the key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"

/* What a file or a file's name holds may be quoted as it is. */
static void error_text_is_valid(void **state) {
    (void)state;
    error e = {0};
    error_set(&e, ERROR_BAD_FILE, "%s: '%.3s' is odd", "a\xFF\xC3z", "\xC3\xA9\xE7\x8B\x90");
    assert_string_equal(e.text, "a??z: '\xC3\xA9?' is odd");
    error_prefix(&e, "\x80: ");
    assert_string_equal(e.text, "?: a??z: '\xC3\xA9?' is odd");
    /* What is quoted cannot forge a line of the log. */
    error_set(&e, ERROR_INVALID, "there is no field '%s'", "x\nERROR\x1B[2J\x7F");
    assert_string_equal(e.text, "there is no field 'x?ERROR?[2J?'");
}

static void error_text_is_cut_at_a_character(void **state) {
    (void)state;
    char long_text[600];
    memset(long_text, 'x', sizeof long_text);
    memcpy(long_text + 508, "€€€", 10);
    error e = {0};
    assert_false(error_set(&e, ERROR_INVALID, "%s", long_text));
    assert_true(utf8_valid(e.text, strlen(e.text), NULL));
    assert_int_equal(strlen(e.text), 511);
    assert_false(error_prefix(&e, "a"));
    assert_true(utf8_valid(e.text, strlen(e.text), NULL));
}

static void a_buffer_holds_what_was_appended(void **state) {
    (void)state;
    buffer b = {0};
    assert_string_equal(buffer_text(&b), "");
    for (int i = 0; i < 1000; i++) buffer_printf(&b, "%d,", i % 10);
    assert_true(buffer_ok(&b));
    assert_int_equal(b.size, 2000);
    assert_int_equal(b.data[2000], 0);
    assert_null(buffer_reserve(&b, SIZE_MAX));
    assert_false(buffer_ok(&b));
    buffer_free(&b);
}

static void arenas_refuse_what_overflows(void **state) {
    (void)state;
    arena a = {0};
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    unsigned char *p = arena_alloc(&a, 100000);
    assert_non_null(p);
    assert_int_equal(p[99999], 0);
    assert_string_equal(arena_text(&a, "hello", 4), "hell");
    arena_free(&a);
}

static void json_getters_name_the_key(void **state) {
    (void)state;
    const char text[] = "{\"n\": 1.5, \"big\": 2147483648, \"s\": \"a\\u0000b\", \"none\": null, \"whole\": 8.0}";
    json_document d;
    error e = {0};
    assert_true(json_parse(text, sizeof text - 1, "the request body", &d, &e));
    json root = json_root(&d);
    int64_t n = 7;
    assert_true(json_int(root, "none", 0, 10, &n, &e));
    assert_true(json_int(root, "absent", 0, 10, &n, &e));
    assert_int_equal(n, 7);
    assert_true(json_int(root, "whole", 0, 10, &n, &e));
    assert_int_equal(n, 8);
    assert_false(json_int(root, "n", 0, 10, &n, &e));
    assert_string_equal(e.field, "n");
    assert_false(json_int(root, "big", 0, 10, &n, &e));
    assert_non_null(strstr(e.text, "2147483648"));
    const char *s = NULL;
    assert_false(json_text(root, "s", 10, &s, &e));
    assert_false(json_require(root, "absent", &e));
    assert_int_equal(e.code, ERROR_INVALID);
    json_document_free(&d);
    assert_false(json_parse("{", 1, "the request body", &d, &e));
    json_document_free(&d);
}

static void malformed_utf8_is_found_where_it_is(void **state) {
    (void)state;
    size_t bad = 99;
    assert_true(utf8_valid("a\xF0\x9F\xA6\x9D", 5, &bad));
    assert_false(utf8_valid("ab\xC0\x80", 4, &bad));
    assert_int_equal(bad, 2);
    assert_false(utf8_valid("\xED\xA0\x80", 3, &bad));
    assert_false(utf8_valid("\xF4\x90\x80\x80", 4, &bad));
    assert_false(utf8_valid("\xE2\x82", 2, &bad));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_text_is_cut_at_a_character), cmocka_unit_test(error_text_is_valid),
        cmocka_unit_test(a_buffer_holds_what_was_appended), cmocka_unit_test(arenas_refuse_what_overflows),
        cmocka_unit_test(json_getters_name_the_key),        cmocka_unit_test(malformed_utf8_is_found_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
