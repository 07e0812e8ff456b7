/* Authorization, Host, Origin and files of keys from mutated bytes: never a crash or a read past the end; what is accepted lies within its
 * caps, and no name gets past the lists that is neither an address nor listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mutate.h"
#include "server/access/allow_list.h"
#include "server/access/api_keys.h"
#include "server/access/auth_header.h"

enum { CAPACITY = 1400, ROUNDS = 200000 };

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static const char *const seeds[] = {
    "Bearer imagined_00ff", "Basic dTphYmM=", "basic dXNlcjpwYXNzd29yZA==", "127.0.0.1:7860", "[::1]:7860", "localhost:80", "a.example:8080", "http://a.example:8080",
    "https://[2001:db8::1]", "null", "# keys\nanna:" ABC "\nben:" ABC "\r\n",
};

static const char *const pieces[] = {":", "[", "]",       "=",      "==", " ",  ".", "0",  "65536",    "\xFF",
                                     "%", "/", "http://", "Basic ", "a",  "\n", ABC, "::", "localhost"};
static const mutator changes = {
    .kinds = MUTATE_CHARACTER | MUTATE_DOUBLE | MUTATE_INSERT | MUTATE_REMOVE, .most = 4, .capacity = CAPACITY,
    .pieces = pieces, .piece_count = sizeof pieces / sizeof *pieces};

static int keys_found, hosts_taken, hosts_refused, origins_read, files_read;

static void check(const allow_list *l, const char *text, size_t size) {
    char key[AUTH_KEY_BYTES];
    allow_host host;
    api_keys *k = NULL;
    error e = {0};
    memset(key, 'x', sizeof key);
    if (auth_header_key(text, key)) {
        keys_found++;
        assert_in_range(strlen(key), 1, AUTH_KEY_BYTES - 1);
    } else {
        assert_string_equal(key, "");
    }
    bool parsed = allow_host_parse(text, &host);
    if (allow_list_has_host(l, text)) {
        hosts_taken++;
        assert_true(parsed);
        assert_true(host.is_address || strcmp(host.name, "localhost") == 0 || strcmp(host.name, "a.example") == 0);
        assert_in_range(host.port, 0, 65535);
    } else {
        hosts_refused++;
    }
    if (allow_origin_parse(text, &host)) {
        origins_read++;
        assert_in_range(strlen(host.name), 1, ALLOW_NAME_BYTES - 1);
        assert_true(allow_same_origin(text, strstr(text, "//") + 2));
    }
    if (api_keys_parse(text, size, "keys", &k, &e)) files_read += api_keys_count(k) > 0;
    else assert_int_equal(e.code, ERROR_BAD_FILE);
    api_keys_free(k);
}

static void whatever_comes_is_read_or_refused(void **state) {
    (void)state;
    allow_list *l;
    error e;
    uint64_t random = 23;
    assert_true(allow_list_new("a.example", "", &l, &e));
    for (int i = 0; i < ROUNDS; i++) {
        const char *seed = seeds[next_random(&random) % (sizeof seeds / sizeof *seeds)];
        char scratch[CAPACITY + 1];
        size_t size = strlen(seed);
        memcpy(scratch, seed, size);
        size = mutate_pieces(&changes, &random, scratch, size);
        scratch[size] = '\0';
        char *exact = exact_copy(scratch, size + 1);
        check(l, exact, size);
        free(exact);
    }
    allow_list_free(l);
    /* It was a test of both outcomes. */
    assert_true(keys_found > ROUNDS / 50 && hosts_taken > ROUNDS / 50 && hosts_refused > ROUNDS / 50);
    assert_true(origins_read > ROUNDS / 50 && files_read > ROUNDS / 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_comes_is_read_or_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
