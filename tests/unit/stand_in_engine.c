/* A room with a device and models, and a generation whose prompt says what happens: stand-ins for an engine's, for the tests of its
 * process. They replace the product's, as the linker takes these and leaves the library's alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/generation.h"
#include "engine/load_commands.h"

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

/* Words in a prompt: "share" shares steps, which take as long for many as for one; "few" finds memory for two images a step; "spoils" fails
 * a shared step, and its own. */
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
        if (strcmp(shares[0].task->request.prompt, "thirsty") == 0 && !shares[0].task->lowered)
            return error_set(e, ERROR_OUT_OF_MEMORY, "none left");
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
