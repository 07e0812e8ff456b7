/* The terminal's progress line: steps, seconds a step, time left; never wider than the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cli/progress_bar.h"

static void it_tells_steps_pace_and_time_left(void **state) {
    (void)state;
    char line[256];
    progress_bar_format(line, sizeof line, &(imagined_progress){"denoise", 5, 20}, 10.0, 100);
    assert_non_null(strstr(line, "5/20"));
    assert_non_null(strstr(line, "2.00 s/it"));
    assert_non_null(strstr(line, "0:30 left"));
    progress_bar_format(line, sizeof line, &(imagined_progress){"load", 0, 20}, 0, 100);
    assert_non_null(strstr(line, "loading the model"));
    assert_null(strstr(line, "s/it"));
}

static void a_narrow_terminal_gets_a_short_line(void **state) {
    (void)state;
    char line[256];
    progress_bar_format(line, sizeof line, &(imagined_progress){"denoise", 5, 20}, 10.0, 40);
    assert_true(strlen(line) < 40);
    assert_non_null(strstr(line, "5/20"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_steps_pace_and_time_left),
        cmocka_unit_test(a_narrow_terminal_gets_a_short_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
