/* What the engine keeps beside its models, when memory runs out at any point: the cache of prompts, the graphs of steps, what a picture is
 * measured and planned to take, models loaded by command. Each allocation in turn: an error, nothing left behind, no claim of the device
 * left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "engine/input_picture.h"
#include "engine/load_commands.h"
#include "engine/task_plan.h"
#include "fault.h"
#include "image/png.h"
#include "models/flux_picture.h"
#include "models/flux_steps.h"

typedef struct fixture {
    engine_room room;
    model_lease *lease;
    size_t claimed; /* by the loaded model, outside of the operations */
    uint64_t calls;
    bool picture; /* shapes begin from one */
    int file;
    char folder[512];
} fixture;

static void nothing_is_claimed(const fixture *f) { assert_int_equal(ledger_total(device_ledger(f->room.device)), f->claimed); }

/* ── prompts ── */

static bool make_cache(void *context, error *e) {
    (void)context;
    prompt_cache *c = NULL;
    bool ok = prompt_cache_new(1 << 20, &c, e);
    prompt_cache_free(c);
    return ok;
}

/* What finds no memory is not kept or not found, and what is there stays whole. */
static bool use_cache(void *context, error *e) {
    (void)context;
    float pooled[4] = {1, 2, 3, 4}, hidden[12] = {5, 6};
    const conditioning encoded = {.pooled = pooled, .hidden = hidden, .tokens = 3, .pooled_count = 4, .hidden_count = 12};
    const prompt_key keys[] = {{"/m", "auto", "a fox", 7, 3}, {"/m", "auto", "a cat", 7, 3}, {"/m", "auto", "a fox", 7, 3}};
    prompt_cache *c = NULL;
    bool ok = prompt_cache_new(1 << 20, &c, e);
    for (size_t i = 0; ok && i < 3; i++) prompt_cache_keep(c, &keys[i], &encoded);
    for (size_t i = 0; ok && i < 3; i++) {
        conditioning found = {0};
        if (!prompt_cache_find(c, &keys[i], &found)) continue;
        assert_memory_equal(found.pooled, pooled, sizeof pooled);
        assert_memory_equal(found.hidden, hidden, sizeof hidden);
        conditioning_free(&found);
    }
    if (ok) {
        prompt_cache_figures now = prompt_cache_get_figures(c);
        assert_int_equal(now.hits + now.misses, 3);
        assert_true(now.entries <= 2 && (now.bytes > 0) == (now.entries > 0));
        assert_int_equal(prompt_cache_clear(c), now.bytes);
        assert_int_equal(prompt_cache_get_figures(c).bytes, 0);
    }
    prompt_cache_free(c);
    return ok;
}

static void prompts_are_lost_at_most(void **state) {
    assert_int_equal(fault_fail_each(make_cache, *state), 1);
    assert_true(fault_survive_each(use_cache, *state) >= 10);
}

/* ── steps ── */

static bool take_steps(void *context, error *e) {
    fixture *f = context;
    flux_transformer *t = model_part_flux_transformer(flux_pipeline_parts(model_lease_pipeline(f->lease))->parts[PART_FLUX_TRANSFORMER]);
    size_t channels = (size_t)flux_transformer_config(t)->in_channels;
    flux_steps steps = {0};
    flux_step_slot *slot = NULL;
    bool ok = true;
    for (int i = 0; ok && i < FLUX_STEPS_KEPT + 1; i++) { /* the last takes the place of the first */
        const flux_step_shape shape = {2, 2 + i, 4, 1 + i % 2, 0};
        ok = flux_steps_take(&steps, t, &shape, (size_t)(2 * (2 + i)) * channels, &slot, e);
    }
    flux_steps_release(&steps);
    assert_int_equal(flux_steps_bytes(&steps), 0);
    nothing_is_claimed(f);
    return ok;
}

static void graphs_of_steps_fail_cleanly(void **state) {
    size_t count = fault_fail_each(take_steps, *state);
    print_message("    %zu allocations\n", count);
    assert_true(count > 5 * FLUX_STEPS_KEPT);
}

/* ── measures and plans ── */

/* Another text length each time, of more than are remembered, so that each is measured from nothing. */
static flux_picture_shape next_shape(fixture *f) { return (flux_picture_shape){192, 48, 4 + (int)(f->calls++ % 32), true, f->picture}; }

