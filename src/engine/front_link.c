#include "engine/front_link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

bool front_link_receive(front_link *l, int timeout_ms) {
    while (!l->over) {
        bool got;
        error fault = {0};
        engine_files_close(&l->files);
        if (!engine_message_receive(l->socket, timeout_ms, &l->in, &l->files, &got, &fault)) {
            log_line(LOG_DEBUG, "%s", fault.text);
            l->over = true;
            return false;
        }
        if (!got) return false;
        if (l->in.engine == l->engine) return true;
    }
    return false;
}

static engine_message *begin(front_link *l, engine_message_kind kind, const char *id) {
    l->out = (engine_message){.kind = kind, .engine = l->engine};
    snprintf(l->out.id, sizeof l->out.id, "%s", id);
    return &l->out;
}

static void finish(front_link *l, int fd) {
    error fault = {0};
    if (l->over || engine_message_send_within(l->socket, &l->out, fd, -1, &fault)) return;
    log_line(LOG_DEBUG, "%s", fault.text);
    l->over = true;
}

void front_link_hello(front_link *l, const device *d) {
    engine_message *m = begin(l, MESSAGE_HELLO, "");
    snprintf(m->hello.device_kind, sizeof m->hello.device_kind, "%s", device_kind(d));
    snprintf(m->hello.device_name, sizeof m->hello.device_name, "%s", device_name(d));
    m->hello.threads = device_threads(d);
    finish(l, -1);
}

void front_link_progress(front_link *l, const char *id, const generation_state *s, uint64_t slice) {
    engine_message *m = begin(l, MESSAGE_PROGRESS, id);
    m->progress.phase = s->phase;
    m->progress.image = s->image;
    m->progress.images = s->images;
    m->progress.step = s->step;
    m->progress.steps = s->steps;
    m->progress.slice = slice;
    m->progress.bytes_done = s->bytes_done;
    m->progress.bytes_total = s->bytes_total;
    finish(l, -1);
}

/* The pixels in a file of memory that nobody can change any more: the front reads them in place. */
static bool make_memfd(const void *pixels, size_t size, int *out, error *e) {
    int fd = memfd_create("imagined-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return error_system(e, "make", "a memory file for the image");
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, (const char *)pixels + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            close(fd);
            return error_no_memory(e, "the finished image", size);
        }
        at += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
        error_system(e, "seal", "the memory file of the image");
        close(fd);
        return false;
    }
    *out = fd;
    return true;
}

bool front_link_image(front_link *l, const char *id, const generated_image *image, error *e) {
    int fd = -1;
    if (!make_memfd(image->rgb, (size_t)image->width * (size_t)image->height * 3, &fd, e)) return false;
    engine_message *m = begin(l, MESSAGE_IMAGE, id);
    m->image.index = image->index;
    m->image.width = image->width;
    m->image.height = image->height;
    m->image.seed = image->seed;
    finish(l, fd);
    close(fd);
    return true;
}

bool front_link_preview(front_link *l, const char *id, const generated_preview *preview) {
    int fd = -1;
    error fault = {0};
    if (l->over || !make_memfd(preview->rgb, (size_t)preview->width * (size_t)preview->height * 3, &fd, NULL)) return false;
    engine_message *m = begin(l, MESSAGE_PREVIEW, id);
    m->preview.index = preview->image;
    m->preview.step = preview->step;
    m->preview.width = preview->width;
    m->preview.height = preview->height;
    bool sent = engine_message_send(l->socket, m, fd, &fault);
    if (!sent && fault.code != ERROR_BUSY) l->over = true;
    close(fd);
    return sent;
}

void front_link_done(front_link *l, const char *id, const engine_metrics *metrics) {
    begin(l, MESSAGE_DONE, id)->metrics = *metrics;
    finish(l, -1);
}

void front_link_failed(front_link *l, const char *id, const error *why) {
    engine_message *m = begin(l, MESSAGE_FAILED, id);
    m->fault = *why;
    if (why->code == ERROR_NONE) error_set(&m->fault, ERROR_INTERNAL, "it failed without saying why");
    finish(l, -1);
}

void front_link_answer(front_link *l, const char *id, const engine_answer *answer) {
    begin(l, MESSAGE_ANSWER, id)->answer = *answer;
    finish(l, -1);
}

void front_link_snapshot(front_link *l, const engine_snapshot *s) {
    begin(l, MESSAGE_SNAPSHOT, "")->snapshot = *s;
    finish(l, -1);
}

void front_link_plan(front_link *l, const char *id, const engine_plan *plan) {
    begin(l, MESSAGE_PLAN, id)->plan = *plan;
    finish(l, -1);
}

void front_link_profile(front_link *l, const engine_profile *profile) {
    begin(l, MESSAGE_PROFILE, "")->profile = *profile;
    finish(l, -1);
}
