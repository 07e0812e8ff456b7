/* The VRAM manager's arithmetic, with no device: every threshold from both sides and to the byte, hysteresis from every state, which bound
 * counts, and what is freed in which order until how far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/vram_manager.h"

static vram_figures filled(size_t total, size_t used) { return (vram_figures){.total = total, .free = total - used}; }

static vram_state state_after(vram_state before, size_t total, size_t used) {
    const vram_figures f = filled(total, used);
    return vram_stats_of(&f, before).state;
}

/* The table of the design, in thousandths, without a formula: from `up[s]` on a state above s holds (critical begins above 900), and below
 * `down[s]` a state is left downwards. */
static vram_state expected(vram_state before, int thousandths) {
    static const int up[] = {500, 750, 901}, down[] = {480, 730, 881};
    int state = (int)before;
    while (state < VRAM_CRITICAL && thousandths >= up[state]) state++;
    while (state > VRAM_LOW && thousandths < down[state - 1]) state--;
    return (vram_state)state;
}

static void every_step_from_every_state(void **state) {
    (void)state;
    static const size_t scales[] = {1, 7, (size_t)16 << 20, (size_t)80 << 20, (size_t)1 << 35};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        for (vram_state before = VRAM_LOW; before <= VRAM_CRITICAL; before++)
            for (int n = 0; n <= 1000; n++) {
                vram_state is = state_after(before, 1000 * scales[i], (size_t)n * scales[i]), should = expected(before, n);
                if (is != should)
                    fail_msg("from %s at %d/1000 of %zu: %s, not %s", vram_state_name(before), n, 1000 * scales[i], vram_state_name(is),
                             vram_state_name(should));
            }
}

static void thresholds_hold_to_the_byte(void **state) {
    (void)state;
    static const size_t totals[] = {100, (size_t)24 * 1000 * 1000 * 1000, (size_t)100 << 30, (size_t)100 << 37};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        size_t total = totals[i], point = total / 100;
        /* Upwards at once. */
        assert_int_equal(state_after(VRAM_LOW, total, 50 * point - 1), VRAM_LOW);
        assert_int_equal(state_after(VRAM_LOW, total, 50 * point), VRAM_MODERATE);
        assert_int_equal(state_after(VRAM_LOW, total, 75 * point - 1), VRAM_MODERATE);
        assert_int_equal(state_after(VRAM_LOW, total, 75 * point), VRAM_HIGH);
        assert_int_equal(state_after(VRAM_LOW, total, 90 * point), VRAM_HIGH); /* 90 itself is high */
        assert_int_equal(state_after(VRAM_LOW, total, 90 * point + 1), VRAM_CRITICAL);
        assert_int_equal(state_after(VRAM_LOW, total, total), VRAM_CRITICAL);
        /* Downwards two points later. */
        assert_int_equal(state_after(VRAM_CRITICAL, total, 90 * point), VRAM_CRITICAL);
        assert_int_equal(state_after(VRAM_CRITICAL, total, 88 * point + 1), VRAM_CRITICAL);
        assert_int_equal(state_after(VRAM_CRITICAL, total, 88 * point), VRAM_HIGH);
        assert_int_equal(state_after(VRAM_HIGH, total, 73 * point), VRAM_HIGH);
        assert_int_equal(state_after(VRAM_HIGH, total, 73 * point - 1), VRAM_MODERATE);
        assert_int_equal(state_after(VRAM_MODERATE, total, 48 * point), VRAM_MODERATE);
        assert_int_equal(state_after(VRAM_MODERATE, total, 48 * point - 1), VRAM_LOW);
        /* A fall past several keeps only the delay of the last. */
        assert_int_equal(state_after(VRAM_CRITICAL, total, 49 * point), VRAM_MODERATE);
        assert_int_equal(state_after(VRAM_CRITICAL, total, 47 * point), VRAM_LOW);
        assert_int_equal(state_after(VRAM_CRITICAL, total, 74 * point), VRAM_HIGH);
    }
}

