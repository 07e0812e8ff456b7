/* The demo model makes of a picture what diffusers' FluxImg2ImgPipeline and FluxInpaintPipeline make of it, at several strengths: step by
 * step, and as a task of the engine that gets the picture and the mask as files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/generation.h"
#include "golden.h"
#include "image/png.h"
#include "models/autoencoder_encoder.h"
#include "models/flux_denoise.h"

/* As tests/golden/make_image_to_image.py has them. */
enum { SIDE = 128, CELLS = SIDE / 8, CHANNELS = 16, STEPS = 8, TOKENS = 32, SEED = 77, STRENGTHS = 3 };
static const double strengths[STRENGTHS] = {0.3, 0.6, 1.0};
static const int steps_left_out[STRENGTHS] = {5, 3, 0};

static device *dev;
static part_pool *pool;
static flux_pipeline *pipeline;
static conditioning prompt;
static golden *numbers;
static float latents[CHANNELS * CELLS * CELLS];

static bool encode_picture(const char *folder, error *e) {
    static float planes[3 * SIDE * SIDE];
    golden_array picture = golden_get(numbers, "picture");
    autoencoder_encoder *m;
    autoencoder_encoder_from_rgb8(picture.data, SIDE, SIDE, planes);
    bool ok = autoencoder_encoder_load(dev, folder, &LOAD_OPTIONS(PRECISION_F32), &m, e) &&
              autoencoder_encoder_encode(m, planes, SIDE, SIDE, 1, latents, e);
    autoencoder_encoder_free(m);
    return ok;
}

static flux_denoise_request request(double strength, const float *mask) {
    return (flux_denoise_request){.width = SIDE, .height = SIDE, .steps = STEPS, .seed = SEED, .guidance_scale = 1, .positive = &prompt,
                                  .true_cfg_scale = 1, .image = latents, .strength = strength, .mask = mask};
}

static void make(int i, const float *mask, uint8_t *rgb) {
    const flux_denoise_request r = request(strengths[i], mask);
    flux_denoise *d;
    error e = {0};
    bool more = true;
    if (!flux_denoise_new(pipeline, &r, &d, &e)) fail_msg("%s", e.text);
    assert_int_equal(flux_denoise_steps_done(d), steps_left_out[i]);
    while (more)
        if (!flux_denoise_step(d, &more, &e)) fail_msg("%s", e.text);
    assert_int_equal(flux_denoise_steps_done(d), STEPS);
    if (!flux_denoise_decode(d, rgb, &e)) fail_msg("%s", e.text);
    flux_denoise_free(d);
}

static double psnr_of(const uint8_t *a, const uint8_t *b, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += pow((double)a[i] - b[i], 2);
    return sum == 0 ? 99 : 10 * log10(255.0 * 255.0 * count / sum);
}

static double psnr(const uint8_t *a, const uint8_t *b) { return psnr_of(a, b, SIDE * SIDE * 3); }

/* ── as a task ── */

static engine_room room;

