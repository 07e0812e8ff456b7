/* Base 64 against the examples of RFC 4648 §10, there and back; what clients send besides (line breaks, no padding, data: URLs) and what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/base64.h"

/* `bytes` NULL: the text is refused, and nothing was appended. */
static void expect(const char *text, const char *bytes) {
    char wanted[64];
    buffer b = {0};
    error e = {0};
    buffer_append_text(&b, "before ");
    snprintf(wanted, sizeof wanted, "before %s", bytes != NULL ? bytes : "");
    if (base64_append(text, strlen(text), &b, &e) != (bytes != NULL)) fail_msg("'%s': %s", text, e.text);
    assert_int_equal(e.code, bytes != NULL ? ERROR_NONE : ERROR_INVALID);
    assert_string_equal(buffer_text(&b), wanted);
    assert_int_equal(b.size, strlen(wanted));
    buffer_free(&b);
}

static void the_standards_examples(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *text;
    } examples[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xFB\xEF\xFF", "++//"}};
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        char text[16] = "";
        size_t size = strlen(examples[i].bytes);
        base64_encode((const uint8_t *)examples[i].bytes, size, text);
        assert_string_equal(text, examples[i].text);
        assert_int_equal(strlen(text), BASE64_SIZE(size));
        expect(text, examples[i].bytes);
    }
}

static void what_clients_send_besides(void **state) {
    (void)state;
    expect("Zm9vYg", "foob");
    expect("Zm9vYmE", "fooba");
    expect(" Zm9v\r\nYmFy\n", "foobar");
    expect("Z m\t9vY\ng = =\n", "foob");
}

static void what_is_none_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"Z",     "Zm9vY",    "Zg=",       "Zg===", "Zg==Zg==", "=",           "==",   "====", "Z===",
                                      "Zm9v=", "Zm9v====", "Zm9vYmFy!", "Zm9-",  "Zm9_",     "Zm\xC3\xB6v", "Zh==", "Zm9=", "Zg==x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect(bad[i], NULL);
}

static void every_byte_at_every_length_comes_back(void **state) {
    (void)state;
    uint8_t bytes[259], back[BASE64_BYTES(BASE64_SIZE(259))];
    char text[BASE64_SIZE(259)];
    error e = {0};
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        size_t n;
        base64_encode(bytes, size, text);
        assert_true(base64_decode(text, BASE64_SIZE(size), back, &n, &e));
        assert_int_equal(n, size);
        assert_memory_equal(back, bytes, size);
    }
}

static void data_urls(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int digits; /* −1: refused */
    } cases[] = {{"data:image/png;base64,AAAA", 22}, {"data:;base64,", 13}, {"DATA:image/jpeg;Charset=x;BASE64,AA,A", 33}, {"AAAA", 0}, {"", 0}, {"data", 0},
                 {"data:", -1}, {"data:,", -1}, {"data:image/png,AAAA", -1}, {"data:image/png;base64", -1}, {"data:base64,AAAA", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t digits = 99;
        error e = {0};
        bool ok = base64_data_url(cases[i].text, strlen(cases[i].text), &digits, &e);
        if (ok != (cases[i].digits >= 0)) fail_msg("%s", cases[i].text);
        if (ok) assert_int_equal(digits, cases[i].digits);
        else assert_int_equal(e.code, ERROR_INVALID);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standards_examples), cmocka_unit_test(what_clients_send_besides), cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(every_byte_at_every_length_comes_back), cmocka_unit_test(data_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
