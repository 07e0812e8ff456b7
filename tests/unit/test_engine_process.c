/* The engine's loop over a stand-in for the model: tasks take turns slice by slice, a cancel takes effect within one, a failed task leaves the
 * others alone, and the process ends when the front is gone.
 *
 * The rooms below are replaced by the stand-ins in this file: the linker takes these and leaves the library's alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "engine/engine_process.h"
#include "engine/front_link.h"
#include "engine/generation.h"
#include "engine/held_tasks.h"
#include "engine/load_commands.h"
#include "engine/process_memory.h"

/* --- stand-ins: a room with a device and models, a generation whose prompt says what happens --- */

struct device {
    int threads;
};

const char *device_kind(const device *d) { return "stand-in"; }
const char *device_name(const device *d) { return "a stand-in"; }
int device_threads(const device *d) { return d->threads; }
bool precision_parse(const char *text, precision *out) { return strcmp(text, "auto") == 0; }

struct model_manager {
    int out;      /* generations and leases alive: none may be when the room goes */
    int cached;   /* models that were loaded by command */
    uint64_t peak; /* noted last */
};

struct model_lease {
    model_manager *models;
    int parts;   /* still to load */
    bool deadly; /* its second part ends the process */
};

bool engine_room_open(engine_room *room, const engine_room_options *o, error *e) {
    *room = (engine_room){0};
    if (strcmp(o->device, "none") == 0) return error_set(e, ERROR_DEVICE, "there is no device 'none'");
    room->device = calloc(1, sizeof *room->device);
    room->device->threads = o->threads;
    room->models = calloc(1, sizeof *room->models);
    return true;
}

void engine_room_close(engine_room *room) {
    if (room->models != NULL && room->models->out != 0) _exit(99);
    free(room->models);
    free(room->device);
}

void engine_room_rows(const engine_room *room, engine_snapshot *s) {
    s->loads = (uint64_t)room->models->cached;
    s->model_count = 1;
    s->models[0] = (engine_model_row){.name = "x", .peak_bytes = room->models->peak};
}
void engine_room_figures(engine_room *room, engine_snapshot *s) { s->latent_bytes = room->latents; }
uint64_t engine_room_device_peak(const engine_room *room) { return 1000; }
void engine_room_reset_device_peak(engine_room *room) {}
uint64_t engine_room_beside_weights(const engine_room *room, uint64_t bytes) { return bytes - 300; }
vram_freed vram_manager_cleanup_if_needed(vram_manager *m) { return (vram_freed){0}; }

void engine_room_unload(engine_room *room, const engine_model_name *model, engine_answer *out) {
    out->ok = strcmp(model->model, "gone") != 0 || error_set(&out->fault, ERROR_NOT_FOUND, "it is not here");
}

void engine_room_cleanup(engine_room *room, engine_answer *out) {
    out->ok = true;
    out->ram_bytes = 5;
    room->models->cached = 0;
}

bool model_manager_lease(model_manager *m, const model_key *key, load_purpose purpose, model_lease **out, error *e) {
    if (strcmp(key->name, "full") == 0 && purpose == LOAD_AHEAD_IF_FREE) return error_set(e, ERROR_BUSY, "there is no room");
    *out = calloc(1, sizeof **out);
    (*out)->models = m;
    (*out)->parts = 5;
    (*out)->deadly = strcmp(key->name, "deadly") == 0;
    m->out++;
    return true;
}

bool model_lease_advance(model_lease *l, bool *more, error *e) {
    usleep(1000);
    *more = --l->parts > 0;
    if (l->deadly && l->parts == 3) abort();
    if (!*more) l->models->cached++;
    return true;
}

void model_manager_release(model_manager *m, model_lease *l) {
    if (l == NULL) return;
    m->out--;
    free(l);
}

struct generation {
    model_manager *models;
    engine_request request;
    generation_state state;
    engine_metrics metrics;
    uint8_t *rgb;
    bool lowered, news;
    bool wanted; /* its last step was to leave a preview */
};

/* A picture to begin from is taken for a note of the task that it is for. */
static bool read_note(const engine_request *request, engine_files *files, error *e) {
    char text[64] = "";
    bool ok = !request->has_image || (pread(files->fds[0], text, sizeof text - 1, 0) > 0 && strcmp(text, request->prompt) == 0);
    engine_files_close(files);
    return ok || error_set(e, ERROR_INVALID, "the note says '%s'", text);
}

bool generation_begins_from_picture(const generation *g) { return false; }

bool generation_new(engine_room *room, const engine_request *request, engine_files *files, generation **out, error *e) {
    if (!read_note(request, files, e)) return false;
    if (strcmp(request->prompt, "refused") == 0) return error_set(e, ERROR_INVALID, "refused");
    generation *g = calloc(1, sizeof *g);
    g->models = room->models;
    g->request = *request;
    g->state = (generation_state){.phase = PHASE_LOAD, .images = request->count, .steps = request->steps};
    g->rgb = malloc((size_t)request->width * (size_t)request->height * 3);
    room->models->out++;
    *out = g;
    return true;
}

