/* include/imagined.h over the engine room's own parts. */
#include "imagined.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "build_config.h"
#include "engine/generation.h"
#include "engine/input_picture.h"

struct imagined {
    engine_room room;
    char description[160];
};

static bool tell(imagined_fault *why, const error *e) {
    if (why == NULL) return false;
    why->code = e->code;
    snprintf(why->field, sizeof why->field, "%s", e->field);
    snprintf(why->text, sizeof why->text, "%s", e->text);
    return false;
}

const char *imagined_version(void) { return IMAGINED_VERSION; }

bool imagined_open(const imagined_options *options, imagined **out, imagined_fault *why) {
    error e = {0};
    imagined *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        error_no_memory(&e, "the engine", sizeof *engine);
        return tell(why, &e);
    }
    const engine_room_options room = {
        .device = options->device != NULL ? options->device : "auto",
        .threads = options->threads,
        .vram_limit = options->vram_limit_mb > 0 ? (size_t)options->vram_limit_mb << 20 : 0,
        .prompt_cache_bytes = PROMPT_CACHE_BYTES,
        .models = {.max_models = options->max_models > 0 ? options->max_models : 2, .max_cache_bytes = MODEL_CACHE_BYTES},
    };
    if (!engine_room_open(&engine->room, &room, &e)) {
        imagined_close(engine);
        return tell(why, &e);
    }
    snprintf(engine->description, sizeof engine->description, "%s: %s", device_kind(engine->room.device), device_name(engine->room.device));
    *out = engine;
    return true;
}

void imagined_close(imagined *engine) {
    if (engine == NULL) return;
    engine_room_close(&engine->room);
    free(engine);
}

const char *imagined_device(const imagined *engine) { return engine->description; }

static bool copy_text(char *to, size_t capacity, const char *from, const char *field, error *e) {
    size_t size = strlen(from);
    if (size >= capacity)
        return error_field(e, ERROR_TOO_LARGE, field, "the %s has %zu bytes: at most %zu are allowed", field, size, capacity - 1);
    if (!utf8_valid(from, size, NULL)) return error_field(e, ERROR_INVALID, field, "the %s is not valid UTF-8", field);
    memcpy(to, from, size + 1);
    return true;
}

static bool open_file(const char *path, const char *field, engine_files *files, error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused later, and not waited for */
    if (fd < 0)
        return error_field(e, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_IO, field, "the %s %s cannot be opened: %s", field, path,
                           strerror(errno));
    files->fds[files->count++] = fd;
    return true;
}

static bool take_pictures(const imagined_request *r, const model_info *m, engine_request *full, engine_files *files, error *e) {
    int width, height;
    if (r->mask != NULL && r->image == NULL)
        return error_field(e, ERROR_INVALID, "mask", "a mask needs an image whose parts it can say are to stay");
    if (r->image == NULL) return true;
    full->has_image = true;
    full->has_mask = r->mask != NULL;
    full->mask_is_alpha = r->mask_is_alpha;
    full->strength = r->strength != 0 ? r->strength : MODEL_DEFAULT_STRENGTH;
    if (!open_file(r->image, "image", files, e) || (full->has_mask && !open_file(r->mask, "mask", files, e))) return false;
    if (r->width != 0 || r->height != 0) return true;
    if (!input_picture_size(files->fds[0], &width, &height, e)) return false;
    model_size_for_picture(m, width, height, &full->width, &full->height);
    return true;
}

static bool complete(const imagined_request *r, engine_request *full, engine_files *files, error *e) {
    model_info m;
    *full = (engine_request){0};
    if (r->model_folder == NULL) return error_field(e, ERROR_INVALID, "model_folder", "no model folder was given");
    if (r->prompt == NULL) return error_field(e, ERROR_INVALID, "prompt", "no prompt was given");
    if (!model_folder_read(r->model_folder, "model", &m, e)) return false;
    memcpy(full->model, m.name, sizeof full->model);
    if (!copy_text(full->model_folder, sizeof full->model_folder, r->model_folder, "model_folder", e) ||
        !copy_text(full->prompt, sizeof full->prompt, r->prompt, "prompt", e) ||
        !copy_text(full->precision, sizeof full->precision, r->precision != NULL ? r->precision : "auto", "precision", e))
        return false;
    if (r->negative_prompt != NULL) {
        if (!copy_text(full->negative_prompt, sizeof full->negative_prompt, r->negative_prompt, "negative_prompt", e)) return false;
        full->has_negative_prompt = true;
    }
    snprintf(full->model, sizeof full->model, "%s", m.name);
    full->width = r->width != 0 ? r->width : m.width;
    full->height = r->height != 0 ? r->height : m.height;
    full->steps = r->steps != 0 ? r->steps : m.steps;
    full->max_sequence_length = r->max_sequence_length != 0 ? r->max_sequence_length : m.max_sequence_length;
    full->guidance_scale = r->guidance_scale >= 0 ? r->guidance_scale : m.guidance;
    full->true_cfg_scale = r->true_cfg_scale;
    full->count = 1;
    full->seed = r->seed;
    return take_pictures(r, &m, full, files, e);
}

static bool run(generation *g, imagined_on_progress *progress, void *context, imagined_image *out, error *e) {
    generated_image image;
    for (generation_state s; !(s = generation_get_state(g)).finished;) {
        const imagined_progress p = {engine_phase_name(s.phase), s.step, s.steps};
        if (progress != NULL && !progress(context, &p)) return error_set(e, ERROR_CANCELLED, "the generation was cancelled");
        if (!generation_advance(g, &image, e)) return false;
        if (image.rgb == NULL) continue;
        size_t bytes = (size_t)image.width * (size_t)image.height * 3;
        out->rgb = malloc(bytes);
        if (out->rgb == NULL) return error_no_memory(e, "the picture", bytes);
        memcpy(out->rgb, image.rgb, bytes);
        out->width = image.width;
        out->height = image.height;
    }
    return true;
}

bool imagined_generate(imagined *engine, const imagined_request *request, imagined_on_progress *progress, void *context,
                       imagined_image *out, imagined_fault *why) {
    error e = {0};
    engine_request *full = malloc(sizeof *full);
    engine_files files = {0};
    generation *g = NULL;
    *out = (imagined_image){0};
    bool ok = full != NULL || error_no_memory(&e, "the request", sizeof *full);
    ok = ok && complete(request, full, &files, &e) && generation_new(&engine->room, full, &files, &g, &e) &&
         run(g, progress, context, out, &e);
    if (ok) {
        out->seed = full->seed;
        out->steps = full->steps;
        out->guidance_scale = full->guidance_scale;
        out->strength = full->has_image ? full->strength : 0;
    } else {
        imagined_image_free(out);
    }
    generation_free(g);
    engine_files_close(&files);
    free(full);
    return ok || tell(why, &e);
}

void imagined_image_free(imagined_image *image) {
    free(image->rgb);
    *image = (imagined_image){0};
}
