/* Encoded prompts are found again by all of their key, copied in and out, kept within their bytes, least recently used out first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/prompt_cache.h"

enum { POOLED = 8, HIDDEN = 1000 };

static conditioning made(float value) {
    conditioning c = {.tokens = 10, .pooled_count = POOLED, .hidden_count = HIDDEN};
    c.pooled = malloc(POOLED * sizeof(float));
    c.hidden = malloc(HIDDEN * sizeof(float));
    for (int i = 0; i < POOLED; i++) c.pooled[i] = value;
    for (int i = 0; i < HIDDEN; i++) c.hidden[i] = value + 1;
    return c;
}

static prompt_key key_of(const char *prompt) { return (prompt_key){"/m", "auto", prompt, 7, 10}; }

static void keep(prompt_cache *c, const char *prompt, float value) {
    conditioning made_now = made(value);
    prompt_key k = key_of(prompt);
    prompt_cache_keep(c, &k, &made_now);
    conditioning_free(&made_now);
}

/* The value it was made with; −1: it is not there. */
static float value_of(prompt_cache *c, const char *prompt) {
    conditioning found;
    prompt_key k = key_of(prompt);
    if (!prompt_cache_find(c, &k, &found)) return -1;
    float value = found.pooled[POOLED - 1];
    assert_true(found.hidden[HIDDEN - 1] == value + 1);
    assert_int_equal(found.tokens, 10);
    conditioning_free(&found);
    return value;
}

static prompt_cache *cache_for(size_t entries) {
    prompt_cache *c;
    assert_true(prompt_cache_new(1 << 20, &c, NULL));
    keep(c, "0", 1);
    size_t one = prompt_cache_get_figures(c).bytes;
    prompt_cache_free(c);
    assert_true(prompt_cache_new(one * entries, &c, NULL));
    return c;
}

static void every_part_of_the_key_counts(void **state) {
    (void)state;
    prompt_cache *c = cache_for(3);
    keep(c, "a fox", 5);
    conditioning found;
    const prompt_key others[] = {{"/n", "auto", "a fox", 7, 10}, {"/m", "bf16", "a fox", 7, 10}, {"/m", "auto", "a fox ", 7, 10},
                                 {"/m", "auto", "a fox", 8, 10}, {"/m", "auto", "a fox", 7, 11}, {"/m", "auto", "", 7, 10}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) assert_false(prompt_cache_find(c, &others[i], &found));
    assert_true(value_of(c, "a fox") == 5);
    prompt_cache_figures f = prompt_cache_get_figures(c);
    assert_int_equal(f.hits, 1);
    assert_int_equal(f.misses, 6);
    assert_int_equal(f.entries, 1);
    assert_in_range(f.bytes, (POOLED + HIDDEN) * sizeof(float), (POOLED + HIDDEN) * sizeof(float) + 300);
    prompt_cache_free(c);
}

static void the_least_recently_used_leaves(void **state) {
    (void)state;
    prompt_cache *c = cache_for(3);
    keep(c, "a", 1);
    keep(c, "b", 2);
    keep(c, "c", 3);
    assert_true(value_of(c, "a") == 1);
    keep(c, "d", 4);
    assert_true(value_of(c, "b") == -1);
    assert_true(value_of(c, "a") == 1 && value_of(c, "c") == 3 && value_of(c, "d") == 4);
    assert_int_equal(prompt_cache_get_figures(c).entries, 3);
    assert_true(prompt_cache_get_figures(c).bytes <= prompt_cache_get_figures(c).max_bytes);
    keep(c, "c", 9); /* the same key again takes the old one's place */
    assert_true(value_of(c, "c") == 9 && value_of(c, "a") == 1 && value_of(c, "d") == 4);
    prompt_cache_free(c);
}

static void what_does_not_fit_is_not_kept(void **state) {
    (void)state;
    prompt_cache *none, *one = cache_for(1);
    assert_true(prompt_cache_new(0, &none, NULL));
    keep(none, "a", 1);
    assert_true(value_of(none, "a") == -1);
    assert_int_equal(prompt_cache_get_figures(none).entries, 0);
    keep(one, "a", 1);
    keep(one, "a long prompt, whose text does not fit beside", 2);
    assert_true(value_of(one, "a") == 1);
    keep(one, "b", 2);
    assert_true(value_of(one, "a") == -1 && value_of(one, "b") == 2);
    prompt_cache_free(none);
    prompt_cache_free(one);
}

static void clearing_leaves_nothing(void **state) {
    (void)state;
    prompt_cache *c = cache_for(3);
    keep(c, "a", 1);
    keep(c, "b", 2);
    size_t bytes = prompt_cache_get_figures(c).bytes;
    assert_int_equal(prompt_cache_clear(c), bytes);
    assert_int_equal(prompt_cache_get_figures(c).bytes, 0);
    assert_int_equal(prompt_cache_get_figures(c).entries, 0);
    assert_true(value_of(c, "a") == -1);
    assert_int_equal(prompt_cache_clear(c), 0);
    keep(c, "a", 3);
    assert_true(value_of(c, "a") == 3);
    prompt_cache_free(c);
    prompt_cache_free(NULL);
}

/* Against a list kept by hand, over many random uses. */
static void it_agrees_with_a_simple_model(void **state) {
    (void)state;
    enum { ROOM = 5, PROMPTS = 9 };
    prompt_cache *c = cache_for(ROOM);
    int order[ROOM], count = 0; /* newest first */
    srand(1);
    for (int i = 0; i < 20000; i++) {
        int which = rand() % PROMPTS, at = 0;
        char prompt[2] = {(char)('a' + which), 0};
        while (at < count && order[at] != which) at++;
        bool there = at < count;
        if (rand() % 2) {
            assert_true((value_of(c, prompt) == (float)which) == there);
            if (!there) continue;
        } else {
            keep(c, prompt, (float)which);
            if (!there) at = count < ROOM ? count++ : ROOM - 1;
        }
        memmove(&order[1], &order[0], (size_t)at * sizeof order[0]);
        order[0] = which;
        assert_int_equal(prompt_cache_get_figures(c).entries, count);
    }
    prompt_cache_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_the_key_counts),
        cmocka_unit_test(the_least_recently_used_leaves),
        cmocka_unit_test(what_does_not_fit_is_not_kept),
        cmocka_unit_test(clearing_leaves_nothing),
        cmocka_unit_test(it_agrees_with_a_simple_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