void generation_free(generation *g) {
    if (g == NULL) return;
    g->models->out--;
    free(g->rgb);
    free(g);
}

generation_state generation_get_state(const generation *g) { return g->state; }
const engine_metrics *generation_metrics(const generation *g) { return &g->metrics; }
size_t generation_bytes(const generation *g) { return 10; }
void generation_note_peak(generation *g, uint64_t bytes) { g->models->peak = bytes; }
void generation_fill_profile(const generation *g, engine_profile *out) { out->decode_seconds = 0.25; }

/* "thirsty" runs out of memory once, and is planned anew. */
bool generation_go_lower(generation *g) {
    if (strcmp(g->request.prompt, "thirsty") != 0 || g->lowered) return false;
    g->lowered = g->news = true;
    return true;
}

const engine_plan *generation_new_plan(generation *g) {
    static const engine_plan plan = {.level = 3, .step_count = 1, .steps = {"decode in tiles"}};
    if (!g->news) return NULL;
    g->news = false;
    return &plan;
}

static void take_64_mib(void) {
    size_t size = 64 << 20;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1, size);
    munmap(p, size);
}

/* Words in a prompt: "share" shares steps, which take as long for many as for one; "few" finds memory for two images a step; "spoils" fails a shared
 * step, and its own. */
static bool says(const generation *g, const char *word) { return strstr(g->request.prompt, word) != NULL; }

int generation_images_to_step(const generation *g) { return g->state.phase == PHASE_DENOISE ? 1 : 0; }
bool generation_can_share(const generation *a, const generation *b) {
    return generation_images_to_step(a) > 0 && generation_images_to_step(b) > 0 && says(a, "share") && says(b, "share");
}
batch_key generation_batch_key(const generation *g) {
    batch_key key = {.width = g->request.width, .height = g->request.height, .text_tokens = 1};
    snprintf(key.model, sizeof key.model, "%s", says(g, "few") ? "few" : "all");
    return key;
}

/* "shows" leaves previews, and takes 10 ms a step. */
bool generation_get_preview(const generation *g, generated_preview *out) {
    static const uint8_t rgb[2 * 1 * 3] = {1, 2, 3, 4, 5, 6};
    *out = (generated_preview){g->state.image, g->state.step, 2, 1, rgb};
    return g->wanted && says(g, "shows");
}

bool generation_step_together(const generation_share *shares, int count, double *seconds, error *e) {
    generated_image none;
    for (int i = 0; i < count; i++) shares[i].task->wanted = shares[i].preview;
    if (count == 1) {
        *seconds = 0.001;
        if (strcmp(shares[0].task->request.prompt, "thirsty") == 0 && !shares[0].task->lowered) return error_set(e, ERROR_OUT_OF_MEMORY, "none left");
        if (says(shares[0].task, "dry")) return error_set(e, ERROR_OUT_OF_MEMORY, "none at all");
        if (says(shares[0].task, "spoils")) return error_set(e, ERROR_DEVICE, "it spoils");
        return generation_advance(shares[0].task, &none, e);
    }
    for (int i = 0; i < count; i++) {
        if (says(shares[i].task, "few") && count > 2) return error_set(e, ERROR_OUT_OF_MEMORY, "too few");
        if (says(shares[i].task, "spoils")) return error_set(e, ERROR_DEVICE, "somebody spoils");
    }
    *seconds = 0.001;
    for (int i = 0; i < count; i++) {
        assert_int_equal(shares[i].images, 1);
        if (!generation_advance(shares[i].task, &none, e)) return false;
    }
    return true;
}

bool generation_advance(generation *g, generated_image *image, error *e) {
    const char *prompt = g->request.prompt;
    generation_state *s = &g->state;
    if (strcmp(prompt, "slow") == 0) usleep(20000);
    if (strstr(prompt, "shows") != NULL && s->phase == PHASE_DENOISE) usleep(10000);
    if (strstr(prompt, "share") != NULL && s->phase == PHASE_DENOISE) usleep(500);
    if (strcmp(prompt, "large") == 0 && s->phase == PHASE_ENCODE) take_64_mib();
    if (strcmp(prompt, "abort") == 0) abort();
    if (strcmp(prompt, "fails") == 0 && s->step == 1) return error_set(e, ERROR_BAD_FILE, "weights.safetensors: it fails");
    if (strcmp(prompt, "mute") == 0) return false;
    image->rgb = NULL;
    switch (s->phase) {
    case PHASE_LOAD: s->phase = PHASE_ENCODE; break;
    case PHASE_ENCODE: s->phase = PHASE_DENOISE; break;
    case PHASE_DENOISE:
        g->metrics.steps_run++;
        if (++s->step == s->steps) s->phase = PHASE_DECODE;
        break;
    case PHASE_DECODE: {
        size_t size = (size_t)g->request.width * (size_t)g->request.height * 3;
        for (size_t i = 0; i < size; i++) g->rgb[i] = (uint8_t)(i + (size_t)s->image);
        *image = (generated_image){s->image, g->request.seed + (uint64_t)s->image, g->request.width, g->request.height, g->rgb};
        s->step = 0;
        s->phase = PHASE_DENOISE;
        s->finished = ++s->image == s->images;
        break;
    }
    }
    return true;
}

