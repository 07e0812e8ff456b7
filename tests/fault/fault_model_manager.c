/* Loading models into the cache, sharing parts and dropping them, when memory runs out at any point: each allocation in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"
#include "engine/model_manager.h"
#include "fault.h"

typedef struct fixture {
    device *device;
    char folder[512];
} fixture;

/* One precision loads, another finds no room for both; parts go and come again. */
static bool fill_the_cache(void *context, error *e) {
    const fixture *f = context;
    const model_manager_options options = {.max_models = 1, .max_cache_bytes = MODEL_CACHE_BYTES};
    model_key key = {"demo", f->folder, PRECISION_AUTO};
    model_manager *m = NULL;
    model_lease *l = NULL;
    bool ok = model_manager_new(f->device, &options, &m, e) && model_manager_load_model(m, &key, &l, e);
    if (ok) {
        flux_pipeline *p = model_lease_pipeline(l);
        flux_pipeline_drop(p, FLUX_ALL_PARTS);
        ok = flux_pipeline_ensure(p, FLUX_ENCODERS, e);
        model_manager_release(m, l);
    }
    key.precision = PRECISION_F32;
    ok = ok && model_manager_preload_model(m, &key, LOAD_AHEAD, e);
    model_manager_free(m);
    return ok;
}

static void the_cache_fails_cleanly(void **state) {
    size_t count = fault_fail_each(fill_the_cache, *state);
    print_message("    %zu allocations\n", count);
    assert_true(count > 100);
}

/* What a load left undone is done by the next. */
static bool load_again(void *context, error *e) {
    const fixture *f = context;
    const model_manager_options options = {.max_models = 2, .max_cache_bytes = MODEL_CACHE_BYTES};
    const model_key key = {"demo", f->folder, PRECISION_AUTO};
    model_manager *m = NULL;
    model_lease *l = NULL;
    bool ok = model_manager_new(f->device, &options, &m, e) && model_manager_lease(m, &key, LOAD_FOR_TASK, &l, e);
    for (bool more = ok; more;) {
        if (model_lease_advance(l, &more, e)) continue;
        ok = false;
        for (error again = {0}; more;)
            if (!model_lease_advance(l, &more, &again)) fail_msg("%s", again.text); /* only one allocation fails */
    }
    if (m != NULL) model_manager_release(m, l);
    model_manager_free(m);
    return ok;
}

static void a_failed_slice_can_be_run_again(void **state) { assert_true(fault_fail_each(load_again, *state) > 100); }

int main(void) {
    fixture f = {0};
    error e = {0};
    const char *source = getenv("IMAGINED_SOURCE");
    log_configure(LOG_ERROR, "test");
    if (source == NULL || !device_open("cpu", 1, &f.device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    snprintf(f.folder, sizeof f.folder, "%s/demo/model", source);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(the_cache_fails_cleanly, &f),
                                       cmocka_unit_test_prestate(a_failed_slice_can_be_run_again, &f)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_free(f.device);
    return failed;
}
