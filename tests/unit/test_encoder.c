/* The encoder's thread: pictures arrive on disk complete, results come back in order with what was handed through, wrong pixels are a fault
 * of that job alone, and ending it with jobs waiting leaks nothing. Meant to run under TSan and ASan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "server/pictures/encoder.h"

enum { SIDE = 24 };

typedef struct fixture {
    char folder[64];
    picture_store *store;
    encoder *encoder;
} fixture;

static int set_up(void **state) {
    static fixture f;
    snprintf(f.folder, sizeof f.folder, "/tmp/imagined-test-XXXXXX");
    assert_non_null(mkdtemp(f.folder));
    error e;
    assert_true(picture_store_new(f.folder, &f.store, &e));
    assert_true(encoder_new(f.store, &f.encoder, &e));
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    encoder_free(f->encoder);
    picture_store_free(f->store);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    return system(command);
}

static void job_id(int number, char id[TASK_ID_BYTES]) {
    const uint8_t random[10] = {0};
    task_id_format(number, random, id);
}

static int pixels(size_t bytes) {
    int fd = memfd_create("pixels", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

static void submit(fixture *f, int number, size_t bytes) {
    encoder_job job = {.index = number % 16,
                       .run = 1000 + (uint64_t)number,
                       .memfd = pixels(bytes),
                       .width = SIDE,
                       .height = SIDE,
                       .parameters = strdup("a fox")};
    job_id(number, job.task);
    error e;
    assert_true(encoder_submit(f->encoder, &job, &e));
    assert_int_equal(job.memfd, -1);
    assert_null(job.parameters);
}

static encoder_result next(fixture *f) {
    encoder_result r;
    struct pollfd p = {.fd = encoder_fd(f->encoder), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    assert_true(encoder_next(f->encoder, &r));
    return r;
}

static void results_come_in_order_and_the_files_are_there(void **state) {
    fixture *f = *state;
    enum { JOBS = 40 };
    for (int i = 0; i < JOBS; i++) submit(f, i, SIDE * SIDE * 3);
    for (int i = 0; i < JOBS; i++) {
        encoder_result r = next(f);
        char id[TASK_ID_BYTES], picture[PICTURE_ID_BYTES], path[PATH_MAX];
        job_id(i, id);
        assert_string_equal(r.task, id);
        assert_int_equal(r.index, i % 16);
        assert_int_equal(r.run, 1000 + i);
        assert_int_equal(r.fault.code, ERROR_NONE);
        picture_id_format(id, i % 16, picture);
        assert_true(picture_store_path(f->store, picture, path, NULL));
        buffer png = {0};
        assert_true(file_read(path, 1 << 20, &png, NULL));
        assert_memory_equal(png.data, "\x89PNG\r\n\x1a\n", 8);
        buffer_free(&png);
    }
    encoder_result none;
    assert_false(encoder_next(f->encoder, &none));
    struct pollfd p = {.fd = encoder_fd(f->encoder), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
}

static void wrong_pixels_are_that_jobs_fault(void **state) {
    fixture *f = *state;
    submit(f, 1, SIDE * SIDE * 3 - 1);
    submit(f, 2, SIDE * SIDE * 3);
    assert_int_equal(next(f).fault.code, ERROR_INTERNAL);
    assert_int_equal(next(f).fault.code, ERROR_NONE);
}

static void an_end_with_jobs_waiting(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 100; i++) submit(f, i, SIDE * SIDE * 3);
    next(f);
}

static void only_ids_name_pictures(void **state) {
    fixture *f = *state;
    char path[PATH_MAX];
    error e;
    assert_true(picture_store_path(f->store, "01ARZ3NDEKTSV4RRFFQ69G5FAV-0", path, &e));
    assert_true(picture_store_path(f->store, "01ARZ3NDEKTSV4RRFFQ69G5FAV-15", path, &e));
    static const char *const wrong[] = {
        "",
        "-0",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV-",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV-00",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV-100",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV-x",
        "01arz3ndektsv4rrffq69g5fav-0",
        "../../../../../etc/passwd-0",
        "01ARZ3NDEKTSV4RRFFQ69G5FA/-0",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV-0/",
        "01ARZ3NDEKTSV4RRFFQ69G5FAVX-0",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(picture_store_path(f->store, wrong[i], path, &e));
        assert_int_equal(e.code, ERROR_NOT_FOUND);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(results_come_in_order_and_the_files_are_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_pixels_are_that_jobs_fault, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_with_jobs_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_ids_name_pictures, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
