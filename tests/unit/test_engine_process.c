/* The engine's process over a stand-in for the model: what it tells of a task arrives in order and whole, a failed task leaves the others
 * alone, and it ends when the front is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/front_link.h"
#include "engine/generation.h"
#include "engine/process_memory.h"
#include "engine_front.h"

static void it_says_hello_and_goes_with_the_front(void **state) {
    (void)state;
    front f = front_start();
    assert_string_equal(f.last.hello.device_kind, "stand-in");
    assert_string_equal(f.last.hello.device_name, "a stand-in");
    assert_int_equal(f.last.hello.threads, 3);
    assert_int_equal(front_end(&f), 0);
}

static void a_device_that_does_not_open_is_told_and_ends_it(void **state) {
    (void)state;
    front f = front_start_with("none");
    front_expect(&f, MESSAGE_FAILED, "");
    assert_int_equal(f.last.fault.code, ERROR_DEVICE);
    assert_string_equal(f.last.fault.text, "there is no device 'none'");
    assert_false(front_next(&f, NULL));
    assert_int_equal(front_end(&f), 1 << 8);
}

/* Two images of two steps: every slice is announced, pictures come in order and cannot be changed, the end has its figures. */
static void a_task_is_told_slice_by_slice(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "fine", 2, 2);
    static const struct {
        engine_phase phase;
        int image, step;
    } slices[] = {{PHASE_LOAD, 0, 0}, {PHASE_ENCODE, 0, 0}, {PHASE_DENOISE, 0, 0}, {PHASE_DENOISE, 0, 1}, {PHASE_DECODE, 0, 2},
                  {PHASE_DENOISE, 1, 0}, {PHASE_DENOISE, 1, 1}, {PHASE_DECODE, 1, 2}};
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        front_expect(&f, MESSAGE_PROGRESS, "a");
        assert_int_equal(f.last.progress.phase, slices[i].phase);
        assert_int_equal(f.last.progress.image, slices[i].image);
        assert_int_equal(f.last.progress.images, 2);
        assert_int_equal(f.last.progress.step, slices[i].step);
        assert_int_equal(f.last.progress.steps, 2);
        if (slices[i].phase != PHASE_DECODE) continue;
        int fd = -1;
        assert_true(front_next(&f, &fd));
        assert_int_equal(f.last.kind, MESSAGE_IMAGE);
        assert_int_equal(f.last.image.index, slices[i].image);
        assert_int_equal(f.last.image.width, 16);
        assert_int_equal(f.last.image.height, 8);
        assert_true(f.last.image.seed == UINT64_MAX + (uint64_t)slices[i].image);
        struct stat info;
        assert_int_equal(fstat(fd, &info), 0);
        assert_int_equal(info.st_size, 16 * 8 * 3);
        uint8_t pixels[16 * 8 * 3];
        assert_int_equal(pread(fd, pixels, sizeof pixels, 0), sizeof pixels);
        for (size_t k = 0; k < sizeof pixels; k++) assert_int_equal(pixels[k], (uint8_t)(k + (size_t)slices[i].image));
        assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
        assert_int_equal(ftruncate(fd, 0), -1);
        close(fd);
    }
    front_expect(&f, MESSAGE_DONE, "a");
    assert_int_equal(f.last.metrics.steps_run, 4);
    assert_int_equal(f.last.metrics.device_peak, 1000);
    assert_int_equal(f.peak_bytes, 700); /* told before the end is: of the peak, 300 are weights */
    assert_int_equal(f.profiles, 1);
    assert_string_equal(f.profile.model, "all");
    assert_int_equal(f.profile.batch, 1);
    assert_true(f.profile.step_seconds > 0 && f.profile.decode_seconds == 0.25);
    assert_true(f.last.metrics.memory_before > 0 && f.last.metrics.memory_after > 0);
    assert_true(f.last.metrics.memory_peak >= f.last.metrics.memory_before && f.last.metrics.memory_peak >= f.last.metrics.memory_after);
    assert_int_equal(front_end(&f), 0);
}

