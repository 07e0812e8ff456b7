/* An engine that paints gradients and does what a prompt tells it to do wrong, so that the server's ways of failing can be tested in
 * milliseconds.
 *
 * Started by the front in place of its own binary (IMAGINED_ENGINE_EXECUTABLE). Words in a prompt: "slow" 50 ms a step; "deaf" 4 s a step;
 * "fail" an ERROR_OUT_OF_MEMORY; "skip" no image; "lie" an image of another size; "segv<N", "kill<N", "hang<N" die so, or hang, in the
 * first step while this is an engine below number N; "stall<N" hangs as soon as the task comes.
 *
 * After each step it sends a preview of width / 8 × height / 8 pixels: red from left to right, green from the top, and as blue the steps
 * done × 8.
 *
 * It also plays a cache of models that take a million bytes each, tells of it in snapshots and obeys commands. Loading a model with
 * precision "f16" kills it, ahead of its use also loading one called "deadly". What it tells as pinned bytes is how many profiles it was
 * told, and as a task's largest batch the priority that it had in the end. A picture to begin from, and a mask, change all colours by the
 * sum of their files' bytes. GRADIENT_DEVICE, "cuda:NVIDIA H200", is the device it claims to have. An engine below number GRADIENT_MUTE
 * hangs before it says hello. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine_start.h"
#include "engine/task_message.h"
#include "models/flux_original.h"

enum { MAX_TASKS = 24, MODEL_BYTES = 1000000, PRIVATE_BYTES = 100000, LATENT_BYTES = 1000, SNAPSHOT_MS = 50 };

typedef struct job {
    bool used;
    char id[ENGINE_ID_BYTES];
    engine_request request;
    int image, step, first_step;
    unsigned salt; /* of its files */
    bool loaded, suspended;
    double seconds; /* of its steps */
} job;

typedef struct fake {
    uint64_t number;
    job jobs[MAX_TASKS];
    int max_models;
    engine_snapshot snapshot; /* the models are its rows, the least recently used first */
    double told_at;           /* clock_seconds of the last snapshot */
    engine_message message;
} fake;

static bool says(const job *j, const char *word) { return strstr(j->request.prompt, word) != NULL; }

static void tell(fake *f, engine_message_kind kind, const char *id, int fd) {
    f->message.kind = kind;
    f->message.engine = f->number;
    memset(f->message.id, 0, sizeof f->message.id);
    snprintf(f->message.id, sizeof f->message.id, "%s", id);
    error e;
    while (!engine_message_send(ENGINE_SOCKET, &f->message, fd, &e)) {
        if (e.code != ERROR_BUSY) exit(0);
        usleep(1000);
    }
}

static void progress(fake *f, const job *j, engine_phase phase) {
    f->message = (engine_message){.progress = {phase, j->image, j->request.count, j->step, j->request.steps}};
    tell(f, MESSAGE_PROGRESS, j->id, -1);
}

static void load_progress(fake *f, const job *j, uint64_t bytes) {
    f->message = (engine_message){.progress = {PHASE_LOAD, j->image, j->request.count, j->step, j->request.steps, 0, bytes, MODEL_BYTES}};
    tell(f, MESSAGE_PROGRESS, j->id, -1);
}

/* --- models --- */

static void tell_snapshot(fake *f) {
    engine_snapshot *s = &f->snapshot;
    s->number++;
    s->taken_ms = clock_unix_ms();
    s->total_bytes = 1 << 30;
    s->free_bytes = (1 << 29) - (uint64_t)s->model_count * MODEL_BYTES;
    s->weight_bytes = (uint64_t)s->model_count * PRIVATE_BYTES;
    s->cached_weight_bytes = (uint64_t)s->model_count * MODEL_BYTES;
    s->max_models = (uint64_t)f->max_models;
    s->compute_bytes = 5000;
    s->cache_bytes = s->prompt_bytes;
    s->latent_bytes = 0;
    for (int i = 0; i < MAX_TASKS; i++) s->latent_bytes += f->jobs[i].used ? LATENT_BYTES : 0;
    strcpy(s->state, "moderate");
    s->flash_attention_available = true;
    strcpy(s->dtype.value, "torch.float32");
    strcpy(s->dtype.reason, "gradients are exact");
    strcpy(s->attention.value, "flash");
    f->message = (engine_message){.snapshot = *s};
    f->told_at = clock_seconds();
    tell(f, MESSAGE_SNAPSHOT, "", -1);
}