/* --- the front --- */

enum { NUMBER = 7 };

typedef struct front {
    int socket;
    pid_t pid;
    uint64_t snapshots; /* number of the last */
    bool fresh;         /* the message before was a snapshot */
    uint64_t peak_bytes; /* of its model */
    uint64_t latent_bytes;
    int profiles;
    engine_profile profile; /* the last */
    engine_message last;
} front;

static front start_with(const char *device_name) {
    int ends[2];
    assert_true(engine_message_pair(ends, NULL));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(ends[0]);
        _exit(engine_process_run(ends[1], NUMBER, &(engine_options){.device = device_name, .threads = 3, .max_models = 2, .log_level = 3}));
    }
    close(ends[1]);
    return (front){.socket = ends[0], .pid = pid};
}

static void send_to(front *f, engine_message_kind kind, const char *id, const engine_request *request) {
    static engine_message m;
    m = (engine_message){.kind = kind, .engine = NUMBER};
    snprintf(m.id, sizeof m.id, "%s", id);
    if (request != NULL) m.request = *request;
    assert_true(engine_message_send(f->socket, &m, -1, NULL));
}

static void admit_as(front *f, const char *id, const char *prompt, int steps, int count, int priority, bool alone) {
    engine_request r = {.priority = priority, .alone = alone, .width = 16, .height = 8, .steps = steps, .count = count, .max_sequence_length = 1, .seed = UINT64_MAX};
    snprintf(r.prompt, sizeof r.prompt, "%s", prompt);
    send_to(f, MESSAGE_ADMIT, id, &r);
}

static void admit(front *f, const char *id, const char *prompt, int steps, int count) { admit_as(f, id, prompt, steps, count, 2, false); }

/* *fd: −1 where none came. */
static bool receive(front *f, int *fd) {
    engine_files files;
    bool got = false;
    error e = {0};
    if (!engine_message_receive(f->socket, 10000, &f->last, &files, &got, &e)) {
        if (strstr(e.text, "is gone") == NULL) fail_msg("%s", e.text);
        return false;
    }
    if (!got) fail_msg("nothing came for 10 s");
    assert_int_equal(f->last.engine, NUMBER);
    *fd = files.count > 0 ? files.fds[0] : -1;
    return true;
}

/* The next message but snapshots into f->last; false at the end. *fd may be NULL when no descriptor may come. Snapshots are numbered and come before
 * each result. */
static bool next(front *f, int *fd) {
    int received;
    f->fresh = false;
    for (;;) {
        if (!receive(f, &received)) return false;
        if (f->last.kind == MESSAGE_PROFILE) {
            f->profile = f->last.profile;
            f->profiles++;
            continue;
        }
        if (f->last.kind != MESSAGE_SNAPSHOT) break;
        assert_int_equal(f->last.snapshot.number, f->snapshots + 1);
        f->snapshots++;
        f->fresh = true;
        f->peak_bytes = f->last.snapshot.models[0].peak_bytes;
        f->latent_bytes = f->last.snapshot.latent_bytes;
    }
    bool result = f->last.kind == MESSAGE_IMAGE || f->last.kind == MESSAGE_DONE || f->last.kind == MESSAGE_ANSWER;
    if (result && !f->fresh) fail_msg("a result came without a snapshot before it");
    if (fd != NULL) *fd = received;
    else if (received >= 0) close(received);
    return true;
}

static void expect(front *f, engine_message_kind kind, const char *id) {
    do assert_true(next(f, NULL));
    while (f->last.kind == MESSAGE_PROGRESS && kind != MESSAGE_PROGRESS);
    assert_int_equal(f->last.kind, kind);
    assert_string_equal(f->last.id, id);
}

static front start(void) {
    front f = start_with("cpu");
    expect(&f, MESSAGE_HELLO, "");
    return f;
}

static int end(front *f) {
    int status;
    close(f->socket);
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    return status;
}

/* --- what it proves --- */

static void it_says_hello_and_goes_with_the_front(void **state) {
    (void)state;
    front f = start();
    assert_string_equal(f.last.hello.device_kind, "stand-in");
    assert_string_equal(f.last.hello.device_name, "a stand-in");
    assert_int_equal(f.last.hello.threads, 3);
    assert_int_equal(end(&f), 0);
}

