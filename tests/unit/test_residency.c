/* Which groups of weights stay on a device: every budget of a few models against a search that tries all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "compute/residency.h"

static size_t need(const size_t *bytes, int groups, int resident) {
    size_t sum = 0, most = 0;
    for (int i = 0; i <= resident; i++) sum += bytes[i];
    for (int i = resident + 1; i < groups; i++) most = bytes[i] > most ? bytes[i] : most;
    return sum + 2 * most;
}

static void as_many_stay_as_fit(void **state) {
    (void)state;
    static const size_t models[][6] = {{5, 10, 10, 10, 10, 10}, {5, 20, 20, 7, 7, 7}, {0, 1, 9, 1, 9, 1}, {9, 0, 0, 3, 3, 3}};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int groups = 1; groups <= 6; groups++)
            for (size_t budget = 0; budget < 80; budget++) {
                int best = -1;
                for (int r = 0; r < groups; r++)
                    if (need(models[m], groups, r) <= budget) best = r;
                residency_plan p;
                error e = {0};
                assert_int_equal(residency_plan_make(models[m], groups, budget, &p, &e), best >= 0);
                if (best < 0) {
                    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
                    continue;
                }
                assert_int_equal(p.resident, best);
                assert_int_equal(p.streamed, groups - 1 - best);
                assert_int_equal(p.resident_bytes + 2 * p.slot_bytes, need(models[m], groups, best));
                assert_true(p.streamed == 0 || p.streamed > STAGING_SLOTS || p.slot_bytes > 0);
            }
}

static void the_least_budget_is_the_least_that_is_accepted(void **state) {
    (void)state;
    static const size_t models[][5] = {{5, 10, 10, 10, 10}, {5, 20, 7, 1, 1}, {5, 20, 1, 1, 1}, {0, 1, 0, 0, 0}, {9, 0, 0, 0, 0}};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int groups = 1; groups <= 5; groups++) {
            size_t all, least;
            residency_plan p;
            assert_true(residency_bounds(models[m], groups, &all, &least, NULL));
            assert_true(residency_plan_make(models[m], groups, all, &p, NULL));
            assert_int_equal(p.streamed, 0);
            assert_true(residency_plan_make(models[m], groups, least, &p, NULL));
            assert_true(least == 0 || !residency_plan_make(models[m], groups, least - 1, &p, NULL));
        }
}

static void what_is_missing_is_told(void **state) {
    (void)state;
    const size_t mib = 1 << 20, bytes[] = {100 * mib, 50 * mib, 60 * mib, 40 * mib};
    residency_plan p;
    error e = {0};
    assert_false(residency_plan_make(bytes, 4, 190 * mib, &p, &e));
    assert_non_null(strstr(e.text, "at least 220 MiB"));
    assert_non_null(strstr(e.text, "30 MiB are missing"));
}

static void sizes_beyond_all_memory_are_refused(void **state) {
    (void)state;
    const size_t bytes[] = {SIZE_MAX - 1, 2, 1};
    residency_plan p;
    error e = {0};
    assert_false(residency_plan_make(bytes, 3, SIZE_MAX, &p, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_many_stay_as_fit),
                                       cmocka_unit_test(the_least_budget_is_the_least_that_is_accepted),
                                       cmocka_unit_test(what_is_missing_is_told), cmocka_unit_test(sizes_beyond_all_memory_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