static engine_model_row *find_model(fake *f, const char *name) {
    for (int i = 0; i < f->snapshot.model_count; i++)
        if (strcmp(f->snapshot.models[i].name, name) == 0) return &f->snapshot.models[i];
    return NULL;
}

static void remove_model(fake *f, engine_model_row *m, eviction_cause cause) {
    engine_snapshot *s = &f->snapshot;
    s->evictions[cause]++;
    s->model_count--;
    memmove(m, m + 1, (size_t)(s->models + s->model_count - m) * sizeof *m);
}

/* The model as the most recently used row; *loaded tells whether it was not there. NULL when only_if_free and there is no room. */
static engine_model_row *use_model(fake *f, const char *name, bool only_if_free, bool *loaded) {
    engine_snapshot *s = &f->snapshot;
    engine_model_row *m = find_model(f, name), row = {0};
    *loaded = m == NULL;
    if (m == NULL && only_if_free && s->model_count >= f->max_models) return NULL;
    if (m != NULL) {
        row = *m;
        s->model_count--;
        memmove(m, m + 1, (size_t)(s->models + s->model_count - m) * sizeof *m);
    } else {
        row = (engine_model_row){.size_bytes = MODEL_BYTES, .mapped_bytes = MODEL_BYTES - PRIVATE_BYTES, .private_bytes = PRIVATE_BYTES,
                                 .state = MODEL_CACHED, .load_seconds = 0.25, .peak_bytes = 7000};
        snprintf(row.name, sizeof row.name, "%s", name);
        strcpy(row.precision, "auto");
        s->loads++;
        row.loads++;
        for (int i = 0; i < s->model_count && s->model_count >= f->max_models;)
            if (s->models[i].leases == 0) remove_model(f, &s->models[i], EVICTED_COUNT);
            else i++;
    }
    row.last_used_ms = clock_unix_ms();
    s->models[s->model_count] = row;
    return &s->models[s->model_count++];
}

static void lease(fake *f, const char *name, int change) {
    engine_model_row *m = find_model(f, name);
    if (m == NULL) return;
    m->leases += change;
    m->state = m->leases > 0 ? MODEL_IN_USE : MODEL_CACHED;
}

static void free_model(fake *f, engine_model_row *m, engine_answer *a) {
    memcpy(a->unloaded[a->unloaded_count++], m->name, sizeof m->name);
    a->ram_bytes += PRIVATE_BYTES;
    a->vram_bytes += 2;
    remove_model(f, m, EVICTED_MANUAL);
}

static void clean_up(fake *f, engine_answer *a) {
    for (int i = f->snapshot.model_count - 1; i >= 0; i--) {
        engine_model_row *m = &f->snapshot.models[i];
        if (m->leases == 0) free_model(f, m, a);
        else memcpy(a->skipped[a->skipped_count++], m->name, sizeof m->name);
    }
    f->snapshot.prompt_entries = f->snapshot.prompt_bytes = 0;
}

static void die_of(int signal_number) {
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void obey(fake *f, const engine_message *m) {
    engine_answer a = {.ok = true};
    engine_model_row *row = find_model(f, m->model.model);
    bool loaded = false;
    if (m->kind == MESSAGE_CLEANUP) {
        clean_up(f, &a);
    } else if (m->kind == MESSAGE_UNLOAD) {
        if (row == NULL) a.ok = error_set(&a.fault, ERROR_NOT_FOUND, "it is not cached");
        else if (row->leases > 0) a.ok = error_set(&a.fault, ERROR_BUSY, "it is in use");
        else free_model(f, row, &a);
    } else {
        if (strcmp(m->model.precision, "f16") == 0) raise(SIGKILL);
        f->message = (engine_message){.progress = {.phase = PHASE_LOAD, .images = 1}};
        tell(f, MESSAGE_PROGRESS, m->id, -1);
        if (m->kind == MESSAGE_PRELOAD && strcmp(m->model.model, "deadly") == 0) die_of(SIGSEGV);
        if (use_model(f, m->model.model, m->model.only_if_free, &loaded) == NULL)
            a.ok = error_set(&a.fault, ERROR_BUSY, "there is no room");
        a.seconds = loaded ? 0.25 : 0;
    }
    tell_snapshot(f);
    f->message = (engine_message){.answer = a};
    tell(f, MESSAGE_ANSWER, m->id, -1);
}

/* --- tasks --- */

static void hang(void) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    for (;;) pause();
}