static void a_device_that_does_not_open_is_told_and_ends_it(void **state) {
    (void)state;
    front f = start_with("none");
    expect(&f, MESSAGE_FAILED, "");
    assert_int_equal(f.last.fault.code, ERROR_DEVICE);
    assert_string_equal(f.last.fault.text, "there is no device 'none'");
    assert_false(next(&f, NULL));
    assert_int_equal(end(&f), 1 << 8);
}

/* Two images of two steps: every slice is announced, pictures come in order and cannot be changed, the end has its figures. */
static void a_task_is_told_slice_by_slice(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "fine", 2, 2);
    static const struct {
        engine_phase phase;
        int image, step;
    } slices[] = {{PHASE_LOAD, 0, 0}, {PHASE_ENCODE, 0, 0}, {PHASE_DENOISE, 0, 0}, {PHASE_DENOISE, 0, 1}, {PHASE_DECODE, 0, 2},
                  {PHASE_DENOISE, 1, 0}, {PHASE_DENOISE, 1, 1}, {PHASE_DECODE, 1, 2}};
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        expect(&f, MESSAGE_PROGRESS, "a");
        assert_int_equal(f.last.progress.phase, slices[i].phase);
        assert_int_equal(f.last.progress.image, slices[i].image);
        assert_int_equal(f.last.progress.images, 2);
        assert_int_equal(f.last.progress.step, slices[i].step);
        assert_int_equal(f.last.progress.steps, 2);
        if (slices[i].phase != PHASE_DECODE) continue;
        int fd = -1;
        assert_true(next(&f, &fd));
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
    expect(&f, MESSAGE_DONE, "a");
    assert_int_equal(f.last.metrics.steps_run, 4);
    assert_int_equal(f.last.metrics.device_peak, 1000);
    assert_int_equal(f.peak_bytes, 700); /* told before the end is: of the peak, 300 are weights */
    assert_int_equal(f.profiles, 1);
    assert_string_equal(f.profile.model, "all");
    assert_int_equal(f.profile.batch, 1);
    assert_true(f.profile.step_seconds > 0 && f.profile.decode_seconds == 0.25);
    assert_true(f.last.metrics.memory_before > 0 && f.last.metrics.memory_after > 0);
    assert_true(f.last.metrics.memory_peak >= f.last.metrics.memory_before && f.last.metrics.memory_peak >= f.last.metrics.memory_after);
    assert_int_equal(end(&f), 0);
}

static void tasks_take_turns(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 5, 1);
    admit(&f, "b", "slow", 5, 1);
    admit(&f, "c", "slow", 1, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    buffer order = {0};
    int done = 0;
    while (done < 3) {
        assert_true(next(&f, NULL));
        if (f.last.kind == MESSAGE_PROGRESS) buffer_printf(&order, "%s", f.last.id);
        done += f.last.kind == MESSAGE_DONE;
        if (f.last.kind == MESSAGE_DONE) buffer_printf(&order, ".");
    }
    /* a's second slice may come before the others were read; from then on, strictly in turn. c is through after four of its own. */
    const char *rest = strstr(buffer_text(&order), "bc");
    assert_non_null(rest);
    assert_string_equal(rest, "bcabcabcabc.abababa.b.");
    buffer_free(&order);
    assert_int_equal(end(&f), 0);
}

static void a_cancel_takes_effect_within_a_slice(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 1000, 1);
    admit(&f, "b", "slow", 1000, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    send_to(&f, MESSAGE_CANCEL, "a", NULL);
    send_to(&f, MESSAGE_CANCEL, "unknown", NULL);
    int slices = 0;
    do {
        assert_true(next(&f, NULL));
        slices += f.last.kind == MESSAGE_PROGRESS;
    } while (f.last.kind == MESSAGE_PROGRESS);
    assert_true(slices <= 2);
    assert_int_equal(f.last.kind, MESSAGE_FAILED);
    assert_string_equal(f.last.id, "a");
    assert_int_equal(f.last.fault.code, ERROR_CANCELLED);
    for (int i = 0; i < 5; i++) expect(&f, MESSAGE_PROGRESS, "b"); /* and goes on with the other */
    assert_int_equal(end(&f), 0);
}

