#include "server/preview_files.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct preview_job {
    preview_file_done done; /* the loop's, as is `context`; NULL: forgotten */
    void *context;
    preview preview; /* rgb: .pixels */
    uint8_t *pixels;
    int side, quality;
    image_format format;
    buffer file;
    error fault; /* code ERROR_NONE: the file is there */
    struct preview_job *next;
};

typedef struct fifo {
    preview_job *first, *last;
} fifo;

/* `mutex` guards both queues and `stop`; a job belongs to whoever took it out, but for `done` and its context. */
struct preview_files {
    loop_watch *watch;
    int count; /* of jobs that are not done; the loop's */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    fifo waiting, finished;
    bool stop, started;
    int event; /* an eventfd: not 0 while some are finished */
};

static void push(fifo *f, preview_job *j) {
    j->next = NULL;
    if (f->last != NULL) f->last->next = j;
    else f->first = j;
    f->last = j;
}

static preview_job *pop(fifo *f) {
    preview_job *j = f->first;
    if (j == NULL) return NULL;
    f->first = j->next;
    if (f->first == NULL) f->last = NULL;
    return j;
}

static void job_free(preview_job *j) {
    buffer_free(&j->file);
    free(j->pixels);
    free(j);
}

static void *run(void *context) {
    preview_files *f = context;
    const uint64_t one = 1;
    pthread_mutex_lock(&f->mutex);
    for (;;) {
        while (!f->stop && f->waiting.first == NULL) pthread_cond_wait(&f->wake, &f->mutex);
        if (f->stop) break;
        preview_job *j = pop(&f->waiting);
        pthread_mutex_unlock(&f->mutex);
        preview_encode(&j->preview, j->side, j->format, j->quality, &j->file, &j->fault);
        pthread_mutex_lock(&f->mutex);
        push(&f->finished, j);
        while (write(f->event, &one, sizeof one) < 0 && errno == EINTR) continue;
    }
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

static void on_finished(void *context) {
    preview_files *f = context;
    uint64_t count;
    while (read(f->event, &count, sizeof count) < 0 && errno == EINTR) continue;
    for (;;) {
        pthread_mutex_lock(&f->mutex);
        preview_job *j = pop(&f->finished);
        pthread_mutex_unlock(&f->mutex);
        if (j == NULL) return;
        f->count--;
        bool ok = j->fault.code == ERROR_NONE;
        if (j->done != NULL) j->done(j->context, ok ? &j->file : NULL, ok ? NULL : &j->fault);
        job_free(j);
    }
}

bool preview_files_new(loop *l, preview_files **out, error *e) {
    preview_files *f = calloc(1, sizeof *f);
    if (f == NULL) return error_no_memory(e, "the previews' files", sizeof *f);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->wake, NULL);
    f->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ok = f->event >= 0 || error_system(e, "make", "an eventfd");
    ok = ok && loop_watch_new(l, f->event, on_finished, f, &f->watch, e);
    if (ok) f->started = pthread_create(&f->thread, NULL, run, f) == 0;
    if (ok && !f->started) ok = error_set(e, ERROR_OUT_OF_MEMORY, "the previews' thread could not be started");
    if (!ok) {
        preview_files_free(f);
        return false;
    }
    *out = f;
    return true;
}

static void drop_all(fifo *jobs) {
    for (preview_job *j; (j = pop(jobs)) != NULL;) job_free(j);
}

void preview_files_free(preview_files *f) {
    if (f == NULL) return;
    if (f->started) {
        pthread_mutex_lock(&f->mutex);
        f->stop = true;
        pthread_cond_signal(&f->wake);
        pthread_mutex_unlock(&f->mutex);
        pthread_join(f->thread, NULL);
    }
    drop_all(&f->waiting);
    drop_all(&f->finished);
    loop_watch_free(f->watch);
    pthread_cond_destroy(&f->wake);
    pthread_mutex_destroy(&f->mutex);
    if (f->event >= 0) close(f->event);
    free(f);
}

bool preview_files_make(preview_files *f, const preview *v, int side, image_format format, int quality, preview_file_done done, void *context, preview_job **job,
                        error *e) {
    if (f->count >= PREVIEW_FILES_WAITING) return error_set(e, ERROR_BUSY, "too many previews wait to be encoded: come again");
    size_t bytes = (size_t)v->width * (size_t)v->height * 3;
    preview_job *j = calloc(1, sizeof *j);
    uint8_t *pixels = malloc(bytes);
    if (j == NULL || pixels == NULL) {
        free(j);
        free(pixels);
        return error_no_memory(e, "a preview", bytes);
    }
    memcpy(pixels, v->rgb, bytes);
    *j = (preview_job){.done = done, .context = context, .preview = *v, .pixels = pixels, .side = side, .quality = quality, .format = format};
    j->preview.rgb = pixels;
    f->count++;
    *job = j;
    pthread_mutex_lock(&f->mutex);
    push(&f->waiting, j);
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->mutex);
    return true;
}

void preview_files_forget(preview_job *job) { job->done = NULL; }
