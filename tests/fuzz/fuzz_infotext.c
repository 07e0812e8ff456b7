/* Settings texts of strangers' pictures, mutated, cut and random: never a crash or a read past the end, always an object of texts whose
 * prompts come from the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/api/a1111_infotext.h"
#include "mutate.h"

enum { ROUNDS = 100000, CAPACITY = 512 };

static const char *const seeds[] = {
    "a fox\nNegative prompt: blurry\nSteps: 8, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: 512x512, Model: demo",
    "x\nSteps: 20, Lora hashes: \"a: 1, \\\"b\\\": 2\\n\", Size: 8x9, Version: v1.9.4", "Negative prompt: only",
    "no settings: at all, really", ""};

static int with_settings, without;

static void check(const char *text) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = a1111_infotext_document(doc, text), *key, *value;
    assert_non_null(o);
    yyjson_mut_obj_iter members = yyjson_mut_obj_iter_with(o);
    while ((key = yyjson_mut_obj_iter_next(&members)) != NULL) {
        value = yyjson_mut_obj_iter_get_val(key);
        assert_true(yyjson_mut_is_str(value) && yyjson_mut_get_len(value) <= strlen(text));
    }
    const char *prompt = yyjson_mut_get_str(yyjson_mut_obj_get(o, "Prompt")),
               *negative = yyjson_mut_get_str(yyjson_mut_obj_get(o, "Negative prompt"));
    assert_true(prompt != NULL && negative != NULL && strstr(text, prompt) != NULL && strstr(text, negative) != NULL);
    if (yyjson_mut_obj_size(o) > 2) with_settings++;
    else without++;
    yyjson_mut_doc_free(doc);
}

static void every_text_has_a_reading(void **state) {
    (void)state;
    static const char letters[] = "\n\n:,\"\\x Steps: 9Negative prompt:";
    uint64_t random = 99;
    for (int round = 0; round < ROUNDS; round++) {
        const char *seed = seeds[next_random(&random) % (sizeof seeds / sizeof *seeds)];
        char text[CAPACITY + 1];
        size_t size = strlen(seed);
        memcpy(text, seed, size);
        size = mutate_letters(letters, &random, text, size, CAPACITY);
        text[size] = '\0';
        char *exact = exact_copy(text, size + 1);
        check(exact);
        free(exact);
    }
    assert_true(with_settings > ROUNDS / 20 && without > ROUNDS / 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_text_has_a_reading)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
