/* The socket between front and engine: every message arrives as it was sent, and nothing else gets through, takes a descriptor along or
 * leaves one open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/task_message.h"
#include "descriptors.h"

typedef struct ends {
    int front, engine;
} ends;

static ends make_ends(void) {
    int pair[2];
    assert_true(engine_message_pair(pair, NULL));
    return (ends){pair[0], pair[1]};
}

static void close_ends(ends s) {
    close(s.front);
    close(s.engine);
}

/* How many descriptors the sample of this kind has beside it. */
static int files_beside(engine_message_kind kind) { return kind == MESSAGE_ADMIT ? 2 : kind == MESSAGE_IMAGE || kind == MESSAGE_PREVIEW; }

/* A valid message of each kind. */
static engine_message *sample(engine_message_kind kind) {
    static engine_message m;
    memset(&m, 0, sizeof m);
    m.kind = kind;
    m.engine = UINT64_MAX;
    strcpy(m.id, "01HZX3J9Q2N8R5T7V0W1Y4A6BC");
    switch (kind) {
    case MESSAGE_ADMIT:
        m.request = (engine_request){.width = 1024, .height = 512, .steps = ENGINE_MAX_STEPS, .count = ENGINE_MAX_IMAGES,
                                     .max_sequence_length = 512, .guidance_scale = 3.5, .true_cfg_scale = -1e300, .seed = UINT64_MAX,
                                     .has_negative_prompt = true, .precision = "bf16", .has_image = true, .has_mask = true, .mask_is_alpha = true, .strength = 1};
        memset(m.request.prompt, 'p', ENGINE_PROMPT_BYTES);
        memset(m.request.negative_prompt, 'n', ENGINE_PROMPT_BYTES);
        memset(m.request.model_folder, 'f', MODEL_PATH_BYTES - 1);
        break;
    case MESSAGE_HELLO:
        strcpy(m.hello.device_kind, "vulkan");
        strcpy(m.hello.device_name, "llvmpipe");
        m.hello.threads = 2;
        break;
    case MESSAGE_PROGRESS:
        m.progress.phase = PHASE_DECODE;
        m.progress.image = 1;
        m.progress.images = 2;
        m.progress.step = m.progress.steps = 28;
        break;
    case MESSAGE_IMAGE:
        m.image.index = 3;
        m.image.width = m.image.height = 64;
        m.image.seed = 1ULL << 63;
        break;
    case MESSAGE_PREVIEW:
        m.preview.index = ENGINE_MAX_IMAGES - 1;
        m.preview.step = ENGINE_MAX_STEPS;
        m.preview.width = ENGINE_PREVIEW_SIDE;
        m.preview.height = 1;
        break;
    case MESSAGE_DONE: m.metrics = (engine_metrics){.load_seconds = 0.5, .memory_peak = UINT64_MAX, .steps_run = 56}; break;
    case MESSAGE_FAILED: error_field(&m.fault, ERROR_CANCELLED, "prompt", "cancelled"); break;
    case MESSAGE_PRIORITY: m.priority = 3; break;
    case MESSAGE_LOAD:
    case MESSAGE_PRELOAD:
    case MESSAGE_UNLOAD:
        m.model = (engine_model_name){.model = "demo", .folder = "/models/demo", .precision = "auto", .only_if_free = true};
        break;
    case MESSAGE_PROFILE:
    case MESSAGE_KNOWN_PROFILE:
        m.profile = (engine_profile){.model = "demo", .precision = "bf16", .width = 64, .height = 32, .text_tokens = 77, .batch = 4,
                                     .peak_bytes = UINT64_MAX, .step_seconds = 0.25};
        break;
    case MESSAGE_SNAPSHOT:
        m.snapshot = (engine_snapshot){.number = 7, .state = "high", .model_count = ENGINE_MODEL_ROWS, .amp_enabled = true,
                                       .dtype = {"torch.bfloat16", "measured"}};
        for (int i = 0; i < ENGINE_MODEL_ROWS; i++)
            m.snapshot.models[i] = (engine_model_row){.name = "demo", .state = MODEL_IN_USE, .leases = 3};
        break;
    case MESSAGE_PLAN: m.plan = (engine_plan){.level = 2, .step_count = 1, .steps = {"decode in tiles"}, .peak_bytes = 5}; break;
    case MESSAGE_ANSWER:
        m.answer = (engine_answer){.ok = true, .ram_bytes = 9, .unloaded_count = 1, .unloaded = {"demo"}, .seconds = 0.5};
        break;
    default: break;
    }
    return &m;
}