static void a_failed_task_leaves_the_others_alone(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "fails", 5, 1);
    front_admit(&f, "b", "refused", 5, 1);
    front_admit(&f, "c", "mute", 5, 1);
    int failed = 0;
    while (failed < 3) {
        assert_true(front_next(&f, NULL));
        if (f.last.kind == MESSAGE_PROGRESS) continue;
        assert_int_equal(f.last.kind, MESSAGE_FAILED);
        failed++;
        switch (f.last.id[0]) {
        case 'a':
            assert_int_equal(f.last.fault.code, ERROR_BAD_FILE);
            assert_string_equal(f.last.fault.text, "weights.safetensors: it fails");
            break;
        case 'b': assert_int_equal(f.last.fault.code, ERROR_INVALID); break;
        default: assert_int_equal(f.last.fault.code, ERROR_INTERNAL);
        }
    }
    front_admit(&f, "d", "fine", 1, 1);
    front_expect(&f, MESSAGE_IMAGE, "d");
    front_expect(&f, MESSAGE_DONE, "d");
    assert_int_equal(front_end(&f), 0);
}

/* Memory files that the process has open. */
static int memory_files_of(pid_t pid) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;) {
        ssize_t size = readlinkat(dirfd(d), entry->d_name, target, sizeof target);
        n += size > 7 && memcmp(target, "/memfd:", 7) == 0;
    }
    closedir(d);
    return n;
}

static void send_with_note(front *f, const char *id, const char *prompt, int steps, const char *note) {
    static engine_message m;
    m = (engine_message){.kind = MESSAGE_ADMIT, .engine = ENGINE_NUMBER, .request = {.width = 16, .height = 8, .steps = steps, .count = 1, .max_sequence_length = 1, .priority = 2,
                                                                              .has_image = true, .has_mask = true, .strength = 1}};
    snprintf(m.id, sizeof m.id, "%s", id);
    snprintf(m.request.prompt, sizeof m.request.prompt, "%s", prompt);
    engine_files files = {2, {memfd_create("note", MFD_CLOEXEC), memfd_create("mask", MFD_CLOEXEC)}};
    assert_int_equal(write(files.fds[0], note, strlen(note)), (ssize_t)strlen(note));
    assert_true(engine_message_send_files(f->socket, &m, &files, NULL));
    engine_files_close(&files);
}

/* Each task gets its own files, one that is refused or admitted twice included, and none of them stays open. */
static void files_go_to_their_task(void **state) {
    (void)state;
    front f = front_start();
    send_with_note(&f, "a", "fine a", 1, "fine a");
    front_expect(&f, MESSAGE_IMAGE, "a");
    front_expect(&f, MESSAGE_DONE, "a");
    send_with_note(&f, "b", "fine b", 1, "fine a");
    front_expect(&f, MESSAGE_FAILED, "b");
    assert_string_equal(f.last.fault.text, "the note says 'fine a'");
    send_with_note(&f, "c", "slow c", 1000, "slow c");
    send_with_note(&f, "c", "slow c", 1000, "slow c");
    front_send(&f, MESSAGE_CANCEL, "c", NULL);
    front_expect(&f, MESSAGE_FAILED, "c");
    front_admit(&f, "d", "fine", 1, 1); /* whatever came before has been dealt with then */
    front_expect(&f, MESSAGE_IMAGE, "d");
    front_expect(&f, MESSAGE_DONE, "d");
    for (int tries = 0; memory_files_of(f.pid) > 0; tries++) {
        assert_true(tries < 1000);
        usleep(10000);
    }
    assert_int_equal(front_end(&f), 0);
}

static void stop_ends_it_between_slices(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 1000, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    front_send(&f, MESSAGE_STOP, "", NULL);
    int slices = 0;
    while (front_next(&f, NULL)) slices++;
    assert_true(slices <= 2);
    assert_int_equal(front_end(&f), 0);
}