static int memory_file(const void *bytes, size_t size) {
    int fd = memfd_create("picture", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    return fd;
}

/* The mask's cells as a picture: what is painted is white, or transparent. */
static int mask_file(const float *mask, bool alpha) {
    static uint8_t pixels[SIDE * SIDE * 4];
    buffer png = {0};
    for (int i = 0; i < SIDE * SIDE; i++) {
        bool painted = mask[i / SIDE / 8 * CELLS + i % SIDE / 8] > 0.5f;
        if (alpha) memcpy(pixels + i * 4, painted ? (uint8_t[]){255, 0, 0, 0} : (uint8_t[]){255, 255, 255, 255}, 4);
        else memset(pixels + i * 3, painted ? 255 : 0, 3);
    }
    assert_true((alpha ? png_encode_rgba : png_encode)(pixels, SIDE, SIDE, NULL, 0, &png, NULL));
    int fd = memory_file(png.data, png.size);
    buffer_free(&png);
    return fd;
}

static engine_files files_of(const float *mask, bool alpha) {
    char path[1024];
    engine_files files = {0};
    golden_path(path, sizeof path, "pictures/00.png");
    files.fds[files.count++] = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(files.fds[0] >= 0);
    if (mask != NULL) files.fds[files.count++] = mask_file(mask, alpha);
    return files;
}

static void set_task(engine_request *r, int i, const float *mask, bool alpha) {
    *r = (engine_request){.model = "demo", .precision = "f32", .prompt = "a fox on a blue background", .width = SIDE, .height = SIDE, .steps = STEPS, .count = 1,
                          .max_sequence_length = TOKENS, .guidance_scale = 1, .true_cfg_scale = 1, .seed = SEED, .has_image = true, .has_mask = mask != NULL,
                          .mask_is_alpha = alpha, .strength = strengths[i]};
    golden_path(r->model_folder, sizeof r->model_folder, "../../../demo/model");
}

static generation *begin(int i, const float *mask, bool alpha, int count, int side) {
    static engine_request r;
    generation *g;
    error e = {0};
    engine_files files = files_of(mask, alpha);
    set_task(&r, i, mask, alpha);
    r.count = count;
    r.width = r.height = side;
    if (!generation_new(&room, &r, &files, &g, &e)) fail_msg("%s", e.text);
    assert_int_equal(files.count, 0);
    return g;
}

enum { LARGE = 256 };

/* The last picture to rgb. Steps that are left out count as done from the first. */
static void finish(generation *g, int i, uint8_t *rgb) {
    generated_image image;
    error e = {0};
    int step = steps_left_out[i], at = 0;
    while (!generation_get_state(g).finished) {
        generation_state s = generation_get_state(g);
        assert_int_equal(s.steps, STEPS);
        if (s.image != at) step = steps_left_out[i];
        at = s.image;
        assert_in_range(s.step, step, STEPS);
        step = s.step;
        if (!generation_advance(g, &image, &e)) fail_msg("%s", e.text);
        if (image.rgb != NULL) memcpy(rgb, image.rgb, (size_t)image.width * (size_t)image.height * 3);
    }
    assert_int_equal(step, STEPS);
    assert_true(generation_metrics(g)->encode_seconds > 0);
}

static void make_as_task(int i, const float *mask, bool alpha, uint8_t *rgb) {
    generation *g = begin(i, mask, alpha, 1, SIDE);
    finish(g, i, rgb);
    assert_int_equal(generation_metrics(g)->steps_run, STEPS - steps_left_out[i]);
    generation_free(g);
}

/* ── both ── */

/* Every result is near its own golden, and far nearer than to another strength's, which may be much the same picture. */
static void compare(const char *name, const float *mask) {
    static uint8_t rgb[SIDE * SIDE * 3], of_task[SIDE * SIDE * 3];
    for (int i = 0; i < STRENGTHS; i++) {
        golden_array own = golden_get(numbers, "%s.%d", name, i), other = golden_get(numbers, "%s.%d", name, (i + 1) % STRENGTHS);
        assert_int_equal(own.size, sizeof rgb);
        make(i, mask, rgb);
        make_as_task(i, mask, false, of_task);
        assert_memory_equal(of_task, rgb, sizeof rgb);
        if (mask != NULL) {
            make_as_task(i, mask, true, of_task);
            assert_memory_equal(of_task, rgb, sizeof rgb);
        }
        print_message("    %s, strength %g: %.1f dB\n", name, strengths[i], psnr(rgb, own.data));
        assert_true(psnr(rgb, own.data) >= 40);
        assert_true(psnr(rgb, own.data) >= psnr(rgb, other.data) + 20);
    }
}

static void strength_is_as_in_diffusers(void **state) {
    (void)state;
    compare("result", NULL);
}

static void masks_are_as_in_diffusers(void **state) {
    (void)state;
    golden_array mask = golden_get(numbers, "mask");
    assert_int_equal(mask.count, CELLS * CELLS);
    compare("painted", golden_f32(&mask));
}

/* Of several images each begins from the same picture, which is encoded once; the last has the bytes that it would have alone. */
static void images_of_a_task_share_the_picture(void **state) {
    (void)state;
    static uint8_t last[SIDE * SIDE * 3], alone[SIDE * SIDE * 3];
    static engine_request r;
    generation *g = begin(1, NULL, false, 3, SIDE);
    finish(g, 1, last);
    assert_int_equal(generation_metrics(g)->steps_run, 3 * (STEPS - steps_left_out[1]));
    generation_free(g);
    engine_files files = files_of(NULL, false);
    set_task(&r, 1, NULL, false);
    r.seed += 2;
    assert_true(generation_new(&room, &r, &files, &g, NULL));
    finish(g, 1, alone);
    generation_free(g);
    assert_memory_equal(last, alone, sizeof last);
}

static size_t claimed(void) { return ledger_total(device_ledger(room.device)); }

/* Where memory is short the plan says so, the picture is encoded a tile a slice or by itself, and what comes out is nearly the same. */
static void a_picture_is_encoded_in_what_memory_there_is(void **state) {
    (void)state;
    static uint8_t whole[LARGE * LARGE * 3], tiled[LARGE * LARGE * 3];
    generated_image image;
    error e = {0};
    generation *g = begin(0, NULL, false, 1, LARGE);
    finish(g, 0, whole);
    generation_free(g);
    engine_room_cleanup(&room, &(engine_answer){0});
    g = begin(0, NULL, false, 1, LARGE);
    while (generation_get_state(g).phase != PHASE_ENCODE)
        if (!generation_advance(g, &image, &e)) fail_msg("%s", e.text);
    while (generation_bytes(g) < LARGE * LARGE * 3 * sizeof(float)) /* until the files are read */
        if (!generation_advance(g, &image, &e)) fail_msg("%s", e.text);
    engine_room_cleanup(&room, &(engine_answer){0});
    device_set_limit(room.device, claimed() + (14 << 20));
    int slices = 0, told = 0;
    for (; generation_get_state(g).phase != PHASE_DENOISE; slices++) {
        if (!generation_advance(g, &image, &e)) fail_msg("%s", e.text);
        const engine_plan *plan = generation_new_plan(g);
        for (int i = 0; plan != NULL && i < plan->step_count; i++) told += strstr(plan->steps[i], "encode the picture in tiles of") != NULL;
    }
    print_message("    %d slices\n", slices);
    device_set_limit(room.device, 0);
    finish(g, 0, tiled);
    generation_free(g);
    assert_int_equal(told, 1);
    assert_true(slices > 1);
    print_message("    in tiles: %.1f dB\n", psnr_of(whole, tiled, LARGE * LARGE * 3));
    assert_true(psnr_of(whole, tiled, LARGE * LARGE * 3) >= 40);
}

/* A task fails with the fault, the engine goes on, and no descriptor stays open. */
static void files_that_are_no_pictures_fail_the_task(void **state) {
    (void)state;
    static engine_request r;
    static const struct {
        const char *bytes, *says;
        error_code code;
    } bad[] = {
        {"", "neither PNG", ERROR_UNSUPPORTED}, {"GIF89a", "neither PNG", ERROR_UNSUPPORTED}, {"\x89PNG\r\n\x1a\n", "", ERROR_INVALID}};
    for (int mask = 0; mask < 2; mask++)
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            generation *g;
            generated_image image;
            error e = {0};
            engine_files files = files_of(NULL, false);
            int fd = memory_file(bad[i].bytes, strlen(bad[i].bytes));
            if (mask == 1) files.fds[files.count++] = fd;
            else dup2(fd, files.fds[0]);
            if (mask == 0) close(fd);
            set_task(&r, 0, NULL, false);
            r.has_mask = mask == 1;
            assert_true(generation_new(&room, &r, &files, &g, &e));
            while (generation_advance(g, &image, &e)) assert_int_not_equal(generation_get_state(g).phase, PHASE_DENOISE);
            assert_int_equal(e.code, bad[i].code);
            assert_string_equal(e.field, mask == 1 ? "mask" : "image");
            assert_non_null(strstr(e.text, bad[i].says));
            assert_non_null(strstr(e.text, mask == 1 ? "the mask" : "the picture to begin from"));
            generation_free(g);
        }
}