/* A file of six bytes: "pixel0" … */
static int make_memfd(int number) {
    char text[8];
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(text, sizeof text, "pixel%d", number % 10);
    assert_int_equal(write(fd, text, 6), 6);
    return fd;
}

static engine_files make_files(int count) {
    engine_files files = {count};
    for (int i = 0; i < count; i++) files.fds[i] = make_memfd(i);
    return files;
}

static void check_files(const engine_files *files) {
    for (int i = 0; i < files->count; i++) {
        char text[6], wanted[8];
        snprintf(wanted, sizeof wanted, "pixel%d", i);
        assert_int_equal(pread(files->fds[i], text, 6, 0), 6);
        assert_memory_equal(text, wanted, 6); /* in their order */
        assert_int_equal(fcntl(files->fds[i], F_GETFD), FD_CLOEXEC);
    }
}

static void every_kind_arrives_as_it_was_sent(void **state) {
    (void)state;
    ends s = make_ends();
    int before = open_descriptors();
    for (int kind = MESSAGE_ADMIT; kind <= MESSAGE_FAILED; kind++) {
        engine_message *m = sample((engine_message_kind)kind);
        static engine_message received;
        memset(&received, 0xA5, sizeof received);
        engine_files files = make_files(files_beside(m->kind)), taken;
        bool got;
        error e = {0};
        assert_true(engine_message_send_files(s.front, m, &files, &e));
        if (!engine_message_receive(s.engine, 1000, &received, &taken, &got, &e)) fail_msg("kind %d: %s", kind, e.text);
        assert_true(got);
        assert_memory_equal(&received, m, sizeof received); /* what the kind does not use is zero */
        assert_int_equal(taken.count, files.count);
        check_files(&taken);
        engine_files_close(&taken);
        assert_int_equal(taken.count, 0);
        engine_files_close(&files);
    }
    assert_int_equal(open_descriptors(), before);
    close_ends(s);
}

static void small_kinds_are_small_on_the_wire(void **state) {
    (void)state;
    ends s = make_ends();
    static char raw[sizeof(engine_message)];
    assert_true(engine_message_send(s.front, sample(MESSAGE_PROGRESS), -1, NULL));
    assert_true(recv(s.engine, raw, sizeof raw, 0) < 128);
    engine_files files = make_files(2);
    assert_true(engine_message_send_files(s.front, sample(MESSAGE_ADMIT), &files, NULL));
    engine_files_close(&files);
    assert_true(recv(s.engine, raw, sizeof raw, 0) > 2 * ENGINE_PROMPT_BYTES);
    close_ends(s);
}

static void waiting_ends_in_time(void **state) {
    (void)state;
    ends s = make_ends();
    static engine_message m;
    engine_files files;
    bool got = true;
    double begin = clock_seconds();
    assert_true(engine_message_receive(s.front, 0, &m, &files, &got, NULL));
    assert_false(got);
    got = true;
    assert_true(engine_message_receive(s.front, 50, &m, &files, &got, NULL));
    assert_false(got);
    double took = clock_seconds() - begin;
    assert_true(took >= 0.049 && took < 5);
    close_ends(s);
}

static void a_full_socket_is_busy_and_holds_hundreds(void **state) {
    (void)state;
    ends s = make_ends();
    error e = {0};
    int sent = 0;
    while (engine_message_send(s.engine, sample(MESSAGE_PROGRESS), -1, &e)) sent++;
    assert_int_equal(e.code, ERROR_BUSY);
    assert_true(sent >= 200);
    double begin = clock_seconds();
    assert_false(engine_message_send_within(s.engine, sample(MESSAGE_PROGRESS), -1, 60, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    assert_true(clock_seconds() - begin >= 0.059);
    static engine_message m;
    engine_files files;
    int received = 0;
    bool got = true;
    while (engine_message_receive(s.front, 0, &m, &files, &got, &e) && got) received++;
    assert_int_equal(received, sent);
    close_ends(s);
}

static void *read_one_later(void *argument) {
    static engine_message m;
    engine_files files;
    bool got;
    usleep(50000);
    while (engine_message_receive(*(int *)argument, 100, &m, &files, &got, NULL) && got) {}
    return NULL;
}

static void the_engine_can_wait_for_room(void **state) {
    (void)state;
    ends s = make_ends();
    while (engine_message_send(s.engine, sample(MESSAGE_PROGRESS), -1, NULL)) {}
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_one_later, &s.front), 0);
    assert_true(engine_message_send_within(s.engine, sample(MESSAGE_PROGRESS), -1, 10000, NULL));
    pthread_join(reader, NULL);
    close_ends(s);
}

