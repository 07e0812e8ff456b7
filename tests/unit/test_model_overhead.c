/* What a cached model takes of main memory beyond its mapped weights: at most 10 MB, also where it has Flux.1-dev's shape. Counted by the
 * kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>
#include <cmocka.h>

#include "base/log.h"
#include "engine/model_manager.h"
#include "flux_shape.h"
#include "model_copies.h"

enum { OVERHEAD_BYTES = 10 * 1000 * 1000 };

/* Resident bytes that are no file's. */
static long long anonymous_bytes(void) {
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long long kilobytes = -1;
    assert_non_null(f);
    while (kilobytes < 0 && fgets(line, sizeof line, f) != NULL) sscanf(line, "Anonymous: %lld", &kilobytes);
    fclose(f);
    assert_true(kilobytes >= 0);
    return 1024 * kilobytes;
}

static void a_model_of_full_size_costs_little(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its own memory would be counted */
#endif
    const char *folder = *state;
    error e = {0};
    device *d;
    model_manager *m;
    model_lease *l;
    const model_manager_options options = {.max_models = 4, .max_cache_bytes = (uint64_t)200 << 30};
    const model_key key = {"flux", folder, PRECISION_AUTO};
    if (!flux_shape_write(folder)) { /* a file system without holes or for small files */
        print_message("    sparse files of 24 GB cannot be made here\n");
        skip();
    }
    assert_true(device_open("cpu", 1, &d, &e));
    assert_true(model_manager_new(d, &options, &m, &e));
    malloc_trim(0);
    long long before = anonymous_bytes();
    if (!model_manager_load_model(m, &key, &l, &e)) fail_msg("%s", e.text);
    model_manager_release(m, l);
    engine_snapshot s = {0};
    model_manager_get_cache_stats(m, &s);
    long long grown = anonymous_bytes() - before;
    print_message("    %.1f GB of weights, mapped; private weights %.2f MB, in all %.2f MB of main memory\n",
                  (double)s.models[0].size_bytes / 1e9, (double)s.models[0].private_bytes / 1e6, (double)grown / 1e6);
    assert_true(s.models[0].mapped_bytes > 33 * (uint64_t)1000000000);
    assert_true(grown <= OVERHEAD_BYTES);
    model_manager_clear_cache(m, NULL);
    assert_true(anonymous_bytes() - before < OVERHEAD_BYTES / 10); /* and all comes back */
    model_manager_free(m);
    device_free(d);
}

int main(void) {
    char folder[COPY_PATH_BYTES];
    log_configure(LOG_ERROR, "test");
    copies_make_folder(folder);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(a_model_of_full_size_costs_little, folder)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    copies_remove_folder(folder);
    return failed;
}
