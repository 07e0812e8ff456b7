/* What the front knows of its engine: commands are answered once, whatever happens to the engine or to who waits; figures go with the
 * engine, counters stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server/resources/engine_profiles.h"
#include "server/resources/engine_view.h"

typedef struct heard {
    engine_view *view;
    int count;
    bool ok;
    error fault;
    uint64_t forgets; /* a command that this one forgets when it is answered */
    bool gives;       /* gives another command when it is answered */
} heard;

static void done(void *context, const engine_answer *a) {
    heard *h = context;
    h->count++;
    h->ok = a->ok;
    h->fault = a->fault;
    if (h->forgets != 0) engine_view_forget(h->view, h->forgets);
    if (h->gives) assert_true(engine_view_command(h->view, MESSAGE_CLEANUP, NULL, done, h, NULL, NULL));
    h->gives = false;
}

static engine_view *make(void) {
    engine_view *v;
    error e;
    assert_true(engine_view_new(&v, &e));
    return v;
}

static void ready(engine_view *v) {
    engine_message hello = {.hello = {"cuda", "NVIDIA Made Up", 3}};
    engine_view_ready(v, &hello);
}

static uint64_t give(heard *h, engine_view *v) {
    uint64_t handle;
    h->view = v;
    assert_true(engine_view_command(v, MESSAGE_CLEANUP, NULL, done, h, &handle, NULL));
    assert_true(handle != 0);
    return handle;
}

static void the_last_snapshot(void **state) {
    (void)state;
    engine_view *v = make();
    engine_snapshot s = {
        .number = 1, .model_count = 2, .loads = 2, .evictions = {[EVICTED_BYTES] = 1}, .dtype = {"torch.float16", "because"}};
    strcpy(s.models[0].name, "a");
    strcpy(s.models[1].name, "a");
    engine_view_snapshot_came(v, &s);
    assert_int_equal(engine_view_snapshot(v)->number, 0); /* nobody said hello */
    ready(v);
    assert_string_equal(engine_view_device_name(v), "NVIDIA Made Up");
    engine_view_snapshot_came(v, &s);
    const engine_model_row *first = engine_view_model(v, "a", NULL), *second = engine_view_model(v, "a", first);
    assert_true(first != NULL && second == first + 1);
    assert_null(engine_view_model(v, "a", second));
    assert_null(engine_view_model(v, "b", NULL));
    for (int i = 0; i < 2; i++) { /* counters are added up once an engine, however often it is said to be gone */
        engine_view_gone(v, "killed");
        const engine_snapshot *shown = engine_view_snapshot(v);
        assert_false(engine_view_is_ready(v));
        assert_true(shown->number == 0 && shown->model_count == 0);
        assert_true(shown->loads == 2 && shown->evictions[EVICTED_BYTES] == 1);
        assert_string_equal(shown->dtype.value, "torch.float16");
        assert_string_equal(engine_view_device_kind(v), "cuda");
    }
    ready(v);
    s.loads = 3;
    engine_view_snapshot_came(v, &s);
    engine_view_snapshot_came(v, &s);
    assert_int_equal(engine_view_snapshot(v)->loads, 5);
    engine_view_free(v);
}

static void where_no_engine_was_all_commands_end(void **state) {
    (void)state;
    engine_view *v = make();
    heard a = {0}, b = {.gives = true};
    give(&a, v), give(&b, v);
    assert_true(engine_view_busy(v));
    engine_view_gone(v, "there is no device");
    assert_true(a.count == 1 && b.count == 1);
    assert_false(a.ok);
    assert_non_null(strstr(a.fault.text, "there is no device"));
    assert_true(engine_view_busy(v)); /* what was given meanwhile waits for the next */
    engine_view_free(v);
}

static void what_was_not_sent_waits_for_the_next_engine(void **state) {
    (void)state;
    engine_view *v = make();
    heard a = {0};
    give(&a, v);
    ready(v);
    engine_view_gone(v, "killed");
    assert_true(a.count == 0 && engine_view_busy(v));
    engine_view_free(v); /* and is dropped unanswered */
    assert_int_equal(a.count, 0);
}

/* No engine will come: all are told so, and those given meanwhile stay. */
static void what_was_not_sent_may_be_refused(void **state) {
    (void)state;
    engine_view *v = make();
    heard a = {0}, b = {.gives = true};
    give(&a, v), give(&b, v);
    ready(v);
    engine_view_gone(v, "killed");
    assert_true(a.count == 0 && b.count == 0);
    engine_view_refuse(v, "it does not end");
    assert_true(a.count == 1 && b.count == 1);
    assert_false(a.ok);
    assert_int_equal(a.fault.code, ERROR_BUSY);
    assert_non_null(strstr(a.fault.text, "it does not end"));
    assert_true(engine_view_busy(v));
    engine_view_free(v);
}

static void an_answer_to_what_was_not_sent_is_none(void **state) {
    (void)state;
    engine_view *v = make();
    heard a = {0};
    give(&a, v);
    engine_answer ok = {.ok = true};
    engine_view_answer_came(v, "command-1", &ok);
    engine_view_answer_came(v, "command-7", &ok);
    engine_view_answer_came(v, "nonsense", &ok);
    assert_int_equal(a.count, 0);
    engine_view_free(v);
}

