/* The last events: ids rise, of a task's progress only the newest is there, nothing else leaves but at the old end, and the ring knows what
 * it no longer has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/tasks/event_ring.h"

static event_ring *make(size_t events, size_t bytes) {
    event_ring *r;
    error e;
    assert_true(event_ring_new(100, events, bytes, &r, &e));
    return r;
}

static uint64_t add(event_ring *r, const char *id, bool progress) {
    const ring_event *event = event_ring_add(r, id, progress ? "progress" : "queued", progress, false, "{}", 2);
    assert_non_null(event);
    return event->id;
}

static void text_is_what_goes_over_the_wire(void **state) {
    (void)state;
    event_ring *r = make(4, 1000);
    const ring_event *event = event_ring_add(r, "a", "completed", false, true, "{\"x\":1}", 7);
    assert_string_equal(event->text, "id: 101\nevent: completed\ndata: {\"x\":1}\n\n");
    assert_int_equal(event->size, strlen(event->text));
    assert_true(event->final);
    event_ring_free(r);
}

static void what_comes_after_an_id(void **state) {
    (void)state;
    event_ring *r = make(8, 1000);
    assert_null(event_ring_after(r, 100));
    for (int i = 0; i < 5; i++) add(r, "a", false);
    for (uint64_t id = 100; id < 105; id++) assert_int_equal(event_ring_after(r, id)->id, id + 1);
    assert_null(event_ring_after(r, 105));
    assert_int_equal(event_ring_after(r, 0)->id, 101);
    assert_int_equal(event_ring_last(r), 105);
    event_ring_free(r);
}

static void of_progress_the_newest(void **state) {
    (void)state;
    event_ring *r = make(8, 1000);
    add(r, "a", false);
    add(r, "a", true);
    uint64_t other = add(r, "b", true), newest = add(r, "a", true);
    assert_int_equal(event_ring_after(r, 101)->id, other);
    assert_int_equal(event_ring_after(r, other)->id, newest);
    assert_null(event_ring_after(r, newest));
    assert_true(event_ring_reaches(r, 100)); /* what was replaced is not missing */
    event_ring_free(r);
}

/* However much progress there is, it pushes nothing out. */
static void progress_pushes_nothing_out(void **state) {
    (void)state;
    event_ring *r = make(4, 1000);
    add(r, "a", false);
    for (int i = 0; i < 1000; i++) add(r, i % 2 == 0 ? "a" : "b", true);
    assert_int_equal(event_ring_after(r, 100)->id, 101);
    assert_true(event_ring_reaches(r, 100));
    event_ring_free(r);
}

/* Against a plain list of all events: what the ring says is missing is, and nothing else. */
static void leaves_at_the_old_end(void **state) {
    (void)state;
    srand(7);
    for (int round = 0; round < 50; round++) {
        size_t max_events = 1 + (size_t)rand() % 20, max_bytes = 60 + (size_t)rand() % 600;
        event_ring *r = make(max_events, max_bytes);
        for (uint64_t last = 100; last < 300;) {
            assert_int_equal(add(r, "a", false), ++last);
            uint64_t first = event_ring_after(r, 0)->id;
            assert_true(first <= last && last - first < max_events);
            for (uint64_t id = 99; id <= last + 1; id++)
                assert_int_equal(event_ring_reaches(r, id), id + 1 >= first && id >= 100 && id <= last);
            for (uint64_t id = first; id < last; id++) assert_int_equal(event_ring_after(r, id)->id, id + 1);
        }
        event_ring_free(r);
    }
}

static void what_nobody_heard_is_forgotten(void **state) {
    (void)state;
    event_ring *r = make(4, 1000);
    add(r, "a", false);
    event_ring_skip(r);
    assert_false(event_ring_reaches(r, 100));
    assert_false(event_ring_reaches(r, 101));
    assert_true(event_ring_reaches(r, 102));
    assert_false(event_ring_reaches(r, 103));
    assert_null(event_ring_after(r, 0));
    assert_int_equal(add(r, "a", false), 103);
    event_ring_free(r);
}

static void one_that_is_too_large(void **state) {
    (void)state;
    event_ring *r = make(4, 100);
    char data[200];
    memset(data, 'x', sizeof data);
    add(r, "a", false);
    assert_null(event_ring_add(r, "a", "queued", false, false, data, sizeof data));
    assert_false(event_ring_reaches(r, 101));
    assert_true(event_ring_reaches(r, 102));
    event_ring_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_what_goes_over_the_wire),
        cmocka_unit_test(what_comes_after_an_id),
        cmocka_unit_test(of_progress_the_newest),
        cmocka_unit_test(progress_pushes_nothing_out),
        cmocka_unit_test(leaves_at_the_old_end),
        cmocka_unit_test(what_nobody_heard_is_forgotten),
        cmocka_unit_test(one_that_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
