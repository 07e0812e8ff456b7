/* The threads that compute: whatever they are told to share out is done, once each, before the leader goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/machine.h"
#include "compute/team.h"

enum { PIECES = 100, THREADS = 4 };

typedef struct work {
    _Atomic int taken;
    _Atomic int calls[THREADS];
    int done[PIECES]; /* not atomic: the leader may read them because the job is over */
    bool slow;
} work;

static void do_pieces(void *context, int thread) {
    work *w = context;
    atomic_fetch_add(&w->calls[thread], 1);
    for (int i = atomic_fetch_add(&w->taken, 1); i < PIECES; i = atomic_fetch_add(&w->taken, 1)) {
        if (w->slow && thread > 0) usleep(200);
        w->done[i]++;
    }
}

/* The leader begins when a worker has: on a busy machine it would be through alone before one got its turn. */
static void do_pieces_after_a_worker(void *context, int thread) {
    work *w = context;
    for (int round = 0, begun = thread; begun == 0 && round < 200000; round++) {
        for (int i = 1; i < THREADS; i++) begun += atomic_load(&w->calls[i]);
        if (begun == 0) usleep(100);
    }
    do_pieces(context, thread);
}

static void check(const work *w) {
    for (int i = 0; i < PIECES; i++) assert_int_equal(w->done[i], 1);
    assert_int_equal(w->calls[0], 1);
    for (int i = 1; i < THREADS; i++) assert_true(w->calls[i] <= 1);
}

static void every_piece_is_done_once(void **state) {
    (void)state;
    team *t;
    assert_true(team_new(THREADS, &t, NULL));
    assert_int_equal(team_size(t), THREADS);
    for (int job = 0; job < 3000; job++) {
        work w = {0};
        team_run(t, do_pieces, &w, PIECES);
        check(&w);
    }
    team_free(t);
}

/* The leader waits for the slow ones that have begun, and jobs that follow at once or after the workers fell asleep are the same. */
static void slow_workers_are_waited_for(void **state) {
    (void)state;
    team *t;
    int helped = 0;
    assert_true(team_new(THREADS, &t, NULL));
    for (int job = 0; job < 40; job++) {
        work w = {.slow = true};
        if (job % 4 == 0) usleep(2000);
        team_run(t, job % 8 == 0 ? do_pieces_after_a_worker : do_pieces, &w, PIECES);
        check(&w);
        for (int i = 1; i < THREADS; i++) helped += w.calls[i];
    }
    assert_true(helped >= 5);
    team_free(t);
}

static void one_piece_is_the_leaders(void **state) {
    (void)state;
    team *t;
    assert_true(team_new(THREADS, &t, NULL));
    for (int job = 0; job < 100; job++) {
        work w = {0};
        team_run(t, do_pieces, &w, 1);
        check(&w);
        for (int i = 1; i < THREADS; i++) assert_int_equal(w.calls[i], 0);
    }
    team_free(t);
}

static void a_team_of_one_needs_no_threads(void **state) {
    (void)state;
    team *t;
    work w = {0};
    assert_true(team_new(0, &t, NULL));
    assert_int_equal(team_size(t), 1);
    team_run(t, do_pieces, &w, PIECES);
    check(&w);
    team_free(t);
    team_free(NULL);
}

static void the_machine_has_cores_and_memory(void **state) {
    (void)state;
    size_t free_bytes = 0, total_bytes = 0;
    machine_memory(&free_bytes, &total_bytes);
    assert_true(machine_cores() >= 1 && machine_cores() <= sysconf(_SC_NPROCESSORS_CONF));
    assert_true(total_bytes > 0 && free_bytes <= total_bytes);
    assert_true(total_bytes <= (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_is_done_once),
        cmocka_unit_test(slow_workers_are_waited_for),
        cmocka_unit_test(one_piece_is_the_leaders),
        cmocka_unit_test(a_team_of_one_needs_no_threads),
        cmocka_unit_test(the_machine_has_cores_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
