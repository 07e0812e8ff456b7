/* Webhooks' URLs, the operator's list and secrets from mutated bytes: never a crash or a read past the end; what is accepted lies within
 * its caps, and nothing that is taken leads to an address that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mutate.h"
#include "server/webhooks/webhook_guard.h"
#include "server/webhooks/webhook_signature.h"

enum { CAPACITY = 4200, ROUNDS = 100000 };

static const char *const seeds[] = {
    "http://a.example/hook", "https://hooks.example:8443/a?b=c", "http://1.2.3.4:80/", "http://[2606:4700::1]/x", "http://127.0.0.1/", "http://0x7f.1/", "http://[::ffff:10.0.0.1]/",
    "http://user:pw@a.example/#x", "10.0.0.0/8, hooks.lan, fd00::/8", "::1", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
};

static const char *const pieces[] = {":",    "[",    "]",       "@",         "#",   "?",   "/",  "//",     ".",
                                     "0",    "0x7f", "017",     "127.0.0.1", "%2e", "%00", "%",  "\\",     "\t",
                                     "\xFF", "xn--", "http://", "https:",    ",",   "/8",  "::", "whsec_", "="};
static const mutator changes = {
    .kinds = MUTATE_CHARACTER | MUTATE_DOUBLE | MUTATE_INSERT | MUTATE_REMOVE, .most = 3, .capacity = CAPACITY,
    .pieces = pieces, .piece_count = sizeof pieces / sizeof *pieces};

static int urls_taken, urls_refused, literals_refused, lists_read, secrets_read;

static void check(const webhook_guard *public_only, const char *text) {
    webhook_target t;
    webhook_guard *g = NULL;
    webhook_secrets s;
    error e = {0};
    if (webhook_target_parse(text, &t, &e)) {
        urls_taken++;
        assert_in_range(strlen(t.host), 1, WEBHOOK_HOST_BYTES - 1);
        assert_in_range(t.port, 0, 65535);
        assert_true(strlen(text) < WEBHOOK_URL_BYTES && strchr(text, '#') == NULL);
        bool admitted = webhook_guard_admits(public_only, &t, &e);
        if (t.is_address) assert_int_equal(admitted, webhook_address_is_public((const struct sockaddr *)&t.address));
        else assert_true(admitted);
        literals_refused += !admitted;
    } else {
        urls_refused++;
        assert_int_equal(e.code, ERROR_INVALID);
        assert_string_equal(e.field, "webhook");
    }
    if (webhook_guard_new(text, &g, &e)) lists_read++;
    else assert_int_equal(e.code, ERROR_INVALID);
    webhook_guard_free(g);
    if (webhook_secrets_parse(text, "x", &s, &e)) {
        secrets_read++;
        assert_in_range(s.count, 1, WEBHOOK_SECRETS);
        for (int i = 0; i < s.count; i++) assert_in_range(s.of[i].size, WEBHOOK_SECRET_LEAST, WEBHOOK_SECRET_MOST);
    }
}

static void whatever_comes_is_read_or_refused(void **state) {
    (void)state;
    webhook_guard *g;
    error e;
    uint64_t random = 29;
    assert_true(webhook_guard_new("", &g, &e));
    for (int i = 0; i < ROUNDS; i++) {
        const char *seed = seeds[next_random(&random) % (sizeof seeds / sizeof *seeds)];
        char scratch[CAPACITY + 1];
        size_t size = strlen(seed);
        memcpy(scratch, seed, size);
        size = mutate_pieces(&changes, &random, scratch, size);
        scratch[size] = '\0';
        char *exact = exact_copy(scratch, size + 1);
        check(g, exact);
        free(exact);
    }
    webhook_guard_free(g);
    /* It was a test of both outcomes. */
    assert_true(urls_taken > ROUNDS / 20 && urls_refused > ROUNDS / 20 && literals_refused > ROUNDS / 50);
    assert_true(lists_read > ROUNDS / 50 && secrets_read > ROUNDS / 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_comes_is_read_or_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
