/* The transcoder's thread: stored pictures and pixels come back in the format and size asked for, in order, with their settings text; a
 * file that is missing or no picture is that job's fault alone; what is dropped is never told; what waits is bounded, and ending it with
 * jobs waiting leaks nothing. Meant to run under TSan and ASan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "image/png.h"
#include "server/pictures/transcoder.h"

enum { WIDTH = 48, HEIGHT = 32, MANY = 60 };

typedef struct fixture {
    char folder[64], path[96];
    loop *loop;
    transcoder *transcoder;
    buffer stored; /* the file at `path` */
    int expected, told;
} fixture;

typedef struct wish {
    fixture *f;
    int number; /* in order of the submissions */
    buffer file;
    error fault;
    bool told;
    transcoding *job;
} wish;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    uint8_t rgb[WIDTH * HEIGHT * 3];
    const png_text_entry text = {"parameters", "a føx\nSteps: 8"};
    error e;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i / 9);
    snprintf(f->folder, sizeof f->folder, "/tmp/imagined-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/one.png", f->folder);
    assert_true(png_encode(rgb, WIDTH, HEIGHT, &text, 1, &f->stored, &e));
    assert_true(file_replace(f->path, f->stored.data, f->stored.size, &e));
    assert_true(loop_new(&f->loop, &e) && transcoder_new(f->loop, &f->transcoder, &e));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    char command[128];
    transcoder_free(f->transcoder);
    loop_free(f->loop);
    buffer_free(&f->stored);
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    free(f);
    return system(command);
}

static void done(void *context, buffer *file, const error *why) {
    wish *w = context;
    assert_true((file == NULL) == (why != NULL));
    assert_false(w->told);
    assert_int_equal(w->number, w->f->told); /* in order */
    w->told = true;
    w->job = NULL;
    if (file != NULL) {
        w->file = *file;
        *file = (buffer){0};
    } else {
        w->fault = *why;
    }
    if (++w->f->told == w->f->expected) loop_stop(w->f->loop);
}

static void never(void *context, buffer *file, const error *why) {
    (void)context, (void)file, (void)why;
    fail_msg("a dropped job was told");
}

static void ask(fixture *f, wish *w, const transcode *job) {
    error e;
    *w = (wish){.f = f, .number = f->expected++};
    assert_true(transcoder_add(f->transcoder, job, done, w, &w->job, &e));
    assert_false(w->told);
}

static image pixels(int width, int height, int channels) {
    image i;
    assert_true(image_new(width, height, channels, &i, NULL));
    memset(i.pixels, 0, (size_t)width * (size_t)height * (size_t)channels);
    return i;
}

static void assert_picture(const wish *w, image_format format, int width, int height, const char *settings) {
    image_info info;
    image decoded;
    buffer text = {0};
    assert_int_equal(w->fault.code, ERROR_NONE);
    assert_true(image_probe(w->file.data, w->file.size, &info, NULL) && image_decode(w->file.data, w->file.size, &decoded, NULL));
    assert_int_equal(info.format, format);
    assert_int_equal(info.width, width);
    assert_int_equal(info.height, height);
    assert_true(image_metadata_read(w->file.data, w->file.size, &text, NULL));
    assert_string_equal(buffer_text(&text), settings);
    buffer_free(&text);
    image_free(&decoded);
}

static void stored_pictures_in_each_format_and_size(void **state) {
    fixture *f = *state;
    wish each[IMAGE_FORMATS], larger[IMAGE_FORMATS];
    for (int i = 0; i < IMAGE_FORMATS; i++) {
        ask(f, &each[i], &(transcode){.path = f->path, .format = (image_format)i});
        ask(f, &larger[i], &(transcode){.path = f->path, .format = (image_format)i, .quality = 40, .width = 96, .height = 20});
    }
    loop_run(f->loop);
    for (int i = 0; i < IMAGE_FORMATS; i++) {
        assert_picture(&each[i], (image_format)i, WIDTH, HEIGHT, "a føx\nSteps: 8");
        assert_picture(&larger[i], (image_format)i, 96, 20, "a føx\nSteps: 8");
    }
    assert_int_equal(each[IMAGE_PNG].file.size, f->stored.size);
    assert_memory_equal(each[IMAGE_PNG].file.data, f->stored.data, f->stored.size);
    for (int i = 0; i < IMAGE_FORMATS; i++) {
        buffer_free(&each[i].file);
        buffer_free(&larger[i].file);
    }
}