static void a_peer_that_is_gone_is_an_error_after_its_last_message(void **state) {
    (void)state;
    ends s = make_ends();
    static engine_message m;
    engine_files files;
    bool got;
    error e = {0};
    assert_true(engine_message_send(s.engine, sample(MESSAGE_DONE), -1, NULL));
    close(s.engine);
    assert_true(engine_message_receive(s.front, -1, &m, &files, &got, &e));
    assert_true(got);
    assert_false(engine_message_receive(s.front, -1, &m, &files, &got, &e));
    assert_int_equal(e.code, ERROR_IO);
    assert_false(got);
    assert_int_equal(files.count, 0);
    assert_false(engine_message_send(s.front, sample(MESSAGE_STOP), -1, &e)); /* and no SIGPIPE */
    assert_int_equal(e.code, ERROR_IO);
    assert_false(engine_message_send_within(s.front, sample(MESSAGE_STOP), -1, 10000, &e));
    assert_int_equal(e.code, ERROR_IO);
    close(s.front);
    s = make_ends();
    engine_message *unknown = sample(MESSAGE_STOP);
    unknown->kind = (engine_message_kind)99;
    assert_false(engine_message_send(s.front, unknown, -1, &e));
    assert_int_equal(e.code, ERROR_INTERNAL);
    close_ends(s);
}

/* Whether bytes and descriptors, sent as they are, are taken for a message. */
static bool raw_is_taken(const void *bytes, size_t size, const int *fds, int count) {
    ends s = make_ends();
    send_raw(s.engine, bytes, size, fds, count);
    close(s.engine);
    int before = open_descriptors();
    engine_files files;
    static engine_message m;
    bool got;
    error e = {0};
    bool ok = engine_message_receive(s.front, 0, &m, &files, &got, &e);
    assert_int_equal(ok, got);
    if (!ok) assert_int_equal(e.code, ERROR_IO);
    assert_int_equal(open_descriptors(), before + files.count); /* nothing is left open that was not handed over */
    assert_int_equal(files.count, ok ? count : 0);
    engine_files_close(&files);
    close(s.front);
    return ok;
}

static size_t wire_bytes(engine_message_kind kind) {
    ends s = make_ends();
    static char raw[sizeof(engine_message)];
    engine_files files = make_files(files_beside(kind));
    assert_true(engine_message_send_files(s.front, sample(kind), &files, NULL));
    engine_files_close(&files);
    ssize_t n = recv(s.engine, raw, sizeof raw, 0);
    assert_true(n > 0);
    close_ends(s);
    return (size_t)n;
}

static void wrong_sizes_are_refused(void **state) {
    (void)state;
    static char raw[sizeof(engine_message) + 64];
    engine_files files = make_files(2);
    for (int kind = MESSAGE_ADMIT; kind <= MESSAGE_FAILED; kind++) {
        size_t n = wire_bytes((engine_message_kind)kind);
        const int count = files_beside((engine_message_kind)kind);
        memset(raw, 0, sizeof raw);
        memcpy(raw, sample((engine_message_kind)kind), sizeof(engine_message));
        assert_true(raw_is_taken(raw, n, files.fds, count));
        assert_false(raw_is_taken(raw, n - 1, files.fds, count));
        assert_false(raw_is_taken(raw, n + 1, files.fds, count));
        assert_false(raw_is_taken(raw, 3, files.fds, count));
        assert_false(raw_is_taken(raw, sizeof raw, files.fds, count)); /* longer than any message */
        assert_false(raw_is_taken(raw, 0, files.fds, count));
    }
    engine_files_close(&files);
}

static void descriptors_come_with_pictures_and_tasks_alone(void **state) {
    (void)state;
    int fds[16];
    for (int i = 0; i < 16; i++) fds[i] = make_memfd(i);
    size_t n = wire_bytes(MESSAGE_IMAGE);
    static engine_message m;
    m = *sample(MESSAGE_IMAGE);
    assert_true(raw_is_taken(&m, n, fds, 1));
    assert_false(raw_is_taken(&m, n, fds, 0));
    assert_false(raw_is_taken(&m, n, fds, 2));
    assert_false(raw_is_taken(&m, n, fds, 16)); /* more than there is room to see */
    n = wire_bytes(MESSAGE_ADMIT);
    m = *sample(MESSAGE_ADMIT);
    for (int count = 0; count <= 5; count++) assert_int_equal(raw_is_taken(&m, n, fds, count), count == 2);
    m.request.has_mask = false;
    for (int count = 0; count <= 5; count++) assert_int_equal(raw_is_taken(&m, n, fds, count), count == 1);
    m.request.has_image = false;
    for (int count = 0; count <= 5; count++) assert_int_equal(raw_is_taken(&m, n, fds, count), count == 0);
    n = wire_bytes(MESSAGE_STOP);
    m = *sample(MESSAGE_STOP);
    assert_true(raw_is_taken(&m, n, fds, 0));
    assert_false(raw_is_taken(&m, n, fds, 1));
    for (int i = 0; i < 16; i++) close(fds[i]);
}

