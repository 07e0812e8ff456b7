#include "compute/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* libgomp's: oneDNN asks it how many threads to use. Here every thread is one of the team's already. */
void omp_set_num_threads(int count);

enum { LOOKS = 2000 }; /* before a thread sleeps: some 20 to 50 µs */

typedef struct worker {
    team *team;
    pthread_t thread;
    int index;
} worker;

/* `state` holds the number of the job (upper half), whether it is open to newcomers, and how many workers are at it. A worker joins by a
 * compare-and-swap that succeeds only while the job is open, so after the leader has closed it and seen the count reach 0, no worker can
 * touch it. */
struct team {
    int size;
    _Atomic uint64_t state;
    team_job job; /* written before the job opens */
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t opened, left;
    int sleeping;  /* workers in `opened`; under lock */
    bool waiting;  /* the leader is in `left`; under lock */
    bool stopping; /* under lock */
    int started;
    worker workers[];
};

static const uint64_t one_job = (uint64_t)1 << 32, open_bit = (uint64_t)1 << 31, count_mask = open_bit - 1;

static inline void look_again(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static bool is_new(uint64_t state, uint64_t seen) { return (state & open_bit) != 0 && state >> 32 != seen; }

/* Waits for a job that this worker has not seen. False when the team stops. */
static bool wait_for_job(team *t, uint64_t seen) {
    for (int i = 0; i < LOOKS; i++) {
        if (is_new(atomic_load(&t->state), seen)) return true;
        look_again();
    }
    pthread_mutex_lock(&t->lock);
    t->sleeping++;
    while (!t->stopping && !is_new(atomic_load(&t->state), seen)) pthread_cond_wait(&t->opened, &t->lock);
    t->sleeping--;
    bool go_on = !t->stopping;
    pthread_mutex_unlock(&t->lock);
    return go_on;
}

static bool join(team *t, uint64_t *seen) {
    uint64_t state = atomic_load(&t->state);
    while (is_new(state, *seen))
        if (atomic_compare_exchange_weak(&t->state, &state, state + 1)) {
            *seen = state >> 32;
            return true;
        }
    return false;
}

static void leave(team *t) {
    uint64_t state = atomic_fetch_sub(&t->state, 1) - 1;
    if ((state & (open_bit | count_mask)) != 0) return;
    pthread_mutex_lock(&t->lock);
    if (t->waiting) pthread_cond_signal(&t->left);
    pthread_mutex_unlock(&t->lock);
}

static void *work(void *argument) {
    worker *w = argument;
    team *t = w->team;
    uint64_t seen = 0;
    omp_set_num_threads(1);
    while (wait_for_job(t, seen)) {
        if (!join(t, &seen)) continue;
        t->job(t->context, w->index);
        leave(t);
    }
    return NULL;
}

/* Signals are the business of the program's other threads. */
static bool start(team *t) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = true;
    for (int i = 1; ok && i < t->size; i++) {
        worker *w = &t->workers[t->started];
        *w = (worker){.team = t, .index = i};
        ok = pthread_create(&w->thread, NULL, work, w) == 0;
        if (!ok) break;
        pthread_setname_np(w->thread, "compute");
        t->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

bool team_new(int threads, team **out, error *e) {
    *out = NULL;
    if (threads < 1) threads = 1;
    team *t = calloc(1, sizeof *t + (size_t)threads * sizeof t->workers[0]);
    if (t == NULL) return error_no_memory(e, "threads", sizeof *t + (size_t)threads * sizeof t->workers[0]);
    t->size = threads;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->opened, NULL);
    pthread_cond_init(&t->left, NULL);
    if (!start(t)) {
        team_free(t);
        return error_set(e, ERROR_DEVICE, "%d threads to compute with could not be started", threads);
    }
    *out = t;
    return true;
}

void team_free(team *t) {
    if (t == NULL) return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_broadcast(&t->opened);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->started; i++) pthread_join(t->workers[i].thread, NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->opened);
    pthread_cond_destroy(&t->left);
    free(t);
}

int team_size(const team *t) { return t->size; }

static void open_job(team *t) {
    uint64_t state = atomic_load(&t->state);
    atomic_store(&t->state, ((state / one_job + 1) & UINT32_MAX) * one_job | open_bit);
    pthread_mutex_lock(&t->lock);
    if (t->sleeping > 0) pthread_cond_broadcast(&t->opened);
    pthread_mutex_unlock(&t->lock);
}

static void close_job(team *t) {
    uint64_t state = atomic_fetch_and(&t->state, ~open_bit) & ~open_bit;
    for (int i = 0; i < LOOKS && (state & count_mask) != 0; i++) {
        look_again();
        state = atomic_load(&t->state);
    }
    if ((state & count_mask) == 0) return;
    pthread_mutex_lock(&t->lock);
    t->waiting = true;
    while ((atomic_load(&t->state) & count_mask) != 0) pthread_cond_wait(&t->left, &t->lock);
    t->waiting = false;
    pthread_mutex_unlock(&t->lock);
}

void team_run(team *t, team_job job, void *context, int64_t pieces) {
    omp_set_num_threads(1);
    if (t->started == 0 || pieces <= 1) {
        job(context, 0);
        return;
    }
    t->job = job;
    t->context = context;
    open_job(t);
    job(context, 0);
    close_job(t);
}
