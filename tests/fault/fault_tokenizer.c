/* Tokenizers in each dialect when memory runs out at any point of loading them or of encoding a prompt: each allocation in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fault.h"
#include "text/tokenizer.h"

typedef struct dialect {
    const char *name;
    bool (*load)(const char *folder, tokenizer **out, error *e);
    char folder[512];
    const tokenizer *loaded; /* by whom a prompt is encoded */
} dialect;

/* Added tokens of the raw and of the normalised text, composed and decomposed letters, characters with rules and without pieces. */
static const char prompt[] = "A fox<|endoftext|>, it's <|STARTOFTEXT|> caf\xC3\xA9 e\xCC\x81 \xEF\xAC\x81n <extra_id_3> \xE7\x8B\x90 \xF0\x9F\xA6\x8A</s> 12 <mark>\n";

static bool encode_with(const tokenizer *t, error *e) {
    int32_t ids[300];
    char longer[2048]; /* more ids than the list first has room for */
    size_t used, size = 0;
    while (size + sizeof prompt < sizeof longer) {
        memcpy(longer + size, prompt, sizeof prompt - 1);
        size += sizeof prompt - 1;
    }
    if (!tokenizer_encode(t, longer, size, 300, ids, &used, e)) return false;
    assert_int_equal(used, 300);
    return true;
}

static bool load(void *context, error *e) {
    const dialect *d = context;
    tokenizer *t;
    if (!d->load(d->folder, &t, e)) return false;
    tokenizer_free(t);
    return true;
}

static bool encode(void *context, error *e) { return encode_with(((const dialect *)context)->loaded, e); }

static void check(dialect *d) {
    const char *data = getenv("IMAGINED_TEST_DATA");
    assert_non_null(data);
    snprintf(d->folder, sizeof d->folder, "%s/tokenizers/%s", data, d->name);
    size_t loading = fault_fail_each(load, d);
    tokenizer *t;
    error e = {0};
    if (!d->load(d->folder, &t, &e)) fail_msg("%s", e.text);
    d->loaded = t;
    size_t encoding = fault_fail_each(encode, d);
    tokenizer_free(t);
    print_message("    %s: %zu allocations to load, %zu to encode\n", d->name, loading, encoding);
    assert_true(loading >= 5 && encoding >= 5);
}

static void clip_fails_cleanly(void **state) {
    (void)state;
    static const char *const names[] = {"clip_small", "clip_json", "clip_published", "clip_padded"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check(&(dialect){.name = names[i], .load = tokenizer_load_clip});
}

static void t5_fails_cleanly(void **state) {
    (void)state;
    static const char *const names[] = {"t5_spiece", "t5_charsmap", "t5_plain", "t5_sequence", "t5_extra"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check(&(dialect){.name = names[i], .load = tokenizer_load_t5});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(clip_fails_cleanly), cmocka_unit_test(t5_fails_cleanly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
