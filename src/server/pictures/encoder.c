#include "server/pictures/encoder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "image/png.h"

enum { RETRY_SECONDS = 1 }; /* while the disk is full */

typedef struct item {
    encoder_job job;
    encoder_result result;
    struct item *next;
} item;

typedef struct fifo {
    item *first, *last;
} fifo;

/* `mutex` guards both queues and `stop`; an item belongs to whoever took it out. */
struct encoder {
    const picture_store *store;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    fifo waiting, finished;
    bool stop, started;
    int event; /* an eventfd: counts results */
};

static void push(fifo *f, item *i) {
    i->next = NULL;
    if (f->last != NULL) f->last->next = i;
    else f->first = i;
    f->last = i;
}

static item *pop(fifo *f) {
    item *i = f->first;
    if (i == NULL) return NULL;
    f->first = i->next;
    if (f->first == NULL) f->last = NULL;
    return i;
}

static void drop_job(encoder_job *job) {
    if (job->memfd >= 0) close(job->memfd);
    free(job->parameters);
    for (int i = 0; i < job->text_count; i++) free(job->texts[i].text);
    job->memfd = -1;
    job->parameters = NULL;
    job->text_count = 0;
}

void encoder_job_add_text(encoder_job *job, const char *keyword, char *text) {
    bool fits = text != NULL && job->text_count < ENCODER_TEXTS && strlen(text) <= ENCODER_TEXT_BYTES;
    if (fits) job->texts[job->text_count++] = (encoder_text){keyword, text};
    else free(text);
}

static bool encode_mapped(const encoder_job *job, const uint8_t *rgb, buffer *png, error *e) {
    png_text_entry texts[1 + ENCODER_TEXTS] = {{"parameters", job->parameters}};
    for (int i = 0; i < job->text_count; i++) texts[1 + i] = (png_text_entry){job->texts[i].keyword, job->texts[i].text};
    return png_encode(rgb, job->width, job->height, texts, (size_t)(1 + job->text_count), png, e);
}

static bool encode(const encoder_job *job, buffer *png, error *e) {
    size_t pixels, bytes;
    struct stat info;
    if (job->width <= 0 || job->height <= 0 || !checked_mul((size_t)job->width, (size_t)job->height, &pixels) ||
        !checked_mul(pixels, 3, &bytes))
        return error_set(e, ERROR_INTERNAL, "an image of %d × %d pixels came from the engine", job->width, job->height);
    /* Reading past the end of a mapped file would be the end of the process. */
    if (fstat(job->memfd, &info) != 0 || info.st_size != (off_t)bytes)
        return error_set(e, ERROR_INTERNAL, "the engine's pixels are not as many as it said");
    uint8_t *rgb = mmap(NULL, bytes, PROT_READ, MAP_SHARED, job->memfd, 0);
    if (rgb == MAP_FAILED) return error_no_memory(e, "an image's pixels", bytes);
    bool ok = encode_mapped(job, rgb, png, e);
    munmap(rgb, bytes);
    return ok;
}

static void finish(encoder *enc, item *i) {
    const uint64_t one = 1;
    pthread_mutex_lock(&enc->mutex);
    push(&enc->finished, i);
    pthread_mutex_unlock(&enc->mutex);
    while (write(enc->event, &one, sizeof one) < 0 && errno == EINTR) continue;
}

/* Tells once that the disk is full; without memory for that it is told with the end alone. */
static void tell_waiting(encoder *enc, const encoder_result *r) {
    item *told = calloc(1, sizeof *told);
    if (told == NULL) return;
    told->job.memfd = -1;
    told->result = *r;
    told->result.waiting = true;
    finish(enc, told);
}

/* False when the encoder is to stop meanwhile. */
static bool wait_for_space(encoder *enc) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_SECONDS;
    pthread_mutex_lock(&enc->mutex);
    while (!enc->stop && pthread_cond_timedwait(&enc->wake, &enc->mutex, &until) == 0) continue;
    bool stop = enc->stop;
    pthread_mutex_unlock(&enc->mutex);
    return !stop;
}

