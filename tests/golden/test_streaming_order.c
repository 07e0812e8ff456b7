/* Two streams share the staging slots: what is copied waits for what is computed and the other way round. The calls that order them are
 * written down here, as a device is free to understand them: within a stream one after the other, between streams only what events or this
 * thread's waiting say. Every copy must come after the last use of its slot, every computation after the copy of what it uses, and copies
 * must not wait for everything.
 *
 *     test_streaming_order [DEVICE]        a device with events; "vulkan" is the default
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../unit/safetensors_file.h"
#include "models/flux_transformer.h"
#include "random_flux.h"

enum { SKIPPED = 77, MAX_STREAMS = 4, MAX_EVENTS = 16, MAX_SLOTS = 4 };

static const random_flux model = {.heads = 1, .doubles = 2, .singles = 3};
static device *dev;
static char folder[64];
static size_t least;

/* How far a stream has come, and how far it knows each other one to be. seen[itself] counts what was handed to it. */
typedef struct stream {
    ggml_backend_t backend;
    int seen[MAX_STREAMS];
} stream;

typedef struct event {
    ggml_backend_event_t event;
    int seen[MAX_STREAMS];
} event;

/* A staging buffer: whose weights were last copied there, and which stream did what when. */
typedef struct slot {
    ggml_backend_buffer_t buffer;
    char block[64];
    int writer, written, reader, read;
} slot;

static stream streams[MAX_STREAMS];
static event events[MAX_EVENTS];
static slot slots[MAX_SLOTS];
static int copies, computations, overlaps;

static int stream_of(ggml_backend_t backend) {
    int i = 0;
    while (i < MAX_STREAMS && streams[i].backend != NULL && streams[i].backend != backend) i++;
    assert_true(i < MAX_STREAMS);
    streams[i].backend = backend;
    return i;
}

static event *event_of(ggml_backend_event_t e) {
    int i = 0;
    while (i < MAX_EVENTS && events[i].event != NULL && events[i].event != e) i++;
    assert_true(i < MAX_EVENTS);
    events[i].event = e;
    return &events[i];
}

static slot *slot_of(ggml_backend_buffer_t buffer, bool make) {
    for (int i = 0; i < MAX_SLOTS; i++)
        if (slots[i].buffer == buffer || (make && slots[i].buffer == NULL)) {
            slots[i].buffer = buffer;
            return &slots[i];
        }
    return NULL;
}

static void learn(int *seen, const int *other) {
    for (int i = 0; i < MAX_STREAMS; i++)
        if (other[i] > seen[i]) seen[i] = other[i];
}

/* The block's name, "transformer_blocks.3", of a weight's. */
static void block_of(const char *name, char block[64]) {
    const char *dot = strchr(name, '.');
    int length = dot != NULL ? (int)(dot - name) + 1 + (int)strcspn(dot + 1, ".") : 0;
    snprintf(block, 64, "%.*s", length, name);
}

/* ── in the place of ggml's ── */

void __real_ggml_backend_tensor_set_async(ggml_backend_t b, struct ggml_tensor *t, const void *data, size_t offset, size_t size);
void __wrap_ggml_backend_tensor_set_async(ggml_backend_t b, struct ggml_tensor *t, const void *data, size_t offset, size_t size);
enum ggml_status __real_ggml_backend_graph_compute_async(ggml_backend_t b, struct ggml_cgraph *g);
enum ggml_status __wrap_ggml_backend_graph_compute_async(ggml_backend_t b, struct ggml_cgraph *g);
void __real_ggml_backend_event_record(ggml_backend_event_t e, ggml_backend_t b);
void __wrap_ggml_backend_event_record(ggml_backend_event_t e, ggml_backend_t b);
void __real_ggml_backend_event_wait(ggml_backend_t b, ggml_backend_event_t e);
void __wrap_ggml_backend_event_wait(ggml_backend_t b, ggml_backend_event_t e);
void __real_ggml_backend_event_synchronize(ggml_backend_event_t e);
void __wrap_ggml_backend_event_synchronize(ggml_backend_event_t e);
void __real_ggml_backend_synchronize(ggml_backend_t b);
void __wrap_ggml_backend_synchronize(ggml_backend_t b);

void __wrap_ggml_backend_tensor_set_async(ggml_backend_t b, struct ggml_tensor *t, const void *data, size_t offset, size_t size) {
    int me = stream_of(b);
    slot *s = slot_of(t->buffer, true);
    if (s->read > 0) assert_true(streams[me].seen[s->reader] >= s->read);
    block_of(t->name, s->block);
    s->writer = me;
    s->written = ++streams[me].seen[me];
    copies++;
    /* Another stream has work that this copy need not wait for. */
    for (int i = 0; i < MAX_STREAMS; i++) overlaps += i != me && streams[i].seen[i] > streams[me].seen[i];
    __real_ggml_backend_tensor_set_async(b, t, data, offset, size);
}

