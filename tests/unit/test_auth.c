/* SHA-256 and HMAC against their standards' examples; which keys a file holds and which key is one of them; what a Host, an Origin and an
 * Authorization say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/sha256.h"
#include "server/access/allow_list.h"
#include "server/access/api_keys.h"
#include "server/access/auth_header.h"

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void hashes_are_those_of_the_standard(void **state) {
    (void)state;
    char text[SHA256_TEXT_BYTES];
    sha256_text("", 0, text);
    assert_string_equal(text, EMPTY);
    sha256_text("abc", 3, text);
    assert_string_equal(text, ABC);
    sha256_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, text);
    assert_string_equal(text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    sha256_text(million, 1000000, text);
    assert_string_equal(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void codes_under_a_key_are_those_of_rfc_4231(void **state) {
    (void)state;
    static const uint8_t counted[25] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25};
    uint8_t b0b[20], aa[131], dd[50], cd[50];
    memset(b0b, 0x0b, sizeof b0b);
    memset(aa, 0xaa, sizeof aa);
    memset(dd, 0xdd, sizeof dd);
    memset(cd, 0xcd, sizeof cd);
    static const char larger[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    static const char both[] =
        "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used "
        "by the HMAC algorithm.";
    const struct {
        const void *key;
        size_t key_size;
        const void *bytes;
        size_t size;
        const char *code;
    } cases[] = {
        {b0b, 20, "Hi There", 8, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", 4, "what do ya want for nothing?", 28, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {aa, 20, dd, 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {counted, 25, cd, 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
        {aa, 131, larger, sizeof larger - 1, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {aa, 131, both, sizeof both - 1, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t code[SHA256_BYTES];
        char text[2 * SHA256_BYTES + 1];
        sha256_hmac(cases[i].key, cases[i].key_size, cases[i].bytes, cases[i].size, code);
        for (int b = 0; b < SHA256_BYTES; b++) snprintf(text + 2 * b, 3, "%02x", code[b]);
        assert_string_equal(text, cases[i].code);
    }
}

/* --- keys --- */

static api_keys *parse(const char *text, error *e) {
    api_keys *k = NULL;
    *e = (error){0};
    return api_keys_parse(text, strlen(text), "keys", &k, e) ? k : NULL;
}

static void a_file_of_keys_knows_its_keys(void **state) {
    (void)state;
    error e;
    api_keys *k = parse("# people\r\n\n  anna:" ABC "  \r\nben.2:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", &e);
    assert_non_null(k);
    assert_int_equal(api_keys_count(k), 2);
    assert_string_equal(api_keys_find(k, "abc"), "anna");
    assert_string_equal(api_keys_find(k, ""), "ben.2");
    assert_null(api_keys_find(k, "abd"));
    assert_null(api_keys_find(k, ABC)); /* the hash is no key */
    api_keys_free(k);
    k = parse("", &e);
    assert_non_null(k);
    assert_null(api_keys_find(k, "abc"));
    api_keys_free(k);
}

static void bad_lines_are_told_with_their_place(void **state) {
    (void)state;
    static const char *const bad[] = {"anna", "anna:", "anna:12", ":" ABC, "an na:" ABC, "anna:" ABC "0", "anna:" ABC " x", "anna:g" EMPTY,
                                      "a0123456789012345678901234567890123456789012345678901234567890123456789:" ABC, "anna:" ABC "\nanna:" EMPTY};
    error e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[400];
        snprintf(text, sizeof text, "# first\n%s\n", bad[i]);
        assert_null(parse(text, &e));
        assert_int_equal(e.code, ERROR_BAD_FILE);
        assert_memory_equal(e.text, strchr(bad[i], '\n') != NULL ? "keys:3: " : "keys:2: ", 8);
    }
}