/* A figure that trembles by less than two points around a threshold changes the state once. */
static void trembling_does_not_flap(void **state) {
    (void)state;
    static const int thresholds[] = {500, 750, 901};
    for (size_t t = 0; t < 3; t++) {
        vram_state s = VRAM_LOW;
        int changes = 0;
        for (int i = 0; i < 1000; i++) {
            vram_state next = state_after(s, 1000, (size_t)(thresholds[t] + (i * 7) % 20 - 19));
            changes += i > 0 && next != s;
            s = next;
        }
        assert_true(changes <= 1);
        assert_int_equal(s, (int)t + 1);
    }
}

static void figures_add_up(void **state) {
    (void)state;
    vram_figures f = {.total = 1000, .free = 400, .weights = 200, .compute = 100, .staging = 50, .cache = 7, .latents = 3};
    vram_stats s = vram_stats_of(&f, VRAM_LOW);
    assert_int_equal(s.used, 600);
    assert_int_equal(s.ours, 360);
    assert_int_equal(s.foreign, 240);
    assert_false(s.limited);
    assert_int_equal(s.bound, 1000);
    assert_int_equal(s.bound_used, 600);
    assert_int_equal(s.bound_free, 400);
    assert_true(s.utilization_percent == 60);
    assert_int_equal(s.state, VRAM_MODERATE);

    f.free = 900; /* claimed and not yet seen by the device */
    s = vram_stats_of(&f, VRAM_LOW);
    assert_int_equal(s.foreign, 0);
    f.free = 5000; /* nonsense */
    s = vram_stats_of(&f, VRAM_LOW);
    assert_int_equal(s.used, 0);
    assert_int_equal(s.foreign, 0);
    f = (vram_figures){.weights = SIZE_MAX, .compute = SIZE_MAX, .total = SIZE_MAX};
    s = vram_stats_of(&f, VRAM_LOW);
    assert_true(s.ours == SIZE_MAX && s.foreign == 0 && s.state == VRAM_CRITICAL);
    f = (vram_figures){.weights = 10}; /* a device that reports nothing */
    s = vram_stats_of(&f, VRAM_LOW);
    assert_true(s.bound == 0 && s.bound_free == 0 && s.utilization_percent == 0 && s.state == VRAM_LOW);
}

static void the_fuller_bound_decides(void **state) {
    (void)state;
    vram_figures f = {.total = 1000, .free = 700, .limit = 200, .weights = 160};
    vram_stats s = vram_stats_of(&f, VRAM_LOW); /* 80 % of our limit, 30 % of the device */
    assert_true(s.limited && s.bound == 200 && s.bound_used == 160 && s.bound_free == 40 && s.utilization_percent == 80);
    assert_int_equal(s.state, VRAM_HIGH);
    assert_int_equal(s.foreign, 140);
    f.free = 50; /* others filled the device: 95 % of it */
    s = vram_stats_of(&f, VRAM_LOW);
    assert_true(!s.limited && s.bound == 1000 && s.bound_used == 950);
    assert_int_equal(s.state, VRAM_CRITICAL);
    f.limit = 5000; /* a limit beyond the device */
    s = vram_stats_of(&f, VRAM_LOW);
    assert_false(s.limited);
    f = (vram_figures){.limit = 100, .weights = 130}; /* set below what was there; and nothing reported */
    s = vram_stats_of(&f, VRAM_LOW);
    assert_true(s.limited && s.bound_free == 0 && s.utilization_percent == 130);
    assert_int_equal(s.state, VRAM_CRITICAL);
}

/* ── what is freed ── */

typedef struct machine {
    size_t total, compute, cache, foreign, pinned_down; /* pinned_down: leased models */
    size_t models[8];
    int model_count;
    char told[64]; /* one letter a call: C compute, E embeddings, M a model, - no model left */
} machine;