enum ggml_status __wrap_ggml_backend_graph_compute_async(ggml_backend_t b, struct ggml_cgraph *g) {
    int me = stream_of(b);
    streams[me].seen[me]++;
    for (int i = 0; i < ggml_graph_n_nodes(g); i++)
        for (int k = 0; k < GGML_MAX_SRC; k++) {
            const struct ggml_tensor *t = ggml_graph_node(g, i)->src[k];
            slot *s = t != NULL ? slot_of(t->buffer, false) : NULL;
            if (s == NULL) continue;
            char block[64];
            block_of(t->name, block);
            assert_string_equal(block, s->block);
            assert_true(streams[me].seen[s->writer] >= s->written);
            s->reader = me;
            s->read = streams[me].seen[me];
        }
    computations++;
    return __real_ggml_backend_graph_compute_async(b, g);
}

void __wrap_ggml_backend_event_record(ggml_backend_event_t e, ggml_backend_t b) {
    memcpy(event_of(e)->seen, streams[stream_of(b)].seen, sizeof event_of(e)->seen);
    __real_ggml_backend_event_record(e, b);
}

void __wrap_ggml_backend_event_wait(ggml_backend_t b, ggml_backend_event_t e) {
    learn(streams[stream_of(b)].seen, event_of(e)->seen);
    __real_ggml_backend_event_wait(b, e);
}

/* What this thread has waited for lies behind whatever it asks for later. */
void __wrap_ggml_backend_event_synchronize(ggml_backend_event_t e) {
    for (int i = 0; i < MAX_STREAMS; i++) learn(streams[i].seen, event_of(e)->seen);
    __real_ggml_backend_event_synchronize(e);
}

void __wrap_ggml_backend_synchronize(ggml_backend_t b) {
    for (int i = 0; i < MAX_STREAMS; i++) learn(streams[i].seen, streams[stream_of(b)].seen);
    __real_ggml_backend_synchronize(b);
}

/* ── tests ── */

static void forget(void) {
    memset(streams, 0, sizeof streams);
    memset(events, 0, sizeof events);
    memset(slots, 0, sizeof slots);
    copies = computations = overlaps = 0;
}

static void every_use_waits_for_its_copy_and_every_copy_for_the_last_use(void **state) {
    (void)state;
    const load_options o = {.precision = PRECISION_AUTO, .resident_bytes = least};
    const flux_step_shape shapes[2] = {{2, 3, 4, 1}, {3, 3, 2, 1}};
    static float hidden[4 * RANDOM_FLUX_TEXT], pooled[RANDOM_FLUX_POOLED], latents[9 * RANDOM_FLUX_IN], velocity[9 * RANDOM_FLUX_IN];
    flux_transformer *t;
    flux_step *steps[2];
    error e = {0};
    if (!flux_transformer_load(dev, folder, &o, &t, &e)) fail_msg("%s", e.text);
    assert_int_equal(flux_transformer_residency(t).streamed_groups, model.doubles + model.singles);
    for (int i = 0; i < 2; i++) {
        assert_true(flux_step_new(t, &shapes[i], &steps[i], &e));
        flux_step_condition(steps[i], hidden, pooled);
    }
    forget();
    for (int step = 0; step < 4; step++)
        if (!flux_step_run(steps[step % 2], latents, (float[]){0.5f}, NULL, velocity, &e)) fail_msg("%s", e.text);
    assert_true(computations >= 4 * (model.doubles + model.singles));
    assert_true(copies > 100);
    assert_true(overlaps > copies / 2); /* most of it while something else is computed */
    print_message("    %d copies, %d of them beside a computation; %d computations\n", copies, overlaps, computations);
    for (int i = 0; i < 2; i++) flux_step_free(steps[i]);
    flux_transformer_free(t);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_use_waits_for_its_copy_and_every_copy_for_the_last_use)};
    error e = {0};
    flux_needs needs;
    if (!device_open(argc > 1 ? argv[1] : "vulkan", 2, &dev, &e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return SKIPPED;
    }
    make_folder(folder);
    random_flux_write(folder, &model);
    if (!flux_transformer_measure(dev, folder, &LOAD_OPTIONS(PRECISION_AUTO), NULL, &needs, &e)) fprintf(stderr, "%s\n", e.text);
    least = needs.least_weights;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_file(folder, "config.json");
    remove_file(folder, "diffusion_pytorch_model.safetensors");
    rmdir(folder);
    device_free(dev);
    return failed;
}
