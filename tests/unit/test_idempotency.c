/* A key finds the task it made last; one whose task was forgotten can make another without leaving the old one in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server/idempotency.h"

static buffer body(const char *text) {
    buffer b = {0};
    buffer_append_text(&b, text);
    return b;
}

static void a_key_added_again_stands_for_the_new_task(void **state) {
    (void)state;
    idempotency *keys;
    error e;
    const char *found;
    buffer b = body("{}");
    assert_true(idempotency_new(&keys, &e));
    idempotency_add(keys, "key", idempotency_hash(&b), b.size, "first");
    idempotency_add(keys, "key", idempotency_hash(&b), b.size, "second");
    assert_true(idempotency_find(keys, "key", &b, &found, &e));
    assert_string_equal(found, "second");
    idempotency_free(keys);
    buffer_free(&b);
}

static void the_oldest_keys_make_room(void **state) {
    (void)state;
    idempotency *keys;
    error e;
    const char *found;
    char key[16];
    buffer b = body("{}");
    assert_true(idempotency_new(&keys, &e));
    for (int i = 0; i <= IDEMPOTENCY_KEYS; i++) {
        snprintf(key, sizeof key, "%d", i);
        idempotency_add(keys, key, idempotency_hash(&b), b.size, key);
    }
    assert_true(idempotency_find(keys, "0", &b, &found, &e));
    assert_null(found);
    assert_true(idempotency_find(keys, "1", &b, &found, &e));
    assert_string_equal(found, "1");
    idempotency_free(keys);
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_added_again_stands_for_the_new_task),
        cmocka_unit_test(the_oldest_keys_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
