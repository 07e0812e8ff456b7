#include "server/pictures/transcoder.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "image/resample.h"
#include "server/http/worker.h"

enum { JPEG_TEXT_BYTES = 30000 }; /* as UTF-16 it fits into an EXIF block's 64 KiB */

struct transcoding {
    worker_job on_worker;
    transcode job; /* its path is our own */
    transcode_done done;
    void *context;
    size_t pixel_bytes; /* of job.pixels when it came */
    atomic_bool dropped; /* nobody waits for it any more */
    buffer file;
    error fault; /* code ERROR_NONE: the file is there */
};

struct transcoder {
    int jobs, dropped; /* not yet told, and those of them that never will be */
    size_t pixel_bytes;
    worker *worker;
};

static void transcoding_free(transcoding *job) {
    if (job == NULL) return;
    free((char *)job->job.path);
    image_free(&job->job.pixels);
    buffer_free(&job->file);
    free(job);
}

/* --- the work --- */

static bool resize(image *io, int width, int height, error *e) {
    image resized;
    if ((width == 0 && height == 0) || (width == io->width && height == io->height)) return true;
    if (!image_resize(io, width, height, &resized, e)) return false;
    image_free(io);
    *io = resized;
    return true;
}

/* Takes the pixels. */
static bool encode(image *pixels, const transcode *job, const buffer *settings, buffer *out, error *e) {
    static const uint8_t white[3] = {255, 255, 255};
    bool told = settings->size > 0 && (job->format != IMAGE_JPEG || settings->size <= JPEG_TEXT_BYTES);
    bool ok = resize(pixels, job->width, job->height, e);
    if (ok && job->format == IMAGE_JPEG) image_flatten(pixels, white);
    ok = ok && image_encode(pixels, job->format, job->quality, told ? buffer_text(settings) : NULL, out, e);
    image_free(pixels);
    return ok;
}

static bool work_on_file(const transcode *job, buffer *out, error *e) {
    buffer stored = {0}, settings = {0};
    image_info info;
    image pixels = {0};
    bool ok = file_read(job->path, TRANSCODER_FILE_BYTES, &stored, e) && image_probe(stored.data, stored.size, &info, e);
    bool same = ok && info.format == IMAGE_PNG && job->format == IMAGE_PNG &&
                ((job->width == 0 && job->height == 0) || (job->width == info.width && job->height == info.height));
    if (same) {
        *out = stored;
        return true;
    }
    ok = ok && image_decode(stored.data, stored.size, &pixels, e);
    /* A picture without its text is better than none. */
    if (ok && !image_metadata_read(stored.data, stored.size, &settings, NULL)) buffer_free(&settings);
    buffer_free(&stored);
    ok = ok && encode(&pixels, job, &settings, out, e);
    buffer_free(&settings);
    return ok;
}

static void work(void *context, worker_job *on_worker) {
    (void)context;
    transcoding *job = (transcoding *)on_worker;
    const buffer none = {0};
    if (job->dropped) return;
    if (job->job.path != NULL) work_on_file(&job->job, &job->file, &job->fault);
    else encode(&job->job.pixels, &job->job, &none, &job->file, &job->fault);
}

/* --- the loop's side --- */

static void finish(void *context, worker_job *on_worker) {
    transcoder *t = context;
    transcoding *job = (transcoding *)on_worker;
    bool ok = job->fault.code == ERROR_NONE, wanted = !job->dropped;
    t->jobs--;
    t->dropped -= !wanted;
    t->pixel_bytes -= job->pixel_bytes;
    if (wanted) job->done(job->context, ok ? &job->file : NULL, ok ? NULL : &job->fault);
    transcoding_free(job);
}

static void forget(void *context, worker_job *on_worker) {
    (void)context;
    transcoding_free((transcoding *)on_worker);
}

bool transcoder_new(loop *l, transcoder **out, error *e) {
    transcoder *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "the transcoder", sizeof *t);
    const worker_duties duties = {t, work, finish, forget};
    if (!worker_new(l, "the transcoder", &duties, &t->worker, e)) {
        transcoder_free(t);
        return false;
    }
    *out = t;
    return true;
}

void transcoder_free(transcoder *t) {
    if (t == NULL) return;
    worker_free(t->worker);
    free(t);
}

static bool has_room(const transcoder *t, size_t pixel_bytes, error *e) {
    bool fits = pixel_bytes <= TRANSCODER_MAX_BYTES && t->pixel_bytes <= TRANSCODER_MAX_BYTES - pixel_bytes;
    return (fits && t->jobs < TRANSCODER_MAX_JOBS) || error_set(e, ERROR_BUSY, "too many pictures wait to be converted: come again");
}

bool transcoder_add(transcoder *t, const transcode *job, transcode_done done, void *context, transcoding **out, error *e) {
    image pixels = job->pixels;
    size_t pixel_bytes = pixels.pixels != NULL ? (size_t)pixels.width * (size_t)pixels.height * (size_t)pixels.channels : 0;
    bool ok = has_room(t, pixel_bytes, e);
    transcoding *added = ok ? calloc(1, sizeof *added) : NULL;
    char *path = added != NULL && job->path != NULL ? strdup(job->path) : NULL;
    if (added == NULL || (job->path != NULL && path == NULL)) {
        image_free(&pixels);
        free(added);
        return ok ? error_no_memory(e, "a picture's conversion", sizeof *added) : false;
    }
    *added = (transcoding){.job = *job, .done = done, .context = context, .pixel_bytes = pixel_bytes};
    added->job.path = path;
    if (added->job.quality == 0) added->job.quality = TRANSCODE_QUALITY;
    t->jobs++;
    t->pixel_bytes += pixel_bytes;
    if (out != NULL) *out = added;
    worker_add(t->worker, &added->on_worker);
    return true;
}

void transcoder_drop(transcoder *t, transcoding *job) {
    if (job == NULL || job->dropped) return;
    t->dropped++;
    job->dropped = true;
}

bool transcoder_idle(const transcoder *t) { return t->jobs == t->dropped; }

bool transcode_copy_preview(const preview *v, image *out, error *e) {
    if (!image_new(v->width, v->height, 3, out, e)) return false;
    memcpy(out->pixels, v->rgb, (size_t)v->width * (size_t)v->height * 3);
    return true;
}