static void store(encoder *enc, const char *id, const buffer *png, encoder_result *r) {
    for (bool told = false;; told = true) {
        r->fault = (error){0};
        if (picture_store_write(enc->store, id, png, &r->fault) || r->fault.code != ERROR_DISK_FULL) return;
        if (!told) tell_waiting(enc, r);
        if (!wait_for_space(enc)) return;
    }
}

static void work(encoder *enc, item *i) {
    char id[PICTURE_ID_BYTES];
    buffer png = {0};
    encoder_result *r = &i->result;
    picture_id_format(i->job.task, i->job.index, id);
    memcpy(r->task, i->job.task, sizeof r->task);
    r->index = i->job.index;
    r->run = i->job.run;
    if (encode(&i->job, &png, &r->fault)) store(enc, id, &png, r);
    r->bytes = png.size;
    buffer_free(&png);
    drop_job(&i->job);
}

static void *run(void *context) {
    encoder *enc = context;
    picture_store_clean(enc->store); /* here, as the folder may hold a hundred thousand pictures */
    pthread_mutex_lock(&enc->mutex);
    for (;;) {
        while (!enc->stop && enc->waiting.first == NULL) pthread_cond_wait(&enc->wake, &enc->mutex);
        if (enc->stop) break;
        item *i = pop(&enc->waiting);
        pthread_mutex_unlock(&enc->mutex);
        work(enc, i);
        finish(enc, i);
        pthread_mutex_lock(&enc->mutex);
    }
    pthread_mutex_unlock(&enc->mutex);
    return NULL;
}

bool encoder_new(const picture_store *store, encoder **out, error *e) {
    encoder *enc = calloc(1, sizeof *enc);
    if (enc == NULL) return error_no_memory(e, "the encoder", sizeof *enc);
    enc->store = store;
    enc->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    pthread_mutex_init(&enc->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&enc->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    enc->started = enc->event >= 0 && pthread_create(&enc->thread, NULL, run, enc) == 0;
    if (!enc->started) {
        encoder_free(enc);
        return error_set(e, ERROR_OUT_OF_MEMORY, "the encoder's thread could not be started");
    }
    *out = enc;
    return true;
}

static void drop_all(fifo *f) {
    for (item *i; (i = pop(f)) != NULL;) {
        drop_job(&i->job);
        free(i);
    }
}

void encoder_free(encoder *enc) {
    if (enc == NULL) return;
    if (enc->started) {
        pthread_mutex_lock(&enc->mutex);
        enc->stop = true;
        pthread_cond_signal(&enc->wake);
        pthread_mutex_unlock(&enc->mutex);
        pthread_join(enc->thread, NULL);
    }
    drop_all(&enc->waiting);
    drop_all(&enc->finished);
    pthread_cond_destroy(&enc->wake);
    pthread_mutex_destroy(&enc->mutex);
    if (enc->event >= 0) close(enc->event);
    free(enc);
}

bool encoder_submit(encoder *enc, encoder_job *job, error *e) {
    item *i = calloc(1, sizeof *i);
    if (i == NULL || job->parameters == NULL) {
        free(i);
        drop_job(job);
        return error_no_memory(e, "an image to encode", sizeof *i);
    }
    i->job = *job;
    job->memfd = -1;
    job->parameters = NULL;
    pthread_mutex_lock(&enc->mutex);
    push(&enc->waiting, i);
    pthread_cond_signal(&enc->wake);
    pthread_mutex_unlock(&enc->mutex);
    return true;
}

int encoder_fd(const encoder *enc) { return enc->event; }

bool encoder_next(encoder *enc, encoder_result *out) {
    pthread_mutex_lock(&enc->mutex);
    item *i = pop(&enc->finished);
    pthread_mutex_unlock(&enc->mutex);
    uint64_t count;
    if (i == NULL) return false;
    while (read(enc->event, &count, sizeof count) < 0 && errno == EINTR) continue;
    *out = i->result;
    free(i);
    return true;
}