static void a_failed_task_leaves_the_others_alone(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "fails", 5, 1);
    admit(&f, "b", "refused", 5, 1);
    admit(&f, "c", "mute", 5, 1);
    int failed = 0;
    while (failed < 3) {
        assert_true(next(&f, NULL));
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
    admit(&f, "d", "fine", 1, 1);
    expect(&f, MESSAGE_IMAGE, "d");
    expect(&f, MESSAGE_DONE, "d");
    assert_int_equal(end(&f), 0);
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
    m = (engine_message){.kind = MESSAGE_ADMIT, .engine = NUMBER, .request = {.width = 16, .height = 8, .steps = steps, .count = 1, .max_sequence_length = 1, .priority = 2,
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
    front f = start();
    send_with_note(&f, "a", "fine a", 1, "fine a");
    expect(&f, MESSAGE_IMAGE, "a");
    expect(&f, MESSAGE_DONE, "a");
    send_with_note(&f, "b", "fine b", 1, "fine a");
    expect(&f, MESSAGE_FAILED, "b");
    assert_string_equal(f.last.fault.text, "the note says 'fine a'");
    send_with_note(&f, "c", "slow c", 1000, "slow c");
    send_with_note(&f, "c", "slow c", 1000, "slow c");
    send_to(&f, MESSAGE_CANCEL, "c", NULL);
    expect(&f, MESSAGE_FAILED, "c");
    admit(&f, "d", "fine", 1, 1); /* whatever came before has been dealt with then */
    expect(&f, MESSAGE_IMAGE, "d");
    expect(&f, MESSAGE_DONE, "d");
    for (int tries = 0; memory_files_of(f.pid) > 0; tries++) {
        assert_true(tries < 1000);
        usleep(10000);
    }
    assert_int_equal(end(&f), 0);
}

static void more_tasks_than_it_holds_are_refused(void **state) {
    (void)state;
    front f = start();
    char id[8];
    for (int i = 0; i <= HELD_TASKS_MAX; i++) {
        snprintf(id, sizeof id, "t%d", i);
        admit(&f, id, "slow", 100, 1);
    }
    admit(&f, "t3", "slow", 100, 1); /* twice: nothing comes of it */
    expect(&f, MESSAGE_FAILED, id);
    assert_int_equal(f.last.fault.code, ERROR_BUSY);
    for (int i = HELD_TASKS_MAX - 1; i >= 0; i--) {
        snprintf(id, sizeof id, "t%d", i);
        send_to(&f, MESSAGE_CANCEL, id, NULL);
        expect(&f, MESSAGE_FAILED, id);
        assert_int_equal(f.last.fault.code, ERROR_CANCELLED);
    }
    admit(&f, "last", "fine", 1, 1);
    expect(&f, MESSAGE_IMAGE, "last");
    assert_int_equal(end(&f), 0);
}

/* Reads on until every task of `ids`, one letter each, is done or failed. The letters of those who shared a slice, largest party seen, into `most`;
 * how many were done. */
static int follow(front *f, const char *ids, size_t *most) {
    uint64_t slice = 0;
    size_t left = strlen(ids), party = 0;
    int done = 0;
    while (left > 0) {
        assert_true(next(f, NULL));
        const engine_message *m = &f->last;
        if (m->kind == MESSAGE_PROGRESS) {
            bool joined = m->progress.slice != 0 && m->progress.slice == slice;
            party = joined ? party + 1 : 1;
            slice = m->progress.slice;
            if (party > *most) *most = party;
        }
        done += m->kind == MESSAGE_DONE;
        left -= m->kind == MESSAGE_DONE || m->kind == MESSAGE_FAILED;
    }
    return done;
}

static void tasks_share_steps_where_that_pays(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "share slow", 60, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    admit(&f, "b", "share slow", 40, 1);
    admit(&f, "c", "share slow", 40, 1);
    admit(&f, "d", "not with others", 40, 1);
    admit_as(&f, "e", "share, but it was there when an engine died", 40, 1, 2, true);
    size_t most = 0;
    assert_int_equal(follow(&f, "abcde", &most), 5);
    assert_int_equal(most, 3);
    assert_int_equal(end(&f), 0);
}

static void without_memory_fewer_share(void **state) {
    (void)state;
    front f = start();
    for (int i = 0; i < 4; i++) admit(&f, (char[]){(char)('a' + i), 0}, "share few slow", 40, 1);
    size_t most = 0;
    assert_int_equal(follow(&f, "abcd", &most), 4);
    assert_int_equal(most, 3); /* tried once */
    assert_int_equal(end(&f), 0);
}

static void who_spoils_a_shared_step_fails_alone(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "share slow", 40, 1);
    admit(&f, "b", "share slow", 40, 1);
    size_t most = 0;
    while (most < 2) { /* until they share */
        uint64_t before = f.last.kind == MESSAGE_PROGRESS ? f.last.progress.slice : 0;
        assert_true(next(&f, NULL));
        if (f.last.kind == MESSAGE_PROGRESS && f.last.progress.slice != 0 && f.last.progress.slice == before) most = 2;
    }
    admit(&f, "c", "share spoils", 40, 1);
    int failed = 0;
    for (int ended = 0; ended < 3;) {
        assert_true(next(&f, NULL));
        ended += f.last.kind == MESSAGE_DONE || f.last.kind == MESSAGE_FAILED;
        if (f.last.kind != MESSAGE_FAILED) continue;
        failed++;
        assert_string_equal(f.last.id, "c");
        assert_string_equal(f.last.fault.text, "it spoils");
    }
    assert_int_equal(failed, 1);
    assert_int_equal(end(&f), 0);
}

/* From the slice after its coming on, only the urgent one's slices are told until it is done. */
static void urgent_overtakes_at_the_next_slice(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 1000, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    admit_as(&f, "b", "slow", 1000, 1, 1, false);
    admit_as(&f, "u", "fine", 20, 1, 0, false);
    while (f.last.kind != MESSAGE_PROGRESS || f.last.id[0] != 'u') assert_true(next(&f, NULL));
    for (;;) {
        assert_true(next(&f, NULL));
        assert_string_equal(f.last.id, "u");
        if (f.last.kind == MESSAGE_DONE) break;
    }
    for (int seen = 0; seen != 3;) { /* then the others go on */
        assert_true(next(&f, NULL));
        assert_int_equal(f.last.kind, MESSAGE_PROGRESS);
        seen |= f.last.id[0] == 'a' ? 1 : f.last.id[0] == 'b' ? 2 : 4;
    }
    assert_int_equal(end(&f), 0);
}

static void set_priority(front *f, const char *id, int priority) {
    static engine_message m;
    m = (engine_message){.kind = MESSAGE_PRIORITY, .engine = NUMBER, .priority = priority};
    snprintf(m.id, sizeof m.id, "%s", id);
    assert_true(engine_message_send(f->socket, &m, -1, NULL));
}

/* Both run; the later one, raised, is through before the first has got on. */
static void a_running_task_that_is_raised_finishes_first(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 40, 1);
    admit(&f, "b", "slow", 40, 1);
    while (f.last.kind != MESSAGE_PROGRESS || f.last.id[0] != 'b') assert_true(next(&f, NULL));
    set_priority(&f, "b", 0);
    set_priority(&f, "unknown", 0);
    int slices = 0; /* of a, until b is done: those that were under way */
    do {
        assert_true(next(&f, NULL));
        slices += f.last.kind == MESSAGE_PROGRESS && f.last.id[0] == 'a';
    } while (f.last.kind != MESSAGE_DONE);
    assert_string_equal(f.last.id, "b");
    assert_true(slices < 20);
    assert_int_equal(end(&f), 0);
}

