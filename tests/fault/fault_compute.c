/* Weights, devices, graphs and the Flux transformer when memory runs out at any point: said as such, and nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../golden/random_flux.h"
#include "../unit/safetensors_file.h"
#include "compute/device.h"
#include "compute/graph.h"
#include "compute/ops.h"
#include "engine/vram_manager.h"
#include "fault.h"
#include "models/flux_transformer.h"
#include "weights/tensor_store.h"

static const char *folder(char path[1024], const char *name) {
    snprintf(path, 1024, "%s/flux_%s", getenv("IMAGINED_TEST_DATA"), name);
    return path;
}

static bool open_store(void *context, error *e) {
    static const char *const stems[] = {"diffusion_pytorch_model", NULL};
    char path[1024];
    tensor_store *s;
    if (!tensor_store_open(folder(path, context), stems, &s, e)) return false;
    assert_true(tensor_store_count(s) > 10);
    tensor_store_free(s);
    return true;
}

static void a_store_opens_or_leaves_nothing(void **state) {
    (void)state;
    assert_true(fault_fail_each(open_store, (char[]){"guided"}) >= 5);
    assert_true(fault_fail_each(open_store, (char[]){"shards"}) >= 10);
}

static bool open_device(void *context, error *e) {
    (void)context;
    device *d;
    if (!device_open("cpu", 2, &d, e)) return false;
    device_free(d);
    return true;
}

static void a_device_opens_or_leaves_nothing(void **state) {
    (void)state;
    assert_true(fault_fail_each(open_device, NULL) >= 2);
}

typedef struct picture {
    device *d;
    precision precision;
} picture;

static bool denoise(void *context, error *e) {
    const picture *p = context;
    char path[1024];
    flux_transformer *t = NULL;
    flux_step *s = NULL;
    static const float hidden[16], pooled[12], latents[12];
    float velocity[12];
    bool ok = flux_transformer_load(p->d, folder(path, "plain"), &LOAD_OPTIONS(p->precision), &t, e) &&
              flux_step_new(t, &(flux_step_shape){1, 1, 1, 1}, &s, e);
    if (ok) {
        flux_step_condition(s, hidden, pooled);
        ok = flux_step_run(s, latents, (float[]){0.5f}, NULL, velocity, e);
    }
    flux_step_free(s);
    flux_transformer_free(t);
    return ok;
}

static void a_transformer_runs_or_leaves_nothing(void **state) {
    (void)state;
    picture p = {.precision = PRECISION_F32};
    assert_true(device_open("cpu", 2, &p.d, NULL));
    assert_true(fault_fail_each(denoise, &p) >= 20);
    p.precision = PRECISION_F16;
    assert_true(fault_fail_each(denoise, &p) >= 20);
    assert_int_equal(ledger_total(device_ledger(p.d)), 0); /* every claim was given back */
    device_free(p.d);
}

static bool manage(void *context, error *e) {
    (void)context;
    vram_manager *m;
    if (!vram_manager_new(&(vram_callbacks){0}, &m, e)) return false;
    vram_manager_free(m);
    return true;
}

static void a_vram_manager_is_made_or_leaves_nothing(void **state) {
    (void)state;
    assert_true(fault_fail_each(manage, NULL) >= 1);
}

typedef struct stream {
    device *d;
    char folder[64];
    size_t budget;
} stream;

static bool stream_through(void *context, error *e) {
    const stream *s = context;
    const load_options o = {.precision = PRECISION_AUTO, .resident_bytes = s->budget};
    flux_transformer *t = NULL;
    flux_step *step = NULL;
    const flux_step_shape shape = {1, 1, 1, 1};
    flux_needs needs;
    bool ok = flux_transformer_measure(s->d, s->folder, &o, &shape, &needs, e) && flux_transformer_load(s->d, s->folder, &o, &t, e) &&
              flux_step_new(t, &shape, &step, e);
    if (ok) assert_true(needs.least_weights == s->budget && flux_transformer_residency(t).streamed_groups > 0);
    flux_step_free(step);
    flux_transformer_free(t);
    return ok;
}

/* On Vulkan where there is one: the staging slots, the pinned copies and the ledger's claims. */
static void streamed_weights_fail_cleanly(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "vulkan"};
    const random_flux model = {.heads = 1, .doubles = 0, .singles = 3};
    stream s = {0};
    make_folder(s.folder);
    random_flux_write(s.folder, &model);
    for (int i = 0; i < 2; i++) {
        flux_needs needs;
        if (!device_open(devices[i], 1, &s.d, NULL)) continue;
        assert_true(flux_transformer_measure(s.d, s.folder, &LOAD_OPTIONS(PRECISION_AUTO), NULL, &needs, NULL));
        s.budget = needs.least_weights;
        size_t count = fault_fail_each(stream_through, &s);
        print_message("    %s: %zu allocations\n", devices[i], count);
        assert_true(count >= 40);
        assert_int_equal(ledger_total(device_ledger(s.d)) + device_ledger(s.d)->claimed[DEVICE_PINNED], 0);
        device_free(s.d);
    }
    remove_file(s.folder, "config.json");
    remove_file(s.folder, "diffusion_pytorch_model.safetensors");
    rmdir(s.folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_opens_or_leaves_nothing),
        cmocka_unit_test(a_device_opens_or_leaves_nothing),
        cmocka_unit_test(a_transformer_runs_or_leaves_nothing),
        cmocka_unit_test(a_vram_manager_is_made_or_leaves_nothing),
        cmocka_unit_test(streamed_weights_fail_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
