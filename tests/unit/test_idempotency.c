/* A key finds the task it made last; one whose task was forgotten can make another without leaving the old one in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server/tasks/idempotency.h"

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
    idempotency_add(keys, NULL, "key", idempotency_hash(&b), b.size, "first");
    idempotency_add(keys, NULL, "key", idempotency_hash(&b), b.size, "second");
    assert_true(idempotency_find(keys, NULL, "key", &b, &found, &e));
    assert_string_equal(found, "second");
    idempotency_free(keys);
    buffer_free(&b);
}

static void each_owner_has_keys_of_its_own(void **state) {
    (void)state;
    idempotency *keys;
    error e;
    const char *found;
    buffer b = body("{}"), other = body("[]");
    assert_true(idempotency_new(&keys, &e));
    idempotency_add(keys, "anna", "key", idempotency_hash(&b), b.size, "first");
    assert_true(idempotency_find(keys, "ben", "key", &other, &found, &e)); /* nor is he told that it came with another body */
    assert_null(found);
    idempotency_add(keys, "ben", "key", idempotency_hash(&other), other.size, "second");
    idempotency_add(keys, NULL, "key", idempotency_hash(&b), b.size, "third");
    assert_true(idempotency_find(keys, "anna", "key", &b, &found, &e));
    assert_string_equal(found, "first");
    assert_true(idempotency_find(keys, "ben", "key", &other, &found, &e));
    assert_string_equal(found, "second");
    assert_true(idempotency_find(keys, NULL, "key", &b, &found, &e));
    assert_string_equal(found, "third");
    idempotency_free(keys);
    buffer_free(&b);
    buffer_free(&other);
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
        idempotency_add(keys, NULL, key, idempotency_hash(&b), b.size, key);
    }
    assert_true(idempotency_find(keys, NULL, "0", &b, &found, &e));
    assert_null(found);
    assert_true(idempotency_find(keys, NULL, "1", &b, &found, &e));
    assert_string_equal(found, "1");
    idempotency_free(keys);
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_added_again_stands_for_the_new_task),
        cmocka_unit_test(each_owner_has_keys_of_its_own),
        cmocka_unit_test(the_oldest_keys_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