static void a_suspended_task_keeps_its_place(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 30, 1);
    do expect(&f, MESSAGE_PROGRESS, "a");
    while (f.last.progress.step < 3);
    send_to(&f, MESSAGE_SUSPEND, "a", NULL);
    send_to(&f, MESSAGE_SUSPEND, "unknown", NULL);
    admit(&f, "b", "slow", 3, 1);
    int step = f.last.progress.step;
    for (bool done = false; !done;) { /* a's slices that were under way come first, then b's alone */
        assert_true(next(&f, NULL));
        if (f.last.id[0] == 'a') step = f.last.progress.step;
        done = f.last.kind == MESSAGE_DONE;
    }
    assert_string_equal(f.last.id, "b");
    assert_in_range(step, 3, 8);
    assert_int_equal(f.latent_bytes, 10); /* a's; b's went before its end was told */
    send_to(&f, MESSAGE_RESUME, "a", NULL);
    expect(&f, MESSAGE_PROGRESS, "a");
    assert_int_equal(f.last.progress.step, step + 1);
    send_to(&f, MESSAGE_SUSPEND, "a", NULL); /* and can be cancelled while it is */
    send_to(&f, MESSAGE_CANCEL, "a", NULL);
    expect(&f, MESSAGE_FAILED, "a");
    assert_int_equal(f.last.fault.code, ERROR_CANCELLED);
    assert_int_equal(end(&f), 0);
}

static void command(front *f, engine_message_kind kind, const char *id, const char *model, bool only_if_free) {
    static engine_message m;
    m = (engine_message){.kind = kind, .engine = NUMBER};
    snprintf(m.id, sizeof m.id, "%s", id);
    if (model != NULL) {
        m.model = (engine_model_name){.precision = "auto", .folder = "/models/x", .only_if_free = only_if_free};
        snprintf(m.model.model, sizeof m.model.model, "%s", model);
    }
    assert_true(engine_message_send(f->socket, &m, -1, NULL));
}

