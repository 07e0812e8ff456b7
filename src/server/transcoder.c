#include "server/transcoder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/file.h"
#include "image/resample.h"

enum { JPEG_TEXT_BYTES = 30000 }; /* as UTF-16 it fits into an EXIF block's 64 KiB */

struct transcoding {
    transcode job; /* its path is our own */
    transcode_done done;
    void *context;
    size_t pixel_bytes; /* of job.pixels when it came */
    bool dropped;       /* guarded by the mutex: nobody waits for it any more */
    buffer file;
    error fault; /* code ERROR_NONE: the file is there */
    transcoding *next;
};

typedef struct fifo {
    transcoding *first, *last;
} fifo;

/* `mutex` guards both queues, `dropped` and `stop`; a job belongs to whoever took it out. */
struct transcoder {
    int jobs, dropped; /* not yet told, and those of them that never will be; the loop's, as is the next */
    size_t pixel_bytes;
    loop_watch *watch;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    fifo waiting, finished;
    bool stop, started;
    int event; /* an eventfd: not 0 while some are finished */
};

static void push(fifo *f, transcoding *job) {
    job->next = NULL;
    if (f->last != NULL) f->last->next = job;
    else f->first = job;
    f->last = job;
}

static transcoding *pop(fifo *f) {
    transcoding *job = f->first;
    if (job == NULL) return NULL;
    f->first = job->next;
    if (f->first == NULL) f->last = NULL;
    return job;
}

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

static void work(transcoding *job) {
    const buffer none = {0};
    if (job->job.path != NULL) work_on_file(&job->job, &job->file, &job->fault);
    else encode(&job->job.pixels, &job->job, &none, &job->file, &job->fault);
}

static void *run(void *context) {
    transcoder *t = context;
    const uint64_t one = 1;
    pthread_mutex_lock(&t->mutex);
    for (;;) {
        while (!t->stop && t->waiting.first == NULL) pthread_cond_wait(&t->wake, &t->mutex);
        if (t->stop) break;
        transcoding *job = pop(&t->waiting);
        bool wanted = !job->dropped;
        pthread_mutex_unlock(&t->mutex);
        if (wanted) work(job);
        pthread_mutex_lock(&t->mutex);
        push(&t->finished, job);
        while (write(t->event, &one, sizeof one) < 0 && errno == EINTR) continue;
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

/* --- the loop's side --- */

static void finish(transcoder *t, transcoding *job, bool wanted) {
    bool ok = job->fault.code == ERROR_NONE;
    t->jobs--;
    t->dropped -= !wanted;
    t->pixel_bytes -= job->pixel_bytes;
    if (wanted) job->done(job->context, ok ? &job->file : NULL, ok ? NULL : &job->fault);
    transcoding_free(job);
}

static void on_finished(void *context) {
    transcoder *t = context;
    uint64_t count;
    while (read(t->event, &count, sizeof count) < 0 && errno == EINTR) continue;
    for (;;) {
        pthread_mutex_lock(&t->mutex);
        transcoding *job = pop(&t->finished);
        bool wanted = job != NULL && !job->dropped;
        pthread_mutex_unlock(&t->mutex);
        if (job == NULL) return;
        finish(t, job, wanted);
    }
}

bool transcoder_new(loop *l, transcoder **out, error *e) {
    transcoder *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "the transcoder", sizeof *t);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    t->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ok = t->event >= 0 || error_system(e, "make", "an eventfd");
    ok = ok && loop_watch_new(l, t->event, on_finished, t, &t->watch, e);
    if (ok) t->started = pthread_create(&t->thread, NULL, run, t) == 0;
    if (ok && !t->started) ok = error_set(e, ERROR_OUT_OF_MEMORY, "the transcoder's thread could not be started");
    if (!ok) {
        transcoder_free(t);
        return false;
    }
    *out = t;
    return true;
}

void transcoder_free(transcoder *t) {
    if (t == NULL) return;
    if (t->started) {
        pthread_mutex_lock(&t->mutex);
        t->stop = true;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&t->mutex);
        pthread_join(t->thread, NULL);
    }
    for (transcoding *job; (job = pop(&t->waiting)) != NULL;) transcoding_free(job);
    for (transcoding *job; (job = pop(&t->finished)) != NULL;) transcoding_free(job);
    loop_watch_free(t->watch);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->mutex);
    if (t->event >= 0) close(t->event);
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
    pthread_mutex_lock(&t->mutex);
    push(&t->waiting, added);
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->mutex);
    return true;
}

void transcoder_drop(transcoder *t, transcoding *job) {
    if (job == NULL || job->dropped) return;
    t->dropped++;
    pthread_mutex_lock(&t->mutex);
    job->dropped = true;
    pthread_mutex_unlock(&t->mutex);
}

bool transcoder_idle(const transcoder *t) { return t->jobs == t->dropped; }

bool transcode_copy_preview(const preview *v, image *out, error *e) {
    if (!image_new(v->width, v->height, 3, out, e)) return false;
    memcpy(out->pixels, v->rgb, (size_t)v->width * (size_t)v->height * 3);
    return true;
}