static void a_strength_that_is_none_is_refused(void **state) {
    (void)state;
    const double wrong[] = {0, -0.5, 1.01, NAN};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const flux_denoise_request r = request(wrong[i], NULL);
        flux_denoise *d;
        error e = {0};
        assert_false(flux_denoise_new(pipeline, &r, &d, &e));
        assert_int_equal(e.code, ERROR_INVALID);
    }
}

static size_t held(const flux_denoise_request *r) {
    flux_denoise *d;
    error e = {0};
    if (!flux_denoise_new(pipeline, r, &d, &e)) fail_msg("%s", e.text);
    size_t bytes = flux_denoise_bytes(d);
    flux_denoise_free(d);
    return bytes;
}

/* The picture and its noise are held, and told, only where a mask needs them again after each step. */
static void what_a_mask_keeps_is_counted(void **state) {
    (void)state;
    golden_array mask = golden_get(numbers, "mask");
    const flux_denoise_request whole = request(0.5, NULL), masked = request(0.5, golden_f32(&mask));
    flux_denoise_request noise = whole;
    noise.image = NULL;
    assert_int_equal(held(&whole), held(&noise));
    assert_int_equal(held(&masked), held(&noise) + 2 * sizeof latents + CELLS * CELLS * sizeof(float));
}

int main(void) {
    error e = {0};
    char folder[1024], vae[1024];
    golden_path(folder, sizeof folder, "../../../demo/model");
    golden_path(vae, sizeof vae, "../../../demo/model/vae");
    const engine_room_options o = {.device = "cpu", .threads = 2, .prompt_cache_bytes = PROMPT_CACHE_BYTES,
                                   .models = {.max_models = 2, .max_cache_bytes = MODEL_CACHE_BYTES}};
    numbers = golden_open("image_to_image");
    if (!device_open("cpu", 2, &dev, &e) || !part_pool_new(dev, &pool, &e) ||
        !flux_pipeline_load(pool, folder, &LOAD_OPTIONS(PRECISION_F32), &pipeline, &e) ||
        !flux_pipeline_encode(pipeline, "a fox on a blue background", TOKENS, &prompt, &e) || !encode_picture(vae, &e) ||
        !engine_room_open(&room, &o, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strength_is_as_in_diffusers),
        cmocka_unit_test(masks_are_as_in_diffusers),
        cmocka_unit_test(what_a_mask_keeps_is_counted),
        cmocka_unit_test(images_of_a_task_share_the_picture),
        cmocka_unit_test(a_picture_is_encoded_in_what_memory_there_is),
        cmocka_unit_test(files_that_are_no_pictures_fail_the_task),
        cmocka_unit_test(a_strength_that_is_none_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    engine_room_close(&room);
    conditioning_free(&prompt);
    flux_pipeline_free(pipeline);
    part_pool_free(pool);
    device_free(dev);
    golden_free(numbers);
    return failed;
}
