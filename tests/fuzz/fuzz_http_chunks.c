/* Bodies in chunks, from mutated, cut and random bytes: never a byte from outside what came, and the same body, end or refusal however the
 * bytes are cut on their way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "mutate.h"
#include "server/http/http_chunks.h"

enum { ROUNDS = 200000, CAPACITY = 256 };

static const char *const seeds[] = {"5\r\nhello\r\n0\r\n\r\n",
                                    "1;name=value\r\nx\r\nA \r\n0123456789\r\n00\r\nDigest: 1\r\nOther: 2\r\n\r\n",
                                    "0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "fffffffffffffff\r\nabc", ""};

static int complete, refused, open_ended;

/* Feeds `size` bytes; returns how many were not read. */
static size_t feed(http_chunks *c, const char *bytes, size_t size, buffer *out) {
    char *piece = exact_copy(bytes, size);
    const char *at = piece, *data;
    size_t left = size, count;
    while (http_chunks_next(c, &at, &left, &data, &count)) {
        assert_true(count > 0 && data >= piece && data + count <= piece + size);
        buffer_append(out, data, count);
    }
    assert_true(at + left == piece + size && (left == 0 || http_chunks_done(c) || http_chunks_bad(c)));
    free(piece);
    return left;
}

static void check(const char *bytes, size_t size, uint64_t *random) {
    http_chunks whole = {0}, cut = {0};
    buffer one = {0}, other = {0};
    size_t behind = feed(&whole, bytes, size, &one), at = 0, unread = 0;
    while (at < size && unread == 0) {
        size_t piece = 1 + next_random(random) % 7;
        if (piece > size - at) piece = size - at;
        unread = feed(&cut, bytes + at, piece, &other);
        at += piece - unread;
    }
    assert_true(at == size - behind && whole.state == cut.state && whole.left == cut.left);
    assert_true(one.size == other.size && (one.size == 0 || memcmp(one.data, other.data, one.size) == 0));
    if (http_chunks_done(&whole)) complete++;
    else if (http_chunks_bad(&whole)) refused++;
    else open_ended++;
    buffer_free(&one);
    buffer_free(&other);
}

static void chunks_do_no_harm(void **state) {
    (void)state;
    static const char letters[] = "01aF\r\n\r\n; \t:x";
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < ROUNDS; round++) {
        const char *seed = seeds[next_random(&random) % 5];
        char body[CAPACITY];
        size_t size = strlen(seed);
        memcpy(body, seed, size);
        size = mutate_letters(letters, &random, body, size, CAPACITY);
        check(body, size, &random);
    }
    assert_true(complete > 1000 && refused > 1000 && open_ended > 1000);
}

static void bodies_are_what_was_sent(void **state) {
    (void)state;
    http_chunks c = {0};
    buffer out = {0};
    assert_int_equal(feed(&c, seeds[1], strlen(seeds[1]), &out), 0);
    assert_true(http_chunks_done(&c));
    assert_string_equal(buffer_text(&out), "x0123456789");
    c = (http_chunks){0};
    assert_int_equal(feed(&c, seeds[2], strlen(seeds[2]), &out), strlen("GET / HTTP/1.1\r\n\r\n"));
    assert_true(http_chunks_done(&c));
    buffer_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bodies_are_what_was_sent), cmocka_unit_test(chunks_do_no_harm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