static bool is_told(const fake *f, const job *j, const char *word) {
    const char *at = strstr(j->request.prompt, word);
    return at != NULL && f->number < strtoull(at + strlen(word), NULL, 10);
}

static void send_image(fake *f, const job *j) {
    int width = says(j, "lie") ? 8 : j->request.width, height = j->request.height;
    size_t bytes = (size_t)width * (size_t)height * 3;
    uint64_t seed = j->request.seed + (uint64_t)j->image;
    int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) exit(1);
    unsigned char *rgb = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (rgb == MAP_FAILED) exit(1);
    for (size_t i = 0; i < bytes; i++) rgb[i] = (unsigned char)(i / 7 + seed * 31 + j->salt);
    munmap(rgb, bytes);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    tell_snapshot(f);
    f->message = (engine_message){.image = {j->image, width, height, seed}};
    tell(f, MESSAGE_IMAGE, j->id, fd);
    close(fd);
}

/* One that finds no room is left out. */
static void send_preview(fake *f, const job *j) {
    int width = (j->request.width + 7) / 8, height = (j->request.height + 7) / 8;
    width = width < ENGINE_PREVIEW_SIDE ? width : ENGINE_PREVIEW_SIDE;
    height = height < ENGINE_PREVIEW_SIDE ? height : ENGINE_PREVIEW_SIDE;
    size_t bytes = (size_t)width * (size_t)height * 3;
    int fd = memfd_create("preview", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) exit(1);
    unsigned char *rgb = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *at = rgb;
    if (rgb == MAP_FAILED) exit(1);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, at += 3) {
            at[0] = (unsigned char)(x * 255 / width);
            at[1] = (unsigned char)(y * 255 / height);
            at[2] = (unsigned char)(j->step * 8);
        }
    munmap(rgb, bytes);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    f->message = (engine_message){.kind = MESSAGE_PREVIEW, .engine = f->number, .preview = {j->image, j->step, width, height}};
    memcpy(f->message.id, j->id, sizeof f->message.id);
    engine_message_send(ENGINE_SOCKET, &f->message, fd, NULL);
    close(fd);
}

static void end(fake *f, job *j, engine_message_kind kind) {
    engine_message last = f->message;
    if (j->loaded) lease(f, j->request.model, -1);
    tell_snapshot(f);
    f->message = last;
    tell(f, kind, j->id, -1);
    *j = (job){0};
}

static void tell_profile(fake *f, const job *j) {
    engine_profile p = {.width = j->request.width, .height = j->request.height, .text_tokens = j->request.max_sequence_length, .batch = 1,
                        .peak_bytes = 7000, .step_seconds = 0.125, .load_seconds = 0.25};
    memcpy(p.model, j->request.model, sizeof p.model);
    memcpy(p.precision, j->request.precision, sizeof p.precision);
    f->message = (engine_message){.profile = p};
    tell(f, MESSAGE_PROFILE, "", -1);
}

static void load(fake *f, job *j) {
    bool loaded;
    load_progress(f, j, find_model(f, j->request.model) != NULL ? MODEL_BYTES : 0);
    use_model(f, j->request.model, false, &loaded);
    lease(f, j->request.model, 1);
    tell_snapshot(f);
    if (loaded) load_progress(f, j, MODEL_BYTES);
    j->loaded = true;
}

