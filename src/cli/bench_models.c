#include "cli/bench_models.h"

#include <limits.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/median.h"
#include "cli/paths.h"
#include "engine/model_manager.h"
#include "models/flux_denoise.h"

enum { LEASES = 1001, TASKS = 31, SIDE = 64, TOKENS = 32 };

/* A task up to the end of its first step. */
static bool first_step(model_manager *m, const model_key *key, double *seconds, error *e) {
    model_lease *l = NULL;
    flux_denoise *d = NULL;
    conditioning c = {0};
    bool more;
    double start = clock_seconds();
    bool ok = model_manager_load_model(m, key, &l, e) && flux_pipeline_encode(model_lease_pipeline(l), "a fox", TOKENS, &c, e);
    const flux_denoise_request r = {.width = SIDE, .height = SIDE, .steps = 1, .guidance_scale = 1, .positive = &c, .true_cfg_scale = 1};
    ok = ok && flux_denoise_new(model_lease_pipeline(l), &r, &d, e) && flux_denoise_step(d, &more, e);
    *seconds = clock_seconds() - start;
    flux_denoise_free(d);
    conditioning_free(&c);
    model_manager_release(m, l);
    return ok;
}

static bool measure(model_manager *m, const model_key keys[2], bench_switching *out, error *e) {
    double seconds[LEASES], warm;
    for (int i = 0; i < 2; i++)
        if (!first_step(m, &keys[i], &warm, e)) return false;
    for (int i = 0; i < LEASES; i++) {
        model_lease *l;
        double start = clock_seconds();
        if (!model_manager_load_model(m, &keys[i % 2], &l, e)) return false;
        seconds[i] = clock_seconds() - start;
        model_manager_release(m, l);
    }
    out->lease = median(seconds, LEASES);
    for (int i = 0; i < TASKS; i++) { /* beside each other, as a machine has noisy moments */
        double after_other, after_same;
        if (!first_step(m, &keys[1], &warm, e) || !first_step(m, &keys[0], &after_other, e) || !first_step(m, &keys[0], &after_same, e))
            return false;
        seconds[i] = after_other - after_same;
    }
    out->switching = median(seconds, TASKS);
    return true;
}

bool bench_switch_models(bench_switching *out, error *e) {
    char folder[PATH_MAX];
    device *d = NULL;
    model_manager *m = NULL;
    const model_manager_options options = {.max_models = 2, .max_cache_bytes = MODEL_CACHE_BYTES};
    paths_demo_folder(folder, sizeof folder);
    const model_key keys[2] = {{"demo", folder, PRECISION_AUTO}, {"demo", folder, PRECISION_F16}};
    log_configure(LOG_WARNING, "bench");
    bool ok = device_open("cpu", 0, &d, e) && model_manager_new(d, &options, &m, e) && measure(m, keys, out, e);
    model_manager_free(m);
    device_free(d);
    return ok;
}
