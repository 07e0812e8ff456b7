/* Request bodies from mutated and random bytes: never a crash; a complaint is one sentence of valid UTF-8; what is accepted lies within
 * every stated cap, so that nothing behind the door needs to check again. Route patterns and picture ids likewise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "mutate.h"
#include "server/http/problem.h"
#include "server/http/router.h"
#include "server/requests/request_fields.h"

enum { CAPACITY = 4096, ROUNDS = 60000 };

static const model_info model = {
    .name = "demo", .size_multiple = 16, .width = 128, .height = 128, .steps = 12, .guidance = 3.5, .max_sequence_length = 32};

static const char *const seeds[] = {
    "{\"prompt\": \"a fox\", \"negative_prompt\": \"blurry\", \"width\": 64, \"height\": 128, \"n\": 2, \"priority\": \"High\"}",
    "{\"prompt\":\"\\u00e9\\ud83e\\udd8a\",\"seed\":18446744073709551615,\"guidance_scale\":3.5,\"true_cfg_scale\":1e0,\"priority\":3}",
    "{\"prompt\":\"\",\"seed\":\"123456789012345678\",\"num_inference_steps\":1000,\"max_sequence_length\":512,\"precision\":\"bf16\"}",
    "{\"prompt\":\"x\",\"width\":16384,\"height\":4096,\"seed\":-1,\"n\":16,\"deadline_seconds\":2.5,\"precision\":null,\"a\":[1,{\"b\":[]}]}",
};

static void check_error(const error *e) {
    char text[ERROR_TEXT_BYTES];
    assert_int_not_equal(e->code, ERROR_NONE);
    assert_true(e->text[0] != '\0');
    assert_null(strchr(e->text, '\n'));
    problem_text(e->text, text, sizeof text);
    assert_true(utf8_valid(text, strlen(text), NULL));
}

static int accepted, refused;
static int64_t begun_ms;

static void check(const char *text, size_t size) {
    static const char *const known[] = {"prompt", "negative_prompt", "width", "height", "n", "priority", "seed", NULL};
    json_document doc;
    error e = {0};
    if (!json_parse(text, size, "the request body", &doc, &e)) {
        check_error(&e);
        return;
    }
    task_request r;
    task_priority p = PRIORITY_NORMAL;
    json body = json_root(&doc);
    if (!request_fields_only(body, known, &e)) check_error(&e);
    e = (error){0};
    if (!request_fields_defaults(&model, &r, &e) || !request_fields_read(body, &model, TASK_MAX_IMAGES, &r, &e) ||
        !request_fields_priority(body, &p, &e)) {
        check_error(&e);
        refused++;
    } else {
        accepted++;
        assert_in_range(r.width, 16, MODEL_MAX_SIDE);
        assert_in_range(r.height, 16, MODEL_MAX_SIDE);
        assert_int_equal(r.width % 16 + r.height % 16, 0);
        assert_true((int64_t)r.width * r.height <= REQUEST_MAX_PIXELS);
        assert_in_range(r.steps, 1, REQUEST_MAX_STEPS);
        assert_in_range(r.count, 1, TASK_MAX_IMAGES);
        assert_in_range(r.max_sequence_length, 1, REQUEST_MAX_TOKENS);
        assert_true(isfinite(r.guidance_scale) && r.guidance_scale >= 0 && r.guidance_scale <= 100);
        assert_true(isfinite(r.true_cfg_scale) && r.true_cfg_scale >= 0 && r.true_cfg_scale <= 100);
        assert_true(strlen(r.prompt) <= REQUEST_PROMPT_BYTES && utf8_valid(r.prompt, strlen(r.prompt), NULL));
        assert_true(strlen(r.precision) < 8);
        assert_in_range(p, PRIORITY_URGENT, PRIORITY_LOW);
        int64_t latest = clock_unix_ms() + (int64_t)REQUEST_MAX_DEADLINE_SECONDS * 1000;
        assert_true(r.deadline_ms == 0 || (r.deadline_ms >= begun_ms && r.deadline_ms <= latest));
    }
    json_document_free(&doc);
}

static const char *const pieces[] = {
    "-", "e308", "0",        "9999999999999999999", ".5",    "\"", "null", "true", "[", "{}", "\\u0000", "\xFF",
    ",", "17",   "\xC3\xA9", "\"seed\":",           "\"n\":"};
static const mutator changes = {
    .kinds = MUTATE_BYTE | MUTATE_INSERT | MUTATE_REMOVE, .most = 3, .capacity = CAPACITY,
    .pieces = pieces, .piece_count = sizeof pieces / sizeof *pieces};

static void bodies_are_accepted_within_the_caps_or_refused(void **state) {
    (void)state;
    uint64_t random = 20;
    for (int i = 0; i < ROUNDS; i++) {
        const char *seed = seeds[next_random(&random) % (sizeof seeds / sizeof *seeds)];
        char scratch[CAPACITY];
        size_t size = strlen(seed);
        memcpy(scratch, seed, size);
        size = mutate_pieces(&changes, &random, scratch, size);
        char *exact = exact_copy(scratch, size);
        check(exact, size);
        free(exact);
    }
    /* It was a test of both outcomes. */
    assert_true(accepted > ROUNDS / 20);
    assert_true(refused > ROUNDS / 100);
}

static void paths_match_or_not(void **state) {
    (void)state;
    char id[ROUTE_ID_BYTES];
    assert_true(router_match("/a/{id}", "/a/b", id));
    assert_string_equal(id, "b");
    assert_true(router_match("/a/{id}/c", "/a/b/c", id));
    assert_false(router_match("/a/{id}", "/a/", id));
    assert_false(router_match("/a/{id}", "/a/b/", id));
    assert_false(router_match("/a", "/ab", id));
    assert_false(router_match("/ab", "/a", id));
    uint64_t random = 21;
    static const char letters[] = "/a{id}b";
    for (int i = 0; i < ROUNDS; i++) {
        char path[300];
        size_t size = next_random(&random) % sizeof path;
        for (size_t k = 0; k < size; k++) path[k] = letters[next_random(&random) % (sizeof letters - 1)];
        if (size > 3 && i % 2 == 0) memcpy(path, "/a/", 3);
        path[size > 0 ? size - 1 : 0] = '\0';
        if (router_match("/a/{id}", path, id)) {
            assert_true(id[0] != '\0' && strlen(id) < ROUTE_ID_BYTES && strchr(id, '/') == NULL);
            assert_string_equal(path + 3, id);
        }
    }
}

static void foreign_text_becomes_valid(void **state) {
    (void)state;
    char out[16];
    assert_string_equal(problem_text("a\xFF\xFE"
                                     "b\xC3",
                                     out, sizeof out),
                        "a??b?");
    assert_string_equal(problem_text("\xC3\xA9", out, sizeof out), "\xC3\xA9");
    assert_string_equal(problem_text("", out, sizeof out), "");
    uint64_t random = 22;
    for (int i = 0; i < ROUNDS; i++) {
        char text[40];
        for (size_t k = 0; k < sizeof text - 1; k++) text[k] = (char)(next_random(&random) % 3 == 0 ? next_random(&random) : 'a');
        text[sizeof text - 1] = '\0';
        problem_text(text, out, sizeof out);
        assert_true(utf8_valid(out, strlen(out), NULL));
    }
}

int main(void) {
    begun_ms = clock_unix_ms();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_accepted_within_the_caps_or_refused),
        cmocka_unit_test(paths_match_or_not),
        cmocka_unit_test(foreign_text_becomes_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
