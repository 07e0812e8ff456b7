/* Normalization and lower case where the reference's Unicode is not utf8proc's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "text/unicode.h"

typedef bool (*transformation)(const char *text, size_t size, buffer *out);

static void assert_becomes(transformation f, const char *text, const char *expected) {
    buffer b = {0};
    assert_true(f(text, strlen(text), &b));
    assert_string_equal(buffer_text(&b), expected);
    buffer_free(&b);
}

static void marks_are_ordered_and_composed(void **state) {
    (void)state;
    assert_becomes(unicode_nfc, "", "");
    assert_becomes(unicode_nfc, "e\u0301a\u0301\u0323", "\u00e9\u1ea1\u0301");
    assert_becomes(unicode_nfc, "\u1112\u1161\u11ab", "\ud55c");
    assert_becomes(unicode_nfc, "\u0958\u212b", "\u0915\u093c\u00c5");
}

/* Their combining classes would move them or let marks past them. */
static void marks_younger_than_unicode_9_stay_where_they_are(void **state) {
    (void)state;
    assert_becomes(unicode_nfc, "a\u0301\u1df9", "\u00e1\u1df9");
    assert_becomes(unicode_nfc, "e\u1df9\u0301", "e\u1df9\u0301");
    assert_becomes(unicode_nfc, "e\u0301\u07fd\u0323\u0334", "\u00e9\u07fd\u0334\u0323");
    assert_becomes(unicode_nfc, "\U00011935\U00011930", "\U00011935\U00011930");
    assert_becomes(unicode_nfc, "\U00011938", "\U00011938");
}

static void the_character_before_the_trailing_consonants_is_none_of_them(void **state) {
    (void)state;
    assert_becomes(unicode_nfc, "\ub6d4\u11a7", "\ub6d4\u11a7");
    assert_becomes(unicode_nfc, "\u1100\u1161\u11a7\u11a8", "\uac00\u11a7\u11a8");
}

static void lower_case_is_per_character(void **state) {
    (void)state;
    assert_becomes(unicode_lower, "\u0130\u039f\u03a3", "i\u0307\u03bf\u03c3");
    assert_becomes(unicode_lower, "\U00010d50\ua7cb", "\U00010d70\u0264");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_are_ordered_and_composed),
        cmocka_unit_test(marks_younger_than_unicode_9_stay_where_they_are),
        cmocka_unit_test(the_character_before_the_trailing_consonants_is_none_of_them),
        cmocka_unit_test(lower_case_is_per_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
