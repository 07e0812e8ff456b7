/* Starting an engine when memory runs out, and when descriptors do: an error, and nothing is left open or running. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/engine_client.h"
#include "../unit/descriptors.h"
#include "fault.h"

static bool start(void *context, error *e) {
    engine_events events = {0}; /* nothing is serviced, so nothing is called */
    engine_client *c = NULL;
    if (!engine_client_new(&(engine_options){"cpu", 1, 1, 1}, &events, &c, e)) {
        assert_null(c);
        return false;
    }
    engine_client_free(c);
    return true;
}

static void no_memory(void **state) {
    (void)state;
    assert_true(fault_fail_each(start, NULL) >= 3);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* One descriptor more in each round, until it is enough. */
static void no_descriptors(void **state) {
    (void)state;
    struct rlimit before, now;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int open_before = open_descriptors(), lowest = dup(0);
    close(lowest);
    bool ok = false;
    for (int more = 0; !ok; more++) {
        assert_true(more < 32);
        now = before;
        now.rlim_cur = (rlim_t)(lowest + more);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
        error e = {0};
        ok = start(NULL, &e);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(ok, e.code == ERROR_NONE);
        if (!ok) assert_int_equal(e.code, ERROR_IO);
        assert_int_equal(open_descriptors(), open_before);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_true(ok || more < 30);
        if (more == 0) assert_false(ok);
    }
}

int main(void) {
    const char *fake = getenv("IMAGINED_FAKE_ENGINE");
    if (fake == NULL) return 77; /* run by meson */
    setenv("IMAGINED_ENGINE_EXECUTABLE", fake, 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_memory), cmocka_unit_test(no_descriptors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
