#include "server/http/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct fifo {
    worker_job *first, *last;
} fifo;

/* `mutex` guards both queues and `stop`; a job belongs to whoever took it out. */
struct worker {
    worker_duties duties;
    loop_watch *watch;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    fifo waiting, finished;
    bool stop, started;
    int event; /* an eventfd: not 0 while some are finished */
};

static void push(fifo *f, worker_job *job) {
    job->next = NULL;
    if (f->last != NULL) f->last->next = job;
    else f->first = job;
    f->last = job;
}

static worker_job *pop(fifo *f) {
    worker_job *job = f->first;
    if (job == NULL) return NULL;
    f->first = job->next;
    if (f->first == NULL) f->last = NULL;
    return job;
}

static void *run(void *context) {
    worker *w = context;
    const uint64_t one = 1;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (!w->stop && w->waiting.first == NULL) pthread_cond_wait(&w->wake, &w->mutex);
        if (w->stop) break;
        worker_job *job = pop(&w->waiting);
        pthread_mutex_unlock(&w->mutex);
        w->duties.work(w->duties.context, job);
        pthread_mutex_lock(&w->mutex);
        push(&w->finished, job);
        while (write(w->event, &one, sizeof one) < 0 && errno == EINTR) continue;
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static void on_finished(void *context) {
    worker *w = context;
    uint64_t count;
    while (read(w->event, &count, sizeof count) < 0 && errno == EINTR) continue;
    for (;;) {
        pthread_mutex_lock(&w->mutex);
        worker_job *job = pop(&w->finished);
        pthread_mutex_unlock(&w->mutex);
        if (job == NULL) return;
        w->duties.done(w->duties.context, job);
    }
}

bool worker_new(loop *l, const char *name, const worker_duties *duties, worker **out, error *e) {
    worker *w = calloc(1, sizeof *w);
    if (w == NULL) return error_no_memory(e, name, sizeof *w);
    w->duties = *duties;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ok = w->event >= 0 || error_system(e, "make", "an eventfd");
    ok = ok && loop_watch_new(l, w->event, on_finished, w, &w->watch, e);
    if (ok) w->started = pthread_create(&w->thread, NULL, run, w) == 0;
    if (ok && !w->started) ok = error_set(e, ERROR_OUT_OF_MEMORY, "the thread of %s could not be started", name);
    if (!ok) {
        worker_free(w);
        return false;
    }
    *out = w;
    return true;
}

static void drop_all(worker *w, fifo *f) {
    for (worker_job *job; (job = pop(f)) != NULL;) w->duties.dropped(w->duties.context, job);
}

void worker_free(worker *w) {
    if (w == NULL) return;
    if (w->started) {
        pthread_mutex_lock(&w->mutex);
        w->stop = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(w->thread, NULL);
    }
    drop_all(w, &w->finished);
    drop_all(w, &w->waiting);
    loop_watch_free(w->watch);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    if (w->event >= 0) close(w->event);
    free(w);
}

void worker_add(worker *w, worker_job *job) {
    pthread_mutex_lock(&w->mutex);
    push(&w->waiting, job);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}