static void tell(machine *m, char letter) {
    size_t n = strlen(m->told);
    assert_true(n + 1 < sizeof m->told);
    m->told[n] = letter;
}

static void read_machine(void *context, vram_figures *f) {
    const machine *m = context;
    *f = (vram_figures){.total = m->total, .weights = m->pinned_down, .compute = m->compute, .cache = m->cache};
    for (int i = 0; i < m->model_count; i++) f->weights += m->models[i];
    f->free = m->total - f->weights - m->compute - m->cache - m->foreign;
}

static size_t take_all(size_t *bytes) {
    size_t had = *bytes;
    *bytes = 0;
    return had;
}

static size_t free_compute(void *context) {
    machine *m = context;
    tell(m, 'C');
    return take_all(&m->compute);
}

static size_t free_cache(void *context) {
    machine *m = context;
    tell(m, 'E');
    return take_all(&m->cache);
}

static bool evict_idle(void *context, size_t *bytes) {
    machine *m = context;
    tell(m, m->model_count > 0 ? 'M' : '-');
    if (m->model_count == 0) return false;
    *bytes = m->models[--m->model_count];
    return true;
}

static vram_manager *manage(machine *m) {
    vram_manager *v;
    assert_true(vram_manager_new(&(vram_callbacks){m, read_machine, free_compute, free_cache, evict_idle}, &v, NULL));
    return v;
}

static void freed_is(vram_freed is, vram_freed should) {
    assert_int_equal(is.compute, should.compute);
    assert_int_equal(is.cache, should.cache);
    assert_int_equal(is.models, should.models);
    assert_int_equal(is.model_count, should.model_count);
}