/* One field spoilt at a time. */
static void values_out_of_range_are_refused(void **state) {
    (void)state;
    static engine_message m;
    engine_files files = make_files(2);
#define REFUSED(KIND, FIELD, VALUE)                                                                                  \
    do {                                                                                                             \
        m = *sample(KIND);                                                                                           \
        m.FIELD = VALUE;                                                                                             \
        if (raw_is_taken(&m, wire_bytes(KIND), files.fds, files_beside(KIND))) fail_msg(#FIELD " = " #VALUE);      \
    } while (0)
#define UNENDED(KIND, FIELD)                                                                                         \
    do {                                                                                                             \
        m = *sample(KIND);                                                                                           \
        memset(m.FIELD, 'x', sizeof m.FIELD);                                                                        \
        if (raw_is_taken(&m, wire_bytes(KIND), files.fds, files_beside(KIND))) fail_msg(#FIELD " without its NUL"); \
    } while (0)
    UNENDED(MESSAGE_STOP, id);
    UNENDED(MESSAGE_ADMIT, request.model_folder);
    UNENDED(MESSAGE_ADMIT, request.precision);
    UNENDED(MESSAGE_ADMIT, request.prompt);
    UNENDED(MESSAGE_ADMIT, request.negative_prompt);
    UNENDED(MESSAGE_HELLO, hello.device_kind);
    UNENDED(MESSAGE_HELLO, hello.device_name);
    UNENDED(MESSAGE_FAILED, fault.field);
    UNENDED(MESSAGE_FAILED, fault.text);
    UNENDED(MESSAGE_ADMIT, request.model);
    UNENDED(MESSAGE_LOAD, model.model);
    UNENDED(MESSAGE_UNLOAD, model.folder);
    UNENDED(MESSAGE_PRELOAD, model.precision);
    UNENDED(MESSAGE_PROFILE, profile.model);
    UNENDED(MESSAGE_KNOWN_PROFILE, profile.precision);
    UNENDED(MESSAGE_SNAPSHOT, snapshot.state);
    UNENDED(MESSAGE_SNAPSHOT, snapshot.vae.reason);
    UNENDED(MESSAGE_SNAPSHOT, snapshot.models[ENGINE_MODEL_ROWS - 1].name);
    UNENDED(MESSAGE_PLAN, plan.steps[ENGINE_PLAN_STEPS - 1]);
    UNENDED(MESSAGE_ANSWER, answer.skipped[ENGINE_MODEL_ROWS - 1]);
    UNENDED(MESSAGE_ANSWER, answer.fault.text);
    REFUSED(MESSAGE_ADMIT, request.priority, 4);
    REFUSED(MESSAGE_SUSPEND, id[0], '\0');
    REFUSED(MESSAGE_PRIORITY, id[0], '\0');
    REFUSED(MESSAGE_PRIORITY, priority, 4);
    REFUSED(MESSAGE_PRIORITY, priority, -1);
    REFUSED(MESSAGE_LOAD, id[0], '\0');
    REFUSED(MESSAGE_LOAD, model.model[0], '\0');
    REFUSED(MESSAGE_CLEANUP, id[0], '\0');
    REFUSED(MESSAGE_PROFILE, profile.batch, 0);
    REFUSED(MESSAGE_PROFILE, profile.step_seconds, -1);
    REFUSED(MESSAGE_KNOWN_PROFILE, profile.decode_seconds, NAN);
    REFUSED(MESSAGE_SNAPSHOT, snapshot.model_count, ENGINE_MODEL_ROWS + 1);
    REFUSED(MESSAGE_SNAPSHOT, snapshot.models[1].state, (engine_model_state)9);
    REFUSED(MESSAGE_PLAN, plan.step_count, ENGINE_PLAN_STEPS + 1);
    REFUSED(MESSAGE_ANSWER, answer.unloaded_count, -1);
    REFUSED(MESSAGE_ANSWER, answer.seconds, INFINITY);
    REFUSED(MESSAGE_ADMIT, id[0], '\0');
    REFUSED(MESSAGE_CANCEL, id[0], '\0');
    REFUSED(MESSAGE_ADMIT, request.width, 0);
    REFUSED(MESSAGE_ADMIT, request.height, MODEL_MAX_SIDE + 1);
    REFUSED(MESSAGE_ADMIT, request.steps, -1);
    REFUSED(MESSAGE_ADMIT, request.steps, ENGINE_MAX_STEPS + 1);
    REFUSED(MESSAGE_ADMIT, request.count, ENGINE_MAX_IMAGES + 1);
    REFUSED(MESSAGE_ADMIT, request.max_sequence_length, 0);
    REFUSED(MESSAGE_ADMIT, request.guidance_scale, NAN);
    REFUSED(MESSAGE_ADMIT, request.true_cfg_scale, INFINITY);
    for (size_t i = 0; i < 4; i++) {
        m = *sample(MESSAGE_ADMIT);
        bool *const flags[] = {&m.request.has_negative_prompt, &m.request.has_image, &m.request.has_mask, &m.request.mask_is_alpha};
        memset(flags[i], 2, 1);
        assert_false(raw_is_taken(&m, wire_bytes(MESSAGE_ADMIT), files.fds, 2));
    }
    m = *sample(MESSAGE_ADMIT);
    m.request.has_image = false; /* a mask of nothing */
    assert_false(raw_is_taken(&m, wire_bytes(MESSAGE_ADMIT), files.fds, 1));
    REFUSED(MESSAGE_ADMIT, request.strength, 0);
    REFUSED(MESSAGE_ADMIT, request.strength, 1.01);
    REFUSED(MESSAGE_ADMIT, request.strength, NAN);
    REFUSED(MESSAGE_PROGRESS, progress.phase, (engine_phase)4);
    REFUSED(MESSAGE_PROGRESS, progress.phase, (engine_phase)-1);
    REFUSED(MESSAGE_PROGRESS, progress.images, 0);
    REFUSED(MESSAGE_PROGRESS, progress.image, 3);
    REFUSED(MESSAGE_PROGRESS, progress.image, -1);
    REFUSED(MESSAGE_PROGRESS, progress.step, 29);
    REFUSED(MESSAGE_PROGRESS, progress.steps, INT32_MAX);
    REFUSED(MESSAGE_IMAGE, image.index, ENGINE_MAX_IMAGES);
    REFUSED(MESSAGE_IMAGE, image.width, INT32_MAX);
    REFUSED(MESSAGE_IMAGE, image.height, 0);
    REFUSED(MESSAGE_PREVIEW, id[0], '\0');
    REFUSED(MESSAGE_PREVIEW, preview.index, -1);
    REFUSED(MESSAGE_PREVIEW, preview.index, ENGINE_MAX_IMAGES);
    REFUSED(MESSAGE_PREVIEW, preview.step, 0);
    REFUSED(MESSAGE_PREVIEW, preview.step, ENGINE_MAX_STEPS + 1);
    REFUSED(MESSAGE_PREVIEW, preview.width, ENGINE_PREVIEW_SIDE + 1);
    REFUSED(MESSAGE_PREVIEW, preview.height, 0);
    REFUSED(MESSAGE_DONE, metrics.load_seconds, NAN);
    REFUSED(MESSAGE_DONE, metrics.steps_run, -1);
    REFUSED(MESSAGE_FAILED, fault.code, ERROR_NONE);
    REFUSED(MESSAGE_FAILED, fault.code, (error_code)(ERROR_INTERNAL + 1));
    REFUSED(MESSAGE_STOP, kind, (engine_message_kind)(MESSAGE_FAILED + 1));
    REFUSED(MESSAGE_STOP, kind, (engine_message_kind)-1);
    engine_files_close(&files);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_arrives_as_it_was_sent),
        cmocka_unit_test(small_kinds_are_small_on_the_wire),
        cmocka_unit_test(waiting_ends_in_time),
        cmocka_unit_test(a_full_socket_is_busy_and_holds_hundreds),
        cmocka_unit_test(the_engine_can_wait_for_room),
        cmocka_unit_test(a_peer_that_is_gone_is_an_error_after_its_last_message),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(descriptors_come_with_pictures_and_tasks_alone),
        cmocka_unit_test(values_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