static void it_ends_within_a_slice_of_the_front(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "slow", 1000, 16);
    front_expect(&f, MESSAGE_PROGRESS, "a");
    double begin = clock_seconds();
    assert_int_equal(front_end(&f), 0); /* waits for it */
    assert_true(clock_seconds() - begin < 5);
}

static void an_abort_ends_the_process_by_its_signal(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "abort", 1, 1);
    front_expect(&f, MESSAGE_PROGRESS, "a"); /* told before the slice, so that the front knows whose it was */
    assert_false(front_next(&f, NULL));
    int status = front_end(&f);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void messages_for_another_engine_are_ignored(void **state) {
    (void)state;
    front f = front_start();
    static engine_message m;
    m = (engine_message){.kind = MESSAGE_STOP, .engine = ENGINE_NUMBER - 1};
    assert_true(engine_message_send(f.socket, &m, -1, NULL));
    front_admit(&f, "a", "fine", 1, 1);
    front_expect(&f, MESSAGE_IMAGE, "a");
    assert_int_equal(front_end(&f), 0);
}

static void signals_of_the_group_are_left_to_the_front(void **state) {
    (void)state;
    front f = front_start();
    kill(f.pid, SIGINT);
    kill(f.pid, SIGTERM);
    kill(f.pid, SIGHUP);
    front_admit(&f, "a", "fine", 1, 1);
    front_expect(&f, MESSAGE_IMAGE, "a");
    char path[64], name[32] = {0};
    snprintf(path, sizeof path, "/proc/%d/comm", f.pid);
    FILE *comm = fopen(path, "r");
    assert_non_null(comm);
    assert_non_null(fgets(name, sizeof name, comm));
    fclose(comm);
    assert_string_equal(name, "imagined-engine\n");
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)f.pid), 5);
    assert_int_equal(front_end(&f), 0);
}

/* Each task has its own peak, where the kernel lets it be reset. */
static void the_peak_is_the_tasks_own(void **state) {
    (void)state;
    if (!process_memory_reset_peak()) skip();
    front f = front_start();
    front_admit(&f, "large", "large", 1, 1);
    front_expect(&f, MESSAGE_IMAGE, "large");
    front_expect(&f, MESSAGE_DONE, "large");
    assert_true(f.last.metrics.memory_peak >= f.last.metrics.memory_before + (60 << 20));
    front_admit(&f, "small", "fine", 1, 1);
    front_expect(&f, MESSAGE_IMAGE, "small");
    front_expect(&f, MESSAGE_DONE, "small");
    assert_true(f.last.metrics.memory_peak < f.last.metrics.memory_before + (30 << 20));
    assert_int_equal(front_end(&f), 0);
}

/* A front that does not read for a while loses nothing. */
static void a_slow_front_gets_every_message(void **state) {
    (void)state;
    front f = front_start();
    front_admit(&f, "a", "fine", 1000, 16);
    usleep(200000);
    int progress = 0, images = 0;
    do {
        assert_true(front_next(&f, NULL));
        progress += f.last.kind == MESSAGE_PROGRESS;
        images += f.last.kind == MESSAGE_IMAGE;
    } while (f.last.kind != MESSAGE_DONE);
    assert_int_equal(progress, 2 + 16 * 1001);
    assert_int_equal(images, 16);
    assert_int_equal(front_end(&f), 0);
}

typedef struct shown {
    int previews, last; /* the step of its last; 0: none */
} shown;

/* A preview stands between the progress of its step's slice and the next one's. */
static void note_shown(front *f, shown *s, int at, int fd) {
    if (f->last.kind == MESSAGE_PROGRESS && f->last.progress.phase == PHASE_DENOISE && s->last > 0)
        assert_true(f->last.progress.step >= s->last);
    if (f->last.kind != MESSAGE_PREVIEW) return;
    uint8_t pixels[7];
    assert_int_equal(f->last.preview.step, at + 1);
    assert_int_equal(f->last.preview.index, 0);
    assert_int_equal(f->last.preview.width, 2);
    assert_int_equal(f->last.preview.height, 1);
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    assert_int_equal(pread(fd, pixels, sizeof pixels, 0), 6);
    assert_memory_equal(pixels, ((uint8_t[]){1, 2, 3, 4, 5, 6}), 6);
    s->previews++;
    s->last = f->last.preview.step;
}