static void commands_are_answered(void **state) {
    (void)state;
    front f = start();
    command(&f, MESSAGE_LOAD, "1", "x", false);
    expect(&f, MESSAGE_ANSWER, "1");
    assert_true(f.last.answer.ok && f.last.answer.seconds > 0.005);
    command(&f, MESSAGE_PRELOAD, "2", "full", false);
    expect(&f, MESSAGE_ANSWER, "2");
    assert_true(f.last.answer.ok);
    command(&f, MESSAGE_PRELOAD, "3", "full", true);
    expect(&f, MESSAGE_ANSWER, "3");
    assert_false(f.last.answer.ok);
    assert_int_equal(f.last.answer.fault.code, ERROR_BUSY);
    command(&f, MESSAGE_UNLOAD, "4", "gone", false);
    expect(&f, MESSAGE_ANSWER, "4");
    assert_int_equal(f.last.answer.fault.code, ERROR_NOT_FOUND);
    command(&f, MESSAGE_CLEANUP, "5", NULL, false);
    expect(&f, MESSAGE_ANSWER, "5");
    assert_true(f.last.answer.ok);
    assert_int_equal(f.last.answer.ram_bytes, 5);
    /* More than it takes: the last are refused, the others done in order. */
    char id[8];
    for (int i = 0; i < LOAD_COMMANDS_MAX; i++) {
        snprintf(id, sizeof id, "p%d", i);
        command(&f, MESSAGE_PRELOAD, id, "x", false);
    }
    for (int i = 0; i < LOAD_COMMANDS_MAX; i++) {
        snprintf(id, sizeof id, "p%d", i);
        expect(&f, MESSAGE_ANSWER, id);
    }
    command(&f, MESSAGE_LOAD, "unfinished", "x", false);
    assert_int_equal(end(&f), 0);
}

/* Slices of the task that pass from the command to its answer. */
static int slices_until_answered(front *f, engine_message_kind kind, const char *id) {
    int slices = 0;
    command(f, kind, id, "x", false);
    do {
        assert_true(next(f, NULL));
        slices += f->last.kind == MESSAGE_PROGRESS && strcmp(f->last.id, id) != 0;
    } while (f->last.kind == MESSAGE_PROGRESS);
    assert_int_equal(f->last.kind, MESSAGE_ANSWER);
    assert_string_equal(f->last.id, id);
    return slices;
}

/* A model of five parts: one that is waited for goes turn about with the task, one for later takes a slice now and then. */
static void models_load_between_the_slices_of_tasks(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 1000, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    assert_in_range(slices_until_answered(&f, MESSAGE_LOAD, "now"), 4, 7);
    assert_in_range(slices_until_answered(&f, MESSAGE_PRELOAD, "later"), 16, 23);
    command(&f, MESSAGE_PRELOAD, "last", "x", false);
    send_to(&f, MESSAGE_SUSPEND, "a", NULL); /* now there is a gap */
    expect(&f, MESSAGE_ANSWER, "last");
    assert_int_equal(end(&f), 0);
}

/* Or the task that ran before it would be charged with what the load did. */
static void a_part_of_a_model_is_a_slice_of_its_command(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 1000, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    command(&f, MESSAGE_PRELOAD, "command", "deadly", false);
    char last[ENGINE_ID_BYTES] = "";
    while (next(&f, NULL)) memcpy(last, f.last.id, sizeof last);
    assert_string_equal(last, "command");
    int status = end(&f);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void memory_that_runs_out_is_planned_anew_once(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "thirsty", 3, 1);
    admit(&f, "b", "dry", 3, 1);
    int planned = 0, done = 0, failed = 0;
    while (done + failed < 2) {
        assert_true(next(&f, NULL));
        if (f.last.kind == MESSAGE_PLAN) {
            assert_string_equal(f.last.id, "a");
            assert_string_equal(f.last.plan.steps[0], "decode in tiles");
            planned++;
        }
        if (f.last.kind == MESSAGE_DONE) {
            assert_string_equal(f.last.id, "a");
            assert_int_equal(planned, 1);
            assert_int_equal(f.last.metrics.steps_run, 3);
            done++;
        }
        if (f.last.kind == MESSAGE_FAILED) {
            assert_string_equal(f.last.id, "b");
            assert_int_equal(f.last.fault.code, ERROR_OUT_OF_MEMORY);
            failed++;
        }
    }
    assert_int_equal(done, 1);
    assert_int_equal(end(&f), 0);
}

static void stop_ends_it_between_slices(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 1000, 1);
    expect(&f, MESSAGE_PROGRESS, "a");
    send_to(&f, MESSAGE_STOP, "", NULL);
    int slices = 0;
    while (next(&f, NULL)) slices++;
    assert_true(slices <= 2);
    assert_int_equal(end(&f), 0);
}

static void it_ends_within_a_slice_of_the_front(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "slow", 1000, 16);
    expect(&f, MESSAGE_PROGRESS, "a");
    double begin = clock_seconds();
    assert_int_equal(end(&f), 0); /* waits for it */
    assert_true(clock_seconds() - begin < 5);
}

static void an_abort_ends_the_process_by_its_signal(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "abort", 1, 1);
    expect(&f, MESSAGE_PROGRESS, "a"); /* told before the slice, so that the front knows whose it was */
    assert_false(next(&f, NULL));
    int status = end(&f);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void messages_for_another_engine_are_ignored(void **state) {
    (void)state;
    front f = start();
    static engine_message m;
    m = (engine_message){.kind = MESSAGE_STOP, .engine = NUMBER - 1};
    assert_true(engine_message_send(f.socket, &m, -1, NULL));
    admit(&f, "a", "fine", 1, 1);
    expect(&f, MESSAGE_IMAGE, "a");
    assert_int_equal(end(&f), 0);
}

