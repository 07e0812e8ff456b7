/* Forms from mutated, cut and random bytes: never a crash, never a part outside the body, parts in order, and an end; a complaint is one
 * sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "mutate.h"
#include "server/http/multipart.h"

enum { ROUNDS = 200000, CAPACITY = 512 };

static const char *const types[] = {"multipart/form-data; boundary=x", "multipart/form-data; boundary=\"a b\"; charset=utf-8",
                                    "multipart/form-data"};
static const char *const seeds[] = {"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"
                                    "Content-Type: image/png\r\n\r\nbytes\r\n--x\r\n\r\nmore\r\n--x--\r\n",
                                    "preamble\r\n--a b\r\ncontent-disposition:form-data;name=a;filename=\"b\\\"\\\\\"\r\n\r\n\r\n--a b--",
                                    "--x\r\n\r\n--x\r\n\r\n--x--", ""};

static int complete, refused;

static void check(const char *type, const char *bytes, size_t size) {
    multipart m;
    multipart_part p;
    error e = {0};
    char *body = exact_copy(bytes, size);
    const char *behind = body;
    bool ok = multipart_open(type, body, size, &m, &e);
    for (int parts = 0; ok && multipart_next(&m, &p); parts++) {
        assert_true(parts < MULTIPART_PARTS_MAX);
        assert_true(p.bytes >= behind && p.bytes <= body + size && p.size <= (size_t)(body + size - p.bytes));
        assert_true(strlen(p.name) < MULTIPART_NAME_BYTES && strlen(p.file_name) < MULTIPART_NAME_BYTES);
        behind = p.bytes + p.size;
    }
    if (ok && multipart_complete(&m, &e)) {
        complete++;
    } else {
        refused++;
        assert_true(e.code == ERROR_INVALID && e.text[0] != '\0' && utf8_valid(e.text, strlen(e.text), NULL));
    }
    free(body);
}

static void forms_do_no_harm(void **state) {
    (void)state;
    static const char letters[] = "--xx\r\n\r\n a b\";=\\:n";
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < ROUNDS; round++) {
        const char *seed = seeds[next_random(&random) % 4], *type = types[next_random(&random) % 16 == 0 ? 2 : next_random(&random) % 2];
        char body[CAPACITY], mutated[64];
        size_t size = strlen(seed);
        memcpy(body, seed, size);
        size = mutate_letters(letters, &random, body, size, CAPACITY);
        check(type, body, size);
        strcpy(mutated, type);
        if (round % 4 == 0) mutated[next_random(&random) % strlen(type)] = (char)(next_random(&random) % 127 + 1);
        check(mutated, body, size);
    }
    assert_true(complete > 1000 && refused > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(forms_do_no_harm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