static void pixels_and_previews(void **state) {
    fixture *f = *state;
    wish enlarged, transparent;
    uint8_t rgb[4 * 3 * 3] = {0};
    const preview v = {.width = 4, .height = 3, .rgb = rgb};
    image copy;
    assert_true(transcode_copy_preview(&v, &copy, NULL));
    memset(rgb, 255, sizeof rgb); /* a newer one takes its place */
    ask(f, &enlarged, &(transcode){.pixels = copy, .format = IMAGE_WEBP, .width = 64, .height = 48});
    ask(f, &transparent, &(transcode){.pixels = pixels(8, 8, 4), .format = IMAGE_JPEG, .quality = 100});
    loop_run(f->loop);
    assert_picture(&enlarged, IMAGE_WEBP, 64, 48, "");
    assert_picture(&transparent, IMAGE_JPEG, 8, 8, "");
    image decoded;
    assert_true(image_decode(enlarged.file.data, enlarged.file.size, &decoded, NULL));
    assert_true(decoded.pixels[0] < 5);
    image_free(&decoded);
    assert_true(image_decode(transparent.file.data, transparent.file.size, &decoded, NULL));
    assert_true(decoded.pixels[0] > 250); /* black, but all of it transparent: laid over white */
    image_free(&decoded);
    buffer_free(&enlarged.file);
    buffer_free(&transparent.file);
}

static void a_fault_is_that_jobs_alone(void **state) {
    fixture *f = *state;
    wish missing, none, good, impossible;
    char wrong[128], text[128];
    snprintf(wrong, sizeof wrong, "%s/two.png", f->folder);
    snprintf(text, sizeof text, "%s/text", f->folder);
    assert_true(file_replace(text, "no picture", 10, NULL));
    ask(f, &missing, &(transcode){.path = wrong, .format = IMAGE_JPEG});
    ask(f, &none, &(transcode){.path = text, .format = IMAGE_JPEG});
    ask(f, &impossible, &(transcode){.path = f->path, .format = IMAGE_JPEG, .width = IMAGE_MAX_SIDE + 1, .height = 1});
    ask(f, &good, &(transcode){.path = f->path, .format = IMAGE_JPEG});
    loop_run(f->loop);
    assert_int_equal(missing.fault.code, ERROR_NOT_FOUND);
    assert_int_equal(none.fault.code, ERROR_UNSUPPORTED);
    assert_int_equal(impossible.fault.code, ERROR_TOO_LARGE);
    assert_picture(&good, IMAGE_JPEG, WIDTH, HEIGHT, "a føx\nSteps: 8");
    buffer_free(&good.file);
}

static void what_is_dropped_is_not_told(void **state) {
    fixture *f = *state;
    wish last;
    transcoding *jobs[MANY];
    for (int i = 0; i < MANY; i++)
        assert_true(transcoder_add(f->transcoder, &(transcode){.path = f->path, .format = IMAGE_WEBP}, never, NULL, &jobs[i], NULL));
    for (int i = MANY - 1; i >= 0; i--) transcoder_drop(f->transcoder, jobs[i]);
    transcoder_drop(f->transcoder, NULL);
    ask(f, &last, &(transcode){.path = f->path, .format = IMAGE_WEBP});
    loop_run(f->loop);
    assert_true(last.told);
    buffer_free(&last.file);
}

/* The bounds hold until a job is told: room comes back with it. */
static void what_waits_is_bounded(void **state) {
    fixture *f = *state;
    wish large, next;
    error e;
    int side = 4096;
    ask(f, &large, &(transcode){.pixels = pixels(side, side, 3), .format = IMAGE_JPEG, .width = 8, .height = 8});
    assert_false(transcoder_add(f->transcoder, &(transcode){.pixels = pixels(side, side, 3), .format = IMAGE_JPEG}, never, NULL, NULL, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    loop_run(f->loop);
    ask(f, &next, &(transcode){.pixels = pixels(side, side, 3), .format = IMAGE_JPEG, .width = 8, .height = 8});
    int taken = 1;
    while (transcoder_add(f->transcoder, &(transcode){.path = f->path, .format = IMAGE_JPEG}, never, NULL, NULL, &e)) taken++;
    assert_int_equal(e.code, ERROR_BUSY);
    assert_int_equal(taken, TRANSCODER_MAX_JOBS);
    buffer_free(&large.file);
    /* The rest waits until the end, which must not leak it. */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stored_pictures_in_each_format_and_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pixels_and_previews, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_fault_is_that_jobs_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_dropped_is_not_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_is_bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