static void the_forgotten_are_not_called(void **state) {
    (void)state;
    engine_view *v = make();
    heard a = {0}, b = {0};
    give(&a, v);
    a.forgets = give(&b, v);
    engine_view_gone(v, "killed");
    assert_true(a.count == 1 && b.count == 0);
    assert_false(engine_view_busy(v));
    engine_view_forget(v, 99);
    engine_view_free(v);
}

static void commands_are_bounded(void **state) {
    (void)state;
    engine_view *v = make();
    error e = {0};
    int count = 0;
    while (engine_view_command(v, MESSAGE_CLEANUP, NULL, NULL, NULL, NULL, &e)) count++;
    assert_int_equal(count, 256);
    assert_int_equal(e.code, ERROR_BUSY);
    engine_view_free(v);
    engine_view_free(NULL);
}

static void profiles_are_kept_by_key_and_bounded(void **state) {
    (void)state;
    engine_profiles *p;
    error e;
    assert_true(engine_profiles_new(&p, &e));
    engine_profile one = {.model = "a", .precision = "f32", .width = 64, .height = 64, .text_tokens = 1, .batch = 1, .step_seconds = 1};
    engine_profiles_add(p, &one);
    one.step_seconds = 2;
    engine_profiles_add(p, &one);
    assert_int_equal(engine_profiles_count(p), 1);
    assert_true(engine_profiles_at(p, 0)->step_seconds == 2);
    one.peak_bytes = 7;
    one.encode_seconds = 3;
    engine_profiles_add(p, &one);
    one.step_seconds = 4;
    one.peak_bytes = 0;
    one.encode_seconds = 0;
    engine_profiles_add(p, &one); /* says nothing of memory and of encoding */
    assert_int_equal(engine_profiles_count(p), 1);
    assert_true(engine_profiles_at(p, 0)->step_seconds == 4 && engine_profiles_at(p, 0)->peak_bytes == 7 &&
                engine_profiles_at(p, 0)->encode_seconds == 3);
    for (int i = 2; i <= ENGINE_PROFILES_MAX + 1; i++) {
        one.batch = i;
        engine_profiles_add(p, &one);
    }
    assert_int_equal(engine_profiles_count(p), ENGINE_PROFILES_MAX);
    assert_int_equal(engine_profiles_at(p, 0)->batch, 2); /* the one measured longest ago went */
    assert_int_equal(engine_profiles_at(p, ENGINE_PROFILES_MAX - 1)->batch, ENGINE_PROFILES_MAX + 1);
    engine_profiles_free(p);
}

static void remember(void *context, const stored_profile *measured) { *(stored_profile *)context = *measured; }

static void profiles_come_back_as_they_were_kept(void **state) {
    (void)state;
    engine_profiles *p, *again;
    error e;
    stored_profile kept = {0};
    assert_true(engine_profiles_new(&p, &e) && engine_profiles_new(&again, &e));
    engine_profiles_listen(p, remember, &kept);
    for (int pair = 0; pair < 2; pair++) {
        engine_profile out, one = {.model = "a", .precision = "bf16", .width = 64, .height = 32, .text_tokens = 256, .guidance_pair = pair,
                                   .batch = 3, .peak_bytes = 5, .reserve_bytes = 6, .step_seconds = 0.5, .load_seconds = 1,
                                   .encode_seconds = 2, .decode_seconds = 3};
        engine_profiles_add(p, &one);
        assert_int_equal(kept.batch, 3);
        assert_true(engine_profiles_restore(again, &kept, &out));
        assert_string_equal(out.model, "a");
        assert_string_equal(out.precision, "bf16");
        assert_true(out.width == 64 && out.height == 32 && out.text_tokens == 256 && out.guidance_pair == pair && out.batch == 3);
        assert_true(out.peak_bytes == 5 && out.reserve_bytes == 6 && out.step_seconds == 0.5 && out.load_seconds == 1);
        assert_true(out.encode_seconds == 2 && out.decode_seconds == 3);
        assert_int_equal(engine_profiles_count(again), (size_t)pair + 1);
    }
    static const char *const strangers[] = {"", "64x32", "64x32, 1 tokens ", "-64x32, 1 tokens", "064x32, 1 tokens", "99999x32, 1 tokens",
                                            "64x32, 0 tokens", "64x32, 99999999999 tokens", "64x32, 1 tokens, guidance pairs"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        snprintf(kept.shape, sizeof kept.shape, "%s", strangers[i]);
        assert_false(engine_profiles_restore(again, &kept, NULL));
    }
    snprintf(kept.shape, sizeof kept.shape, "64x32, 1 tokens");
    kept.step_seconds = -1;
    assert_false(engine_profiles_restore(again, &kept, NULL));
    engine_profiles_free(p);
    engine_profiles_free(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_snapshot),
        cmocka_unit_test(where_no_engine_was_all_commands_end),
        cmocka_unit_test(what_was_not_sent_waits_for_the_next_engine),
        cmocka_unit_test(what_was_not_sent_may_be_refused),
        cmocka_unit_test(an_answer_to_what_was_not_sent_is_none),
        cmocka_unit_test(the_forgotten_are_not_called),
        cmocka_unit_test(commands_are_bounded),
        cmocka_unit_test(profiles_are_kept_by_key_and_bounded),
        cmocka_unit_test(profiles_come_back_as_they_were_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