static void signals_of_the_group_are_left_to_the_front(void **state) {
    (void)state;
    front f = start();
    kill(f.pid, SIGINT);
    kill(f.pid, SIGTERM);
    kill(f.pid, SIGHUP);
    admit(&f, "a", "fine", 1, 1);
    expect(&f, MESSAGE_IMAGE, "a");
    char path[64], name[32] = {0};
    snprintf(path, sizeof path, "/proc/%d/comm", f.pid);
    FILE *comm = fopen(path, "r");
    assert_non_null(comm);
    assert_non_null(fgets(name, sizeof name, comm));
    fclose(comm);
    assert_string_equal(name, "imagined-engine\n");
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)f.pid), 5);
    assert_int_equal(end(&f), 0);
}

/* Each task has its own peak, where the kernel lets it be reset. */
static void the_peak_is_the_tasks_own(void **state) {
    (void)state;
    if (!process_memory_reset_peak()) skip();
    front f = start();
    admit(&f, "large", "large", 1, 1);
    expect(&f, MESSAGE_IMAGE, "large");
    expect(&f, MESSAGE_DONE, "large");
    assert_true(f.last.metrics.memory_peak >= f.last.metrics.memory_before + (60 << 20));
    admit(&f, "small", "fine", 1, 1);
    expect(&f, MESSAGE_IMAGE, "small");
    expect(&f, MESSAGE_DONE, "small");
    assert_true(f.last.metrics.memory_peak < f.last.metrics.memory_before + (30 << 20));
    assert_int_equal(end(&f), 0);
}

/* A front that does not read for a while loses nothing. */
static void a_slow_front_gets_every_message(void **state) {
    (void)state;
    front f = start();
    admit(&f, "a", "fine", 1000, 16);
    usleep(200000);
    int progress = 0, images = 0;
    do {
        assert_true(next(&f, NULL));
        progress += f.last.kind == MESSAGE_PROGRESS;
        images += f.last.kind == MESSAGE_IMAGE;
    } while (f.last.kind != MESSAGE_DONE);
    assert_int_equal(progress, 2 + 16 * 1001);
    assert_int_equal(images, 16);
    assert_int_equal(end(&f), 0);
}

typedef struct shown {
    int previews, last; /* the step of its last; 0: none */
} shown;

/* A preview stands between the progress of its step's slice and the next one's. */
static void note_shown(front *f, shown *s, int at, int fd) {
    if (f->last.kind == MESSAGE_PROGRESS && f->last.progress.phase == PHASE_DENOISE && s->last > 0) assert_true(f->last.progress.step >= s->last);
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
    front f = start();
    for (int alone = 1; alone >= 0; alone--) {
        int tasks = alone ? 1 : 2, done = 0, at[2] = {0}, fd;
        shown seen[2] = {{0}};
        double begin = clock_seconds();
        for (int i = 0; i < tasks; i++) admit(&f, i == 0 ? "0" : "1", prompts[tasks - 1 + i], 30, 1);
        while (done < tasks) {
            assert_true(next(&f, &fd));
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
    assert_int_equal(end(&f), 0);
}

static void a_preview_waits_for_nobody(void **state) {
    (void)state;
    int ends[2];
    engine_files files;
    assert_true(engine_message_pair(ends, NULL));
    static front_link link;
    static engine_message m;
    link = (front_link){.socket = ends[1], .engine = NUMBER};
    const uint8_t rgb[3] = {9, 9, 9};
    const generated_preview preview = {2, 5, 1, 1, rgb};
    m = (engine_message){.kind = MESSAGE_PROGRESS, .engine = NUMBER, .progress = {.images = 1}};
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
        cmocka_unit_test(tasks_take_turns),
        cmocka_unit_test(a_cancel_takes_effect_within_a_slice),
        cmocka_unit_test(a_failed_task_leaves_the_others_alone),
        cmocka_unit_test(files_go_to_their_task),
        cmocka_unit_test(more_tasks_than_it_holds_are_refused),
        cmocka_unit_test(tasks_share_steps_where_that_pays),
        cmocka_unit_test(without_memory_fewer_share),
        cmocka_unit_test(who_spoils_a_shared_step_fails_alone),
        cmocka_unit_test(urgent_overtakes_at_the_next_slice),
        cmocka_unit_test(a_running_task_that_is_raised_finishes_first),
        cmocka_unit_test(a_suspended_task_keeps_its_place),
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(models_load_between_the_slices_of_tasks),
        cmocka_unit_test(a_part_of_a_model_is_a_slice_of_its_command),
        cmocka_unit_test(memory_that_runs_out_is_planned_anew_once),
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
