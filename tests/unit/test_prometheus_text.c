/* Prometheus' text format: what is written for names, labels of any text, numbers and histograms, to the byte. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/requests/prometheus_text.h"

static void expect(buffer *b, const char *text) {
    assert_true(buffer_ok(b));
    assert_string_equal(buffer_text(b), text);
    buffer_free(b);
}

static void families_and_samples(void **state) {
    (void)state;
    buffer b = {0};
    prometheus_text_family(&b, "x_total", "counter", "With \\, \"quotes\"\nand lines.");
    prometheus_text_sample(&b, "x_total", (prometheus_labels){0}, 0);
    prometheus_text_sample(&b, "x_total", (prometheus_labels){{{"a", "1"}, {"b", ""}, {"c", "3"}}}, UINT64_MAX);
    expect(&b, "# HELP x_total With \\\\, \"quotes\"\\nand lines.\n# TYPE x_total counter\nx_total 0\n"
               "x_total{a=\"1\",b=\"\",c=\"3\"} 18446744073709551615\n");
}

static void labels_are_escaped(void **state) {
    (void)state;
    buffer b = {0};
    prometheus_text_sample(&b, "x", (prometheus_labels){{{"a", "\\ \" \n } \xC3\xA4 \xFF\xC3"}}}, 1);
    expect(&b, "x{a=\"\\\\ \\\" \\n } \xC3\xA4 \xEF\xBF\xBD\xEF\xBF\xBD\"} 1\n");
}

static void numbers(void **state) {
    (void)state;
    const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"}, {0.003, "0.003"}, {30000, "30000"}, {0.1 + 0.2, "0.30000000000000004"}, {1e300, "1e+300"}, {-2.5, "-2.5"},
                 {INFINITY, "+Inf"}, {-INFINITY, "-Inf"}, {NAN, "NaN"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer b = {0};
        prometheus_text_real(&b, cases[i].value);
        expect(&b, cases[i].text);
    }
}

/* Values at a bound are in its bucket; those beyond the last only in +Inf. */
static void histograms(void **state) {
    (void)state;
    histogram h = {0};
    histogram_add(&h, 0.001);
    histogram_add(&h, 0.5);
    histogram_add(&h, 40000);
    buffer b = {0};
    prometheus_text_histogram(&b, "h", (prometheus_labels){{{"p", "low"}}}, &h);
    assert_non_null(strstr(buffer_text(&b), "h_bucket{p=\"low\",le=\"0.001\"} 1\nh_bucket{p=\"low\",le=\"0.003\"} 1\n"));
    assert_non_null(strstr(buffer_text(&b), "h_bucket{p=\"low\",le=\"0.3\"} 1\nh_bucket{p=\"low\",le=\"1\"} 2\n"));
    assert_non_null(strstr(buffer_text(&b), "h_bucket{p=\"low\",le=\"30000\"} 2\nh_bucket{p=\"low\",le=\"+Inf\"} 3\n"
                                            "h_sum{p=\"low\"} 40000.501\nh_count{p=\"low\"} 3\n"));
    buffer_clear(&b);
    prometheus_text_histogram(&b, "h", (prometheus_labels){0}, &h);
    assert_int_equal(strncmp(buffer_text(&b), "h_bucket{le=\"0.001\"} 1\n", 23), 0);
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_and_samples),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(numbers),
        cmocka_unit_test(histograms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