/* Tasks alone and in shared steps: the first step is shown, later ones now and then. */
static void previews_are_few_and_in_their_place(void **state) {
    (void)state;
    static const char *const prompts[] = {"shows", "share shows", "share shows"};
    front f = front_start();
    for (int alone = 1; alone >= 0; alone--) {
        int tasks = alone ? 1 : 2, done = 0, at[2] = {0}, fd;
        shown seen[2] = {{0}};
        double begin = clock_seconds();
        for (int i = 0; i < tasks; i++) front_admit(&f, i == 0 ? "0" : "1", prompts[tasks - 1 + i], 30, 1);
        while (done < tasks) {
            assert_true(front_next(&f, &fd));
            int i = f.last.id[0] - '0';
            assert_in_range(i, 0, tasks - 1);
            if (f.last.kind == MESSAGE_PREVIEW && seen[i].previews == 0) assert_int_equal(f.last.preview.step, 1);
            note_shown(&f, &seen[i], at[i], fd);
            if (f.last.kind == MESSAGE_PROGRESS) at[i] = f.last.progress.step;
            done += f.last.kind == MESSAGE_DONE;
            if (fd >= 0) close(fd);
        }
        /* 300 ms and more, of which each preview but the first waits for 100. */
        for (int i = 0; i < tasks; i++) {
            assert_true(seen[i].previews >= 2);
            assert_true(0.1 * (seen[i].previews - 1) <= clock_seconds() - begin);
        }
    }
    assert_int_equal(front_end(&f), 0);
}

static void a_preview_waits_for_nobody(void **state) {
    (void)state;
    int ends[2];
    engine_files files;
    assert_true(engine_message_pair(ends, NULL));
    static front_link link;
    static engine_message m;
    link = (front_link){.socket = ends[1], .engine = ENGINE_NUMBER};
    const uint8_t rgb[3] = {9, 9, 9};
    const generated_preview preview = {2, 5, 1, 1, rgb};
    m = (engine_message){.kind = MESSAGE_PROGRESS, .engine = ENGINE_NUMBER, .progress = {.images = 1}};
    while (engine_message_send(ends[1], &m, -1, NULL)) continue;
    assert_false(front_link_preview(&link, "t", &preview));
    assert_false(link.over);
    for (bool got = true; got;) assert_true(engine_message_receive(ends[0], 0, &m, &files, &got, NULL));
    assert_true(front_link_preview(&link, "t", &preview));
    bool got;
    assert_true(engine_message_receive(ends[0], 0, &m, &files, &got, NULL));
    assert_int_equal(m.kind, MESSAGE_PREVIEW);
    assert_int_equal(m.preview.index, 2);
    assert_int_equal(m.preview.step, 5);
    assert_int_equal(files.count, 1);
    engine_files_close(&files);
    close(ends[0]);
    assert_false(front_link_preview(&link, "t", &preview));
    assert_true(link.over);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_hello_and_goes_with_the_front),
        cmocka_unit_test(a_device_that_does_not_open_is_told_and_ends_it),
        cmocka_unit_test(a_task_is_told_slice_by_slice),
        cmocka_unit_test(a_failed_task_leaves_the_others_alone),
        cmocka_unit_test(files_go_to_their_task),
        cmocka_unit_test(stop_ends_it_between_slices),
        cmocka_unit_test(it_ends_within_a_slice_of_the_front),
        cmocka_unit_test(an_abort_ends_the_process_by_its_signal),
        cmocka_unit_test(messages_for_another_engine_are_ignored),
        cmocka_unit_test(signals_of_the_group_are_left_to_the_front),
        cmocka_unit_test(the_peak_is_the_tasks_own),
        cmocka_unit_test(previews_are_few_and_in_their_place),
        cmocka_unit_test(a_preview_waits_for_nobody),
        cmocka_unit_test(a_slow_front_gets_every_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