static void a_key_that_is_added_is_known_and_only_its_hash_is_stored(void **state) {
    (void)state;
    char folder[] = "/tmp/imagined_keys_XXXXXX", path[64], one[API_KEY_TEXT_BYTES], two[API_KEY_TEXT_BYTES], three[API_KEY_TEXT_BYTES];
    struct stat info;
    error e = {0};
    buffer text = {0};
    api_keys *k;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/keys", folder);
    assert_true(api_keys_add(path, "anna", one, &e));
    /* A last line without its end, and a file that all may read, as an editor leaves it. */
    assert_true(file_read(path, 4096, &text, &e));
    buffer_append_text(&text, "# mine");
    assert_true(file_replace(path, text.data, text.size, &e));
    assert_true(api_keys_add(path, "ben", two, &e));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(strlen(one), strlen("imagined_") + 64);
    assert_string_not_equal(one, two);
    assert_true(api_keys_read(path, &k, &e));
    assert_int_equal(api_keys_count(k), 2);
    assert_string_equal(api_keys_find(k, one), "anna");
    assert_string_equal(api_keys_find(k, two), "ben");
    api_keys_free(k);
    assert_false(api_keys_add(path, "anna", three, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_string_equal(three, "");
    assert_false(api_keys_add(path, "an:na", three, &e));
    assert_false(api_keys_add(path, "", three, &e));
    buffer_clear(&text);
    assert_true(file_read(path, 4096, &text, &e));
    assert_null(strstr(text.data, one + strlen("imagined_")));
    assert_non_null(strstr(text.data, "# mine\n"));
    /* What is no file of keys is left as it is. */
    assert_true(file_replace(path, "listen = 1\n", 11, &e));
    assert_false(api_keys_add(path, "anna", three, &e));
    buffer_clear(&text);
    assert_true(file_read(path, 4096, &text, &e));
    assert_string_equal(text.data, "listen = 1\n");
    buffer_free(&text);
    unlink(path);
    assert_int_equal(rmdir(folder), 0);
}

/* --- headers --- */

static void keys_come_as_bearer_or_as_basics_password(void **state) {
    (void)state;
    static const struct {
        const char *header, *key; /* NULL: none */
    } cases[] = {
        {"Bearer abc", "abc"}, {"bearer  abc ", "abc"}, {"BEARER\tabc", "abc"}, {" Bearer abc", "abc"}, {"Bearer", NULL}, {"Bearer ", NULL}, {"Bearerabc", NULL},
        {"abc", NULL}, {"", NULL}, {NULL, NULL}, {"Digest abc", NULL},
        {"Basic dTphYmM=", "abc"},     /* u:abc */
        {"basic dTphYmM", "abc"},      /* without its padding */
        {"Basic OmFiYw==", "abc"},     /* :abc */
        {"Basic dTphOmI=", "a:b"},     /* u:a:b */
        {"Basic dTo=", "u"},           /* u: */
        {"Basic Og==", NULL},          /* : */
        {"Basic dTph YmM=", NULL}, {"Basic dTph\tYmM=", NULL},
        {"Basic dXNlcg==", NULL},      /* user */
        {"Basic dTph!mM=", NULL}, {"Basic dTphYmM===", NULL}, {"Basic dTphY", NULL}, {"Basic ", NULL},
        {"Basic dTphAGI=", NULL},      /* u:a NUL b */
    };
    char key[AUTH_KEY_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool found = auth_header_key(cases[i].header, key);
        if (found != (cases[i].key != NULL)) fail_msg("%s: %s", cases[i].header, key);
        assert_string_equal(key, found ? cases[i].key : "");
    }
    char longest[AUTH_KEY_BYTES + 8] = "Bearer ";
    memset(longest + 7, 'k', AUTH_KEY_BYTES - 1);
    assert_true(auth_header_key(longest, key));
    longest[7 + AUTH_KEY_BYTES - 1] = 'k';
    assert_false(auth_header_key(longest, key));
}

static allow_list *list(const char *hosts, const char *origins) {
    allow_list *l = NULL;
    error e;
    assert_true(allow_list_new(hosts, origins, &l, &e));
    return l;
}

static void hosts_are_addresses_localhost_or_named(void **state) {
    (void)state;
    static const char *const good[] = {"127.0.0.1:7860", "10.0.0.7", "[::1]", "[::1]:7860", "[2001:DB8::1]", "localhost", "LocalHost:80", "localhost.:80", "a.example",
                                       "A.Example.:1", "b.example:8080", "c.example"};
    static const char *const bad[] = {"", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "0x7f.1", "2130706433", "::1", "[::1", "[::1]x", "[]",
                                      "[evil.example]", "b.example", "b.example:80", "c.example:81", "a.example:", "a.example:0", "a.example:65536", "a.example:8o",
                                      "a.example@evil", "a.example/", "a example", "localhost..", ".", "xa.example", "[127.0.0.1]", "[fe80::1%1]"};
    allow_list *l = list(" a.example,b.example:8080 ,, C.example:80", "");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!allow_list_has_host(l, good[i])) fail_msg("'%s' is refused", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (allow_list_has_host(l, bad[i])) fail_msg("'%s' is taken", bad[i]);
    assert_true(allow_list_has_host(l, NULL));
    allow_list_free(l);
}

static void origins_are_the_servers_own_or_named(void **state) {
    (void)state;
    assert_true(allow_same_origin("http://127.0.0.1:7860", "127.0.0.1:7860"));
    assert_true(allow_same_origin("http://[::1]:7860", "[0:0::1]:7860"));
    assert_true(allow_same_origin("HTTP://LocalHost", "localhost:80"));
    assert_true(allow_same_origin("https://a.example", "a.example"));
    assert_true(allow_same_origin("https://a.example:443", "A.example"));
    assert_false(allow_same_origin("http://localhost:7860", "127.0.0.1:7860"));
    assert_false(allow_same_origin("http://localhost:7861", "localhost:7860"));
    assert_false(allow_same_origin("https://a.example:80", "a.example"));
    assert_false(allow_same_origin("null", "a.example"));
    assert_false(allow_same_origin("", ""));
    assert_false(allow_same_origin("http://a.example/", "a.example"));
    assert_false(allow_same_origin("http://a.example", NULL));
    allow_list *l = list("", "https://a.example, http://10.0.0.7:8080");
    assert_true(allow_list_has_origin(l, "https://A.example:443"));
    assert_true(allow_list_has_origin(l, "http://10.0.0.7:8080"));
    assert_false(allow_list_has_origin(l, "http://a.example"));
    assert_false(allow_list_has_origin(l, "http://a.example:443"));
    assert_false(allow_list_has_origin(l, "https://a.example.evil.example"));
    assert_false(allow_list_has_origin(l, "http://10.0.0.7"));
    assert_false(allow_list_has_origin(l, "null"));
    allow_list_free(l);
}

static void lists_that_make_no_sense_are_told(void **state) {
    (void)state;
    static const char *const hosts[] = {"*", "http://a.example", "a.example,b c", "a.example:x"}, *const origins[] = {
                                                                                                      "a.example", "null", "*",
                                                                                                      "https://a.example/", "ftp://a"};
    allow_list *l;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        error e = {0};
        assert_false(allow_list_new(hosts[i], "", &l, &e));
        assert_non_null(strstr(e.text, "IMAGINED_ALLOWED_HOSTS"));
    }
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
        error e = {0};
        assert_false(allow_list_new("", origins[i], &l, &e));
        assert_non_null(strstr(e.text, "IMAGINED_ALLOWED_ORIGINS"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_those_of_the_standard),
        cmocka_unit_test(codes_under_a_key_are_those_of_rfc_4231),
        cmocka_unit_test(a_file_of_keys_knows_its_keys),
        cmocka_unit_test(bad_lines_are_told_with_their_place),
        cmocka_unit_test(a_key_that_is_added_is_known_and_only_its_hash_is_stored),
        cmocka_unit_test(keys_come_as_bearer_or_as_basics_password),
        cmocka_unit_test(hosts_are_addresses_localhost_or_named),
        cmocka_unit_test(origins_are_the_servers_own_or_named),
        cmocka_unit_test(lists_that_make_no_sense_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