static void slice(fake *f, job *j) {
    if (!j->loaded) {
        load(f, j);
        progress(f, j, PHASE_ENCODE);
        f->snapshot.prompt_misses++;
        f->snapshot.prompt_entries++;
        f->snapshot.prompt_bytes += 100;
    } else if (j->step < j->request.steps) {
        progress(f, j, PHASE_DENOISE);
        double start = clock_seconds();
        if (says(j, "slow")) usleep(50 * 1000);
        if (says(j, "deaf")) sleep(4);
        j->seconds += clock_seconds() - start;
        if (is_told(f, j, "segv<")) die_of(SIGSEGV);
        if (is_told(f, j, "kill<")) die_of(SIGKILL);
        if (is_told(f, j, "hang<")) hang();
        j->step++;
        send_preview(f, j);
        if (!says(j, "fail")) return;
        f->message = (engine_message){0};
        error_set(&f->message.fault, ERROR_OUT_OF_MEMORY, "told to fail");
        end(f, j, MESSAGE_FAILED);
    } else {
        progress(f, j, PHASE_DECODE);
        if (!says(j, "skip")) send_image(f, j);
        j->step = j->first_step;
        if (++j->image < j->request.count) return;
        tell_profile(f, j);
        f->message = (engine_message){.metrics = {.denoise_seconds = j->seconds,
                                                  .steps_run = (j->request.steps - j->first_step) * j->request.count,
                                                  .largest_batch = j->request.priority}};
        end(f, j, MESSAGE_DONE);
    }
}

static unsigned read_files(const engine_files *files) {
    unsigned sum = 0;
    for (int i = 0; i < files->count; i++) {
        unsigned char bytes[4096];
        off_t at = 0;
        for (ssize_t n; (n = pread(files->fds[i], bytes, sizeof bytes, at)) > 0; at += n)
            for (ssize_t k = 0; k < n; k++) sum += (unsigned)(i + 1) * bytes[k];
    }
    return sum;
}

static void take(fake *f, const engine_message *m, const engine_files *files) {
    if (m->kind == MESSAGE_STOP) exit(0);
    if (m->kind >= MESSAGE_LOAD && m->kind <= MESSAGE_CLEANUP) obey(f, m);
    if (m->kind == MESSAGE_KNOWN_PROFILE) {
        f->snapshot.pinned_bytes++;
        tell_snapshot(f);
    }
    for (int i = 0; i < MAX_TASKS; i++) {
        job *j = &f->jobs[i];
        if (m->kind == MESSAGE_ADMIT && !j->used) {
            *j = (job){.used = true, .request = m->request, .salt = read_files(files)};
            if (m->request.has_image) j->step = j->first_step = flux_original_first_step(m->request.steps, m->request.strength);
            memcpy(j->id, m->id, sizeof j->id);
            if (is_told(f, j, "stall<")) hang();
            return;
        }
        bool meant = j->used && strcmp(j->id, m->id) == 0;
        if (meant && (m->kind == MESSAGE_SUSPEND || m->kind == MESSAGE_RESUME)) {
            j->suspended = m->kind == MESSAGE_SUSPEND;
            return;
        }
        if (m->kind == MESSAGE_PRIORITY && meant) {
            j->request.priority = m->priority;
            return;
        }
        if (m->kind == MESSAGE_CANCEL && meant) {
            f->message = (engine_message){0};
            error_set(&f->message.fault, ERROR_CANCELLED, "cancelled");
            end(f, j, MESSAGE_FAILED);
            return;
        }
    }
}

int main(int argc, char **argv) {
    static fake f;
    static engine_message m;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--engine") == 0) f.number = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--max-models") == 0) f.max_models = atoi(argv[i + 1]);
    }
    f.message = (engine_message){.hello = {"fake", "gradients", 1}};
    const char *device = getenv("GRADIENT_DEVICE");
    if (device != NULL && sscanf(device, "%15[^:]:%127[^\n]", f.message.hello.device_kind, f.message.hello.device_name) != 2) return 1;
    const char *mute = getenv("GRADIENT_MUTE");
    if (mute != NULL && f.number < strtoull(mute, NULL, 10)) hang();
    tell(&f, MESSAGE_HELLO, "", -1);
    tell_snapshot(&f);
    for (;;) {
        bool busy = false, got = true;
        for (int i = 0; i < MAX_TASKS; i++) busy |= f.jobs[i].used && !f.jobs[i].suspended;
        while (got) {
            engine_files files;
            if (!engine_message_receive(ENGINE_SOCKET, busy ? 0 : -1, &m, &files, &got, NULL)) return 0;
            if (got) take(&f, &m, &files);
            engine_files_close(&files);
            busy = true;
        }
        for (int i = 0; i < MAX_TASKS; i++)
            if (f.jobs[i].used && !f.jobs[i].suspended) slice(&f, &f.jobs[i]);
        if (clock_seconds() - f.told_at > SNAPSHOT_MS / 1000.0) tell_snapshot(&f);
    }
}
