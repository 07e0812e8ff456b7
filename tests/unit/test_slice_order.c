/* Urgent first, then the higher class, turns within a class, and none stands still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/slice_order.h"

enum { URGENT, HIGH, NORMAL, LOW };

/* Gives `slices` slices and writes who got them, a letter each. */
static const char *give(slice_claim *claims, int count, int slices) {
    static char order[256];
    memset(order, 0, sizeof order);
    for (int i = 0; i < slices; i++) {
        int next = slice_next(claims, sizeof *claims, count, (uint64_t)i + 1);
        order[i] = next < 0 ? '-' : (char)('a' + next);
        if (next >= 0) claims[next].since = (uint64_t)i + 1;
    }
    return order;
}

static void equals_take_turns(void **state) {
    (void)state;
    assert_string_equal(give((slice_claim[]){{NORMAL, false, 0}, {NORMAL, false, 0}, {NORMAL, false, 0}}, 3, 7), "abcabca");
}

static void the_higher_class_goes_first_but_not_for_ever(void **state) {
    (void)state;
    assert_string_equal(give((slice_claim[]){{NORMAL, false, 0}, {HIGH, false, 0}}, 2, SLICE_PATIENCE), "bbbbbbbbbbbb");
    slice_claim claims[] = {{LOW, false, 0}, {HIGH, false, 0}, {NORMAL, false, 0}};
    const char *order = give(claims, 3, 200);
    int gap[3] = {0}, longest[3] = {0};
    for (int i = 0; i < 200; i++)
        for (int k = 0; k < 3; k++) {
            gap[k] = order[i] == 'a' + k ? 0 : gap[k] + 1;
            if (gap[k] > longest[k]) longest[k] = gap[k];
        }
    assert_in_range(longest[0], SLICE_PATIENCE, SLICE_PATIENCE + 2);
    assert_in_range(longest[2], SLICE_PATIENCE, SLICE_PATIENCE + 2);
    assert_in_range(longest[1], 1, 2);
}

static void urgent_waits_for_nobody(void **state) {
    (void)state;
    slice_claim claims[] = {{LOW, false, 0}, {URGENT, false, 50}, {NORMAL, false, 0}};
    for (int i = 0; i < 100; i++) assert_int_equal(slice_next(claims, sizeof *claims, 3, (uint64_t)i + 51), 1);
    assert_string_equal(give((slice_claim[]){{URGENT, false, 0}, {URGENT, false, 0}, {HIGH, false, 0}}, 3, 40),
                        "abababababababababababababababababababab");
    assert_false(slice_may_join(&claims[1], &claims[0]));
    assert_true(slice_may_join(&claims[0], &claims[2]));
    assert_true(slice_may_join(&claims[1], &(slice_claim){URGENT, false, 0}));
}

static void suspended_ones_get_none(void **state) {
    (void)state;
    assert_string_equal(give((slice_claim[]){{URGENT, true, 0}, {LOW, false, 0}}, 2, 3), "bbb");
    assert_string_equal(give((slice_claim[]){{URGENT, true, 0}, {LOW, true, 0}}, 2, 2), "--");
    assert_string_equal(give(NULL, 0, 1), "-");
    assert_false(slice_may_join(&(slice_claim){LOW, false, 0}, &(slice_claim){LOW, true, 0}));
}

static void a_class_that_changes_counts_from_the_next_slice(void **state) {
    (void)state;
    slice_claim claims[] = {{NORMAL, false, 0}, {NORMAL, false, 0}};
    assert_string_equal(give(claims, 2, 4), "abab");
    claims[1].priority = URGENT;
    for (uint64_t slice = 5; slice < 45; slice++) {
        assert_int_equal(slice_next(claims, sizeof *claims, 2, slice), 1);
        claims[1].since = slice;
    }
    claims[1].priority = LOW; /* and the one that waited meanwhile goes before it at once */
    assert_int_equal(slice_next(claims, sizeof *claims, 2, 45), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_take_turns),
        cmocka_unit_test(the_higher_class_goes_first_but_not_for_ever),
        cmocka_unit_test(urgent_waits_for_nobody),
        cmocka_unit_test(suspended_ones_get_none),
        cmocka_unit_test(a_class_that_changes_counts_from_the_next_slice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