static bool measure(void *context, error *e) {
    fixture *f = context;
    const flux_picture_shape shape = next_shape(f);
    flux_picture_needs needs;
    bool ok = flux_pipeline_measure(model_lease_pipeline(f->lease), &shape, &needs, e);
    if (ok) assert_true(needs.compute.encode > 0 && needs.compute.step > 0 && needs.compute.decode > 0);
    nothing_is_claimed(f);
    return ok;
}

static void measuring_fails_cleanly(void **state) {
    size_t count = fault_fail_each(measure, *state);
    print_message("    %zu allocations\n", count);
    assert_true(count > 5);
}

/* What a failed measurement had found is used by the next, which finds the rest. */
static bool measure_again(void *context, error *e) {
    fixture *f = context;
    const flux_picture_shape shape = next_shape(f);
    flux_pipeline *p = model_lease_pipeline(f->lease);
    flux_picture_needs first, second;
    bool ok = flux_pipeline_measure(p, &shape, &first, e);
    error again = {0};
    if (!flux_pipeline_measure(p, &shape, &second, &again)) fail_msg("%s", again.text); /* only one allocation fails */
    assert_true(second.compute.encode > 0 && second.compute.step > 0 && second.compute.decode > 0);
    if (ok)
        assert_true(first.compute.encode == second.compute.encode && first.compute.step == second.compute.step &&
                    first.compute.decode == second.compute.decode);
    return ok;
}

static void a_failed_measurement_is_made_good(void **state) { assert_true(fault_fail_each(measure_again, *state) > 5); }

static bool plan(void *context, error *e) {
    fixture *f = context;
    const flux_picture_shape shape = next_shape(f);
    task_plan p;
    engine_plan told;
    bool ok = task_plan_make(&f->room, f->lease, &shape, 1000, 0, &p, e);
    if (ok) {
        task_plan_apply(&f->room, f->lease, &p);
        task_plan_tell(&p, "", &told);
        assert_int_equal(told.step_count, 0); /* all fits */
        assert_true(told.peak_bytes > 1000);
    }
    nothing_is_claimed(f);
    return ok;
}

static void planning_fails_cleanly(void **state) {
    size_t count = fault_fail_each(plan, *state);
    print_message("    %zu allocations\n", count);
    assert_true(count > 5);
}

/* ── pictures to begin from ── */

static void measuring_pictures_fails_cleanly(void **state) {
    fixture *f = *state;
    flux_picture_needs needs;
    error e = {0};
    f->picture = true;
    assert_true(flux_pipeline_ensure(model_lease_pipeline(f->lease), FLUX_IMAGE_ENCODER, &e));
    f->claimed = ledger_total(device_ledger(f->room.device));
    const flux_picture_shape shape = next_shape(f);
    assert_true(flux_pipeline_measure(model_lease_pipeline(f->lease), &shape, &needs, &e));
    assert_true(needs.compute.picture > 0 && needs.compute.picture_tile_count == 1);
    assert_true(fault_fail_each(measure, f) > 5);
    assert_true(fault_fail_each(plan, f) > 5);
    f->picture = false;
}

/* From the file to latents, in tiles. */
static bool encode_picture(void *context, error *e) {
    fixture *f = context;
    flux_pipeline *p = model_lease_pipeline(f->lease);
    flux_picture *picture = NULL;
    uint8_t *rgb = NULL;
    bool more = true, ok = input_picture_read(f->file, 192, 48, &rgb, e) && flux_picture_new(p, rgb, 192, 48, 16, &picture, e);
    free(rgb);
    while (ok && more) ok = flux_picture_encode_next(picture, &more, e);
    if (ok) assert_non_null(flux_picture_latents(picture));
    flux_picture_free(picture);
    flux_pipeline_release_compute(p);
    nothing_is_claimed(f);
    return ok;
}

static bool read_mask(void *context, error *e) {
    float *mask;
    bool ok = input_mask_read(((const fixture *)context)->file, false, 192, 48, 8, &mask, e);
    free(mask);
    return ok;
}

static void reading_and_encoding_fail_cleanly(void **state) {
    fixture *f = *state;
    static const uint8_t pixels[40 * 20 * 3];
    buffer file = {0};
    assert_true(png_encode(pixels, 40, 20, NULL, 0, &file, NULL));
    f->file = memfd_create("picture", MFD_CLOEXEC);
    assert_int_equal(write(f->file, file.data, file.size), (ssize_t)file.size);
    buffer_free(&file);
    assert_true(fault_survive_each(encode_picture, f) > 10); /* what finds no memory is tried again with what compute buffers took */
    assert_true(fault_fail_each(read_mask, f) > 5);
    close(f->file);
}

/* ── commands ── */

