/* Generation when memory runs out in spite of the plan, with the demo model on the CPU: the limit is lowered between two slices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/generation.h"
#include "golden.h"

enum { SIDE = 192, MIB = 1 << 20 };

static engine_room room;
static engine_request request;

static generation *begin(const char *prompt, int side) {
    generation *g;
    error e = {0};
    request.width = request.height = side;
    snprintf(request.prompt, sizeof request.prompt, "%s", prompt);
    if (!generation_new(&room, &request, &(engine_files){0}, &g, &e)) fail_msg("%s", e.text);
    return g;
}

/* Slices until the phase comes; 0 images may be finished on the way. */
static void advance_to(generation *g, engine_phase phase) {
    generated_image image;
    error e = {0};
    while (generation_get_state(g).phase != phase)
        if (!generation_advance(g, &image, &e)) fail_msg("%s", e.text);
}

/* Runs to the end; false with *e where it fails. The picture into rgb. */
static bool finish(generation *g, uint8_t *rgb, int *slices, error *e) {
    generated_image image;
    *slices = 0;
    while (!generation_get_state(g).finished) {
        if (!generation_advance(g, &image, e)) return false;
        if (image.rgb != NULL && rgb != NULL) memcpy(rgb, image.rgb, (size_t)image.width * (size_t)image.height * 3);
        ++*slices;
    }
    return true;
}

static bool tells(generation *g, const char *step) {
    const engine_plan *plan = generation_new_plan(g);
    for (int i = 0; plan != NULL && i < plan->step_count; i++)
        if (strstr(plan->steps[i], step) != NULL) return true;
    return false;
}

static double mean_error(const uint8_t *a, const uint8_t *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)(a[i] - b[i]) * (a[i] - b[i]);
    return sum / (double)count;
}

static size_t claimed(void) { return ledger_total(device_ledger(room.device)); }

static void a_finished_denoise_is_decoded_in_what_memory_there_is(void **state) {
    (void)state;
    static uint8_t whole[SIDE * SIDE * 3], tiled[SIDE * SIDE * 3];
    error e = {0};
    int slices;
    generation *g = begin("a fox on a blue background", SIDE);
    advance_to(g, PHASE_DENOISE);
    assert_null(generation_new_plan(g)); /* all fits: nothing to tell */
    if (!finish(g, whole, &slices, &e)) fail_msg("%s", e.text);
    generation_free(g);

    g = begin("a fox on a blue background", SIDE);
    advance_to(g, PHASE_DECODE);
    engine_room_cleanup(&room, &(engine_answer){0});
    device_set_limit(room.device, claimed() + 12 * MIB);
    if (!finish(g, tiled, &slices, &e)) fail_msg("%s", e.text);
    assert_true(tells(g, "decode in tiles"));
    assert_true(slices > 4); /* a tile each */
    assert_true(device_ledger(room.device)->claimed[DEVICE_COMPUTE] <= 12 * MIB);
    generation_free(g);
    device_set_limit(room.device, 0);
    assert_true(mean_error(whole, tiled, sizeof whole) < 6.5); /* 40 dB */
}

static void without_memory_for_a_tile_it_fails_and_the_next_task_runs(void **state) {
    (void)state;
    error e = {0};
    int slices;
    generation *g = begin("a fox", SIDE);
    advance_to(g, PHASE_DECODE);
    engine_room_cleanup(&room, &(engine_answer){0});
    device_set_limit(room.device, claimed() + MIB / 2);
    assert_false(finish(g, NULL, &slices, &e));
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    generation_free(g);
    device_set_limit(room.device, 0);
    g = begin("a fox", SIDE);
    if (!finish(g, NULL, &slices, &e)) fail_msg("%s", e.text);
    generation_free(g);
}

static void a_step_without_memory_is_tried_again_once(void **state) {
    (void)state;
    error e = {0};
    generated_image image;
    generation *g = begin("a fox", SIDE);
    advance_to(g, PHASE_DENOISE);
    device_set_limit(room.device, claimed() + 64 * 1024);
    int tries = 0;
    while (generation_advance(g, &image, &e)) assert_in_range(++tries, 1, 1);
    assert_true(e.code == ERROR_OUT_OF_MEMORY);
    assert_int_equal(generation_metrics(g)->steps_run, 0);
    generation_free(g);
    device_set_limit(room.device, 0);
}

static void what_cannot_fit_is_refused_before_anything_is_loaded(void **state) {
    (void)state;
    error e = {0};
    generated_image image;
    engine_room_cleanup(&room, &(engine_answer){0});
    device_set_limit(room.device, MIB);
    generation *g = begin("a fox", 1024);
    assert_false(generation_advance(g, &image, &e));
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(e.text, "missing"));
    assert_int_equal(claimed(), 0);
    generation_free(g);
    device_set_limit(room.device, 0);
}

static void a_known_prompt_is_not_encoded_again(void **state) {
    (void)state;
    error e = {0};
    int slices;
    for (int again = 0; again < 2; again++) {
        generation *g = begin("a prompt of its own", 64);
        if (!finish(g, NULL, &slices, &e)) fail_msg("%s", e.text);
        assert_int_equal(generation_metrics(g)->encode_cached, again);
        generation_free(g);
    }
}

int main(void) {
    error e = {0};
    const engine_room_options o = {.device = "cpu", .threads = 2, .prompt_cache_bytes = PROMPT_CACHE_BYTES,
                                   .models = {.max_models = 2, .max_cache_bytes = MODEL_CACHE_BYTES}};
    request = (engine_request){
        .model = "demo", .precision = "f32", .steps = 2, .count = 1, .max_sequence_length = 16, .guidance_scale = 3.5, .seed = 5};
    golden_path(request.model_folder, sizeof request.model_folder, "../../../demo/model");
    if (!engine_room_open(&room, &o, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_finished_denoise_is_decoded_in_what_memory_there_is),
        cmocka_unit_test(without_memory_for_a_tile_it_fails_and_the_next_task_runs),
        cmocka_unit_test(a_step_without_memory_is_tried_again_once),
        cmocka_unit_test(what_cannot_fit_is_refused_before_anything_is_loaded),
        cmocka_unit_test(a_known_prompt_is_not_encoded_again),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    engine_room_close(&room);
    return failed;
}