static void cleanup_frees_in_order_until_moderate(void **state) {
    (void)state;
    static const struct {
        machine before;
        const char *told;
        vram_freed freed;
        vram_state after;
    } cases[] = {
        /* below high nothing is touched */
        {{.total = 1000, .compute = 300, .cache = 49, .pinned_down = 400}, "", {0}, VRAM_MODERATE},
        /* compute buffers are enough, by far and by a hair */
        {{.total = 1000, .compute = 300, .cache = 50, .pinned_down = 400}, "C", {.compute = 300}, VRAM_LOW},
        {{.total = 1000, .compute = 31, .cache = 50, .pinned_down = 679}, "C", {.compute = 31}, VRAM_MODERATE},
        /* 73.0 % is still high for what comes from above: the embeddings as well */
        {{.total = 1000, .compute = 30, .cache = 50, .pinned_down = 680}, "CE", {.compute = 30, .cache = 50}, VRAM_MODERATE},
        /* nothing is left to free, and it stays high */
        {{.total = 1000, .compute = 30, .cache = 50, .pinned_down = 730}, "CE-", {.compute = 30, .cache = 50}, VRAM_HIGH},
        /* one model of three, as nothing before it helped */
        {{.total = 1000, .foreign = 300, .models = {200, 200, 200}, .model_count = 3}, "CEM", {.models = 200, .model_count = 1}, VRAM_MODERATE},
        /* two of three, down from critical */
        {{.total = 1000, .compute = 1, .foreign = 520, .models = {200, 100, 100}, .model_count = 3}, "CEMM", {1, 0, 200, 2}, VRAM_MODERATE},
        /* models whose weights are mapped cost the device nothing, and leave all the same */
        {{.total = 1000, .foreign = 950, .models = {0, 0}, .model_count = 2}, "CEMM-", {.model_count = 2}, VRAM_CRITICAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        machine m = cases[i].before;
        vram_manager *v = manage(&m);
        vram_freed freed = vram_manager_cleanup_if_needed(v);
        assert_string_equal(m.told, cases[i].told);
        freed_is(freed, cases[i].freed);
        assert_int_equal(vram_manager_get_vram_stats(v).state, cases[i].after);
        vram_manager_free(v);
    }
}

/* The delay counts from the state the manager was in: what was high before stays so at 74 %, and is cleaned up. */
static void the_state_is_remembered(void **state) {
    (void)state;
    machine m = {.total = 1000, .compute = 100, .pinned_down = 640};
    vram_manager *v = manage(&m);
    assert_int_equal(vram_manager_get_vram_stats(v).state, VRAM_MODERATE);
    freed_is(vram_manager_cleanup_if_needed(v), (vram_freed){0});
    m.foreign = 20;
    assert_int_equal(vram_manager_get_vram_stats(v).state, VRAM_HIGH);
    m.foreign = 0;
    assert_int_equal(vram_manager_get_vram_stats(v).state, VRAM_HIGH);
    freed_is(vram_manager_cleanup_if_needed(v), (vram_freed){.compute = 100});
    assert_int_equal(vram_manager_get_vram_stats(v).state, VRAM_MODERATE);
    vram_manager_free(v);
}

static void clear_cache_frees_all_whatever_the_state(void **state) {
    (void)state;
    machine m = {.total = 1000, .compute = 5, .cache = 6, .models = {1, 2, 3}, .model_count = 3};
    vram_manager *v = manage(&m);
    freed_is(vram_manager_clear_cache(v), (vram_freed){5, 6, 6, 3});
    assert_string_equal(m.told, "CEMMM-");
    freed_is(vram_manager_clear_cache(v), (vram_freed){0});
    vram_manager_free(v);
    vram_manager_free(NULL);
}

static bool promise_for_ever(void *context, size_t *bytes) {
    *bytes = SIZE_MAX;
    (*(int *)context)++;
    return true;
}

static void read_nothing(void *context, vram_figures *f) {
    (void)context;
    f->total = 1;
}

static size_t free_nothing(void *context) {
    (void)context;
    return 0;
}

static void an_endless_owner_does_not_hold_the_loop(void **state) {
    (void)state;
    int calls = 0;
    vram_manager *v;
    assert_true(vram_manager_new(&(vram_callbacks){&calls, read_nothing, free_nothing, free_nothing, promise_for_ever}, &v, NULL));
    vram_freed freed = vram_manager_clear_cache(v);
    assert_true(freed.models == SIZE_MAX && freed.model_count == calls && calls < 10000);
    vram_manager_free(v);
}

static void offloading_begins_where_critical_would(void **state) {
    (void)state;
    machine m = {.total = 1000, .pinned_down = 500, .foreign = 100};
    vram_manager *v = manage(&m);
    assert_false(vram_manager_should_offload_to_cpu(v, 0));
    assert_false(vram_manager_should_offload_to_cpu(v, 300)); /* 90 % */
    assert_true(vram_manager_should_offload_to_cpu(v, 301));
    assert_true(vram_manager_should_offload_to_cpu(v, SIZE_MAX));
    m.foreign = 401;
    assert_true(vram_manager_should_offload_to_cpu(v, 0));
    m.foreign = 400; /* asked for a state to come, the delay of the present one is no matter */
    assert_false(vram_manager_should_offload_to_cpu(v, 0));
    vram_manager_free(v);
}

static void names_are_the_apis(void **state) {
    (void)state;
    static const char *const names[] = {"low", "moderate", "high", "critical"};
    for (vram_state s = VRAM_LOW; s <= VRAM_CRITICAL; s++) assert_string_equal(vram_state_name(s), names[s]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_from_every_state),
        cmocka_unit_test(thresholds_hold_to_the_byte),
        cmocka_unit_test(trembling_does_not_flap),
        cmocka_unit_test(figures_add_up),
        cmocka_unit_test(the_fuller_bound_decides),
        cmocka_unit_test(cleanup_frees_in_order_until_moderate),
        cmocka_unit_test(the_state_is_remembered),
        cmocka_unit_test(clear_cache_frees_all_whatever_the_state),
        cmocka_unit_test(an_endless_owner_does_not_hold_the_loop),
        cmocka_unit_test(offloading_begins_where_critical_would),
        cmocka_unit_test(names_are_the_apis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