static bool load_by_command(fixture *f, engine_message_kind kind, error *e) {
    const model_manager_options options = {.max_models = 1, .max_cache_bytes = MODEL_CACHE_BYTES};
    static engine_message m;
    char id[ENGINE_ID_BYTES] = "";
    engine_answer a = {0};
    load_commands c = {0};
    if (!model_manager_new(f->room.device, &options, &c.models, e)) return false;
    m = (engine_message){.kind = kind, .id = "1", .model = {.model = "demo", .precision = "auto"}};
    snprintf(m.model.folder, sizeof m.model.folder, "%s", f->folder);
    assert_true(load_commands_add(&c, &m, e));
    while (!load_commands_advance(&c, id, &a)) continue;
    assert_string_equal(id, "1");
    assert_int_equal(c.count, 0);
    if (!a.ok && e != NULL) *e = a.fault;
    if (!a.ok) assert_int_equal(model_manager_count(c.models), 0); /* a load that failed keeps no place */
    model_manager_free(c.models);
    nothing_is_claimed(f);
    return a.ok;
}

static bool load_now(void *context, error *e) { return load_by_command(context, MESSAGE_LOAD, e); }
static bool load_ahead(void *context, error *e) { return load_by_command(context, MESSAGE_PRELOAD, e); }

static void commands_fail_cleanly(void **state) {
    size_t count = fault_fail_each(load_now, *state);
    print_message("    %zu allocations\n", count);
    assert_true(count > 50);
    assert_true(fault_fail_each(load_ahead, *state) >= count);
}

/* One that waits behind another is dropped with it. */
static bool drop_commands(void *context, error *e) {
    fixture *f = context;
    const model_manager_options options = {.max_models = 2, .max_cache_bytes = MODEL_CACHE_BYTES};
    static engine_message m;
    char id[ENGINE_ID_BYTES] = "";
    engine_answer a = {0};
    load_commands c = {0};
    if (!model_manager_new(f->room.device, &options, &c.models, e)) return false;
    for (int i = 0; i < 2; i++) {
        m = (engine_message){.kind = MESSAGE_LOAD, .id = {(char)('1' + i)}, .model = {.model = "demo", .precision = "auto"}};
        snprintf(m.model.folder, sizeof m.model.folder, "%s", f->folder);
        assert_true(load_commands_add(&c, &m, e));
    }
    bool ended = load_commands_advance(&c, id, &a);
    if (ended && e != NULL) *e = a.fault;
    load_commands_drop(&c);
    assert_int_equal(c.count, 0);
    model_manager_free(c.models);
    nothing_is_claimed(f);
    return !ended;
}

static void dropped_commands_leave_nothing(void **state) { assert_true(fault_fail_each(drop_commands, *state) > 5); }

/* ── ── */

static bool set_up(fixture *f, error *e) {
    const engine_room_options room = {.device = "cpu", .threads = 1, .prompt_cache_bytes = 1 << 20,
                                      .models = {.max_models = 2, .max_cache_bytes = MODEL_CACHE_BYTES}};
    const model_key key = {"demo", f->folder, PRECISION_AUTO};
    if (!engine_room_open(&f->room, &room, e) || !model_manager_load_model(f->room.models, &key, &f->lease, e)) return false;
    flux_pipeline_release_compute(model_lease_pipeline(f->lease));
    f->claimed = ledger_total(device_ledger(f->room.device));
    return true;
}

int main(void) {
    fixture f = {0};
    error e = {0};
    const char *source = getenv("IMAGINED_SOURCE");
    log_configure(LOG_ERROR, "test");
    if (source != NULL) snprintf(f.folder, sizeof f.folder, "%s/demo/model", source);
    if (source == NULL || !set_up(&f, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(prompts_are_lost_at_most, &f),
        cmocka_unit_test_prestate(graphs_of_steps_fail_cleanly, &f),
        cmocka_unit_test_prestate(measuring_fails_cleanly, &f),
        cmocka_unit_test_prestate(a_failed_measurement_is_made_good, &f),
        cmocka_unit_test_prestate(planning_fails_cleanly, &f),
        cmocka_unit_test_prestate(measuring_pictures_fails_cleanly, &f),
        cmocka_unit_test_prestate(reading_and_encoding_fail_cleanly, &f),
        cmocka_unit_test_prestate(commands_fail_cleanly, &f),
        cmocka_unit_test_prestate(dropped_commands_leave_nothing, &f),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    model_manager_release(f.room.models, f.lease);
    engine_room_close(&f.room);
    return failed;
}
