/* Datagrams of random and mutated bytes, with and without descriptors: refused or a message within its ranges; never a crash, never a
 * descriptor left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/task_message.h"
#include "../unit/descriptors.h"
#include "mutate.h"

static void check(const engine_message *m, const engine_files *files) {
    assert_in_range(m->kind, MESSAGE_ADMIT, MESSAGE_FAILED);
    assert_true(strlen(m->id) < sizeof m->id);
    int beside = m->kind == MESSAGE_IMAGE || m->kind == MESSAGE_PREVIEW;
    if (m->kind == MESSAGE_ADMIT) beside = m->request.has_image + m->request.has_mask;
    assert_int_equal(files->count, beside);
    if (m->kind == MESSAGE_PREVIEW) {
        assert_true(m->id[0] != '\0' && m->preview.index >= 0 && m->preview.index < ENGINE_MAX_IMAGES);
        assert_in_range(m->preview.width, 1, ENGINE_PREVIEW_SIDE);
        assert_in_range(m->preview.height, 1, ENGINE_PREVIEW_SIDE);
    }
    if (m->kind == MESSAGE_ADMIT) {
        assert_true(strlen(m->request.prompt) <= ENGINE_PROMPT_BYTES && strlen(m->request.negative_prompt) <= ENGINE_PROMPT_BYTES);
        assert_in_range(m->request.width, 1, MODEL_MAX_SIDE);
        assert_in_range(m->request.count, 1, ENGINE_MAX_IMAGES);
        assert_true(m->request.has_image || !m->request.has_mask);
        assert_true(!m->request.has_image || (m->request.strength > 0 && m->request.strength <= 1));
    }
    if (m->kind == MESSAGE_PRIORITY) assert_true(m->id[0] != '\0' && m->priority >= 0 && m->priority <= 3);
    if (m->kind == MESSAGE_PROGRESS) assert_true(m->progress.step >= 0 && m->progress.step <= m->progress.steps);
    if (m->kind == MESSAGE_FAILED) assert_true(strlen(m->fault.text) < sizeof m->fault.text);
}

static int beside_valid(int kind) { return kind == MESSAGE_ADMIT ? 2 : kind == MESSAGE_IMAGE || kind == MESSAGE_PREVIEW; }

/* What engine_message_send_files puts on the wire for a valid message of each kind. */
static size_t record_valid(int kind, int memfd, char *bytes, size_t capacity) {
    static engine_message m;
    memset(&m, 0, sizeof m);
    m.kind = (engine_message_kind)kind;
    strcpy(m.id, "task");
    switch (m.kind) {
    case MESSAGE_ADMIT:
        m.request.width = m.request.height = 64;
        m.request.steps = m.request.count = m.request.max_sequence_length = 1;
        m.request.has_image = m.request.has_mask = true;
        m.request.strength = 0.5;
        break;
    case MESSAGE_PROGRESS: m.progress.images = m.progress.steps = 1; break;
    case MESSAGE_IMAGE: m.image.width = m.image.height = 64; break;
    case MESSAGE_PREVIEW: m.preview.step = m.preview.width = m.preview.height = 16; break;
    case MESSAGE_FAILED: m.fault.code = ERROR_IO; break;
    default: break;
    }
    int ends[2];
    assert_true(engine_message_pair(ends, NULL));
    const engine_files files = {beside_valid(kind), {memfd, memfd}};
    assert_true(engine_message_send_files(ends[0], &m, &files, NULL));
    ssize_t n = recv(ends[1], bytes, capacity, 0);
    assert_true(n > 0);
    close(ends[0]);
    close(ends[1]);
    return (size_t)n;
}

static void datagrams_of_any_bytes(void **state) {
    (void)state;
    static char valid[MESSAGE_FAILED + 1][sizeof(engine_message)], bytes[sizeof(engine_message) + 32];
    static engine_message m;
    size_t sizes[MESSAGE_FAILED + 1];
    int memfd = memfd_create("fuzz", MFD_CLOEXEC), ends[2];
    for (int kind = 0; kind <= MESSAGE_FAILED; kind++) sizes[kind] = record_valid(kind, memfd, valid[kind], sizeof valid[kind]);
    assert_true(engine_message_pair(ends, NULL));
    int before = open_descriptors(), taken = 0, beside[8];
    for (int i = 0; i < 8; i++) beside[i] = memfd;
    uint64_t random = 3;
    for (int i = 0; i < 50000; i++) {
        int kind = (int)(next_random(&random) % (MESSAGE_FAILED + 1));
        size_t size = sizes[kind];
        memcpy(bytes, valid[kind], size);
        int changes = (int)(next_random(&random) % 4);
        for (int k = 0; k < changes; k++) bytes[next_random(&random) % size] = (char)next_random(&random);
        if (i % 16 == 0)
            for (size_t k = sizeof(int); k < size; k++) bytes[k] = (char)next_random(&random);
        if (i % 8 == 0) size = next_random(&random) % sizeof bytes;
        int fds = beside_valid(kind);
        if (i % 5 == 0) fds = (int)(next_random(&random) % 8);
        if (size == 0 && fds == 0) continue; /* a zero-sized datagram is the end of the socket */
        send_raw(ends[0], bytes, size, beside, fds);
        engine_files files;
        bool got;
        error e = {0};
        bool ok = engine_message_receive(ends[1], 0, &m, &files, &got, &e);
        assert_int_equal(ok, got);
        if (got) {
            check(&m, &files);
            taken++;
        } else {
            assert_int_equal(e.code, ERROR_IO);
            assert_int_equal(files.count, 0);
        }
        engine_files_close(&files);
    }
    assert_true(taken > 5000);
    assert_int_equal(open_descriptors(), before);
    close(ends[0]);
    close(ends[1]);
    close(memfd);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(datagrams_of_any_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
