/* Forms of edits from mutated, cut and random bytes: never a crash; what is taken is an object of known fields with sane types, pictures
 * that came in the form, and choices within their bounds; a complaint is one sentence, and leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "server/api/openai_form.h"
#include "server/api/openai_request.h"
#include "mutate.h"

enum { ROUNDS = 100000, CAPACITY = 1024 };

static const char type[] = "multipart/form-data; boundary=x";
#define FIELD(name, value) "--x\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define PICTURE(name, bytes) "--x\r\nContent-Disposition: form-data; name=\"" name "\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n" bytes "\r\n"
static const char *const seeds[] = {
    FIELD("prompt", "a fox") FIELD("n", "2") FIELD("size", "64x48") FIELD("stream", "true") PICTURE("image", "bytes") "--x--\r\n",
    PICTURE("image[]", "one") PICTURE("image[0]", "two") PICTURE("mask", "three") FIELD("seed", "18446744073709551615") FIELD("n", "1e400") "--x--",
    FIELD("guidance_scale", "-2.5e-1") FIELD("output_format", "webp") FIELD("output_compression", "null") FIELD("strength", "") "--x--",
    FIELD("prompt", "\xC3\xA9") FIELD("prompt", "again") FIELD("partial_images", "[1]") FIELD("response_format", "url") FIELD("other", "{}") "--x--",
    "--x--",
};

static int taken, chosen, with_pictures, refused;

static void check_error(const error *e) {
    assert_true(e->code == ERROR_INVALID && e->text[0] != '\0' && strchr(e->text, '\n') == NULL && utf8_valid(e->text, strlen(e->text), NULL));
}

static void check_fields(json fields) {
    yyjson_obj_iter members = yyjson_obj_iter_with(fields.value);
    openai_choices c;
    error e = {0};
    assert_true(yyjson_is_obj(fields.value));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&members)) != NULL;) {
        yyjson_val *v = yyjson_obj_iter_get_val(key);
        assert_true(yyjson_is_str(v) || yyjson_is_num(v) || yyjson_is_bool(v) || yyjson_is_null(v));
        if (yyjson_is_str(v)) assert_true(utf8_valid(yyjson_get_str(v), yyjson_get_len(v), NULL));
    }
    if (!openai_read_choices(fields, &c, &e)) {
        check_error(&e);
        return;
    }
    chosen++;
    assert_in_range(c.compression, 0, 100);
    assert_in_range(c.partial_images, 0, OPENAI_MAX_PARTIALS);
    assert_in_range(c.format, 0, IMAGE_FORMATS - 1);
}

static void check(const char *bytes, size_t size, bool silent) {
    char *exact = exact_copy(bytes, size);
    const buffer body = {.data = exact, .size = size, .capacity = size};
    openai_form f;
    error e = {0};
    if (!openai_form_read(type, &body, silent, &f, &e)) {
        refused++;
        check_error(&e);
        assert_true(f.fields.doc == NULL && f.pictures[OPENAI_IMAGE].data == NULL && f.pictures[OPENAI_MASK].data == NULL);
    } else {
        taken++;
        check_fields(json_root(&f.fields));
        assert_true(!silent || yyjson_is_str(yyjson_obj_get(json_root(&f.fields).value, "prompt")));
        assert_true((f.images > 0) == (f.pictures[OPENAI_IMAGE].size > 0));
        with_pictures += f.images > 0;
        for (int i = 0; i < OPENAI_PICTURES; i++)
            assert_true(f.pictures[i].size == 0 || memmem(exact, size, f.pictures[i].data, f.pictures[i].size) != NULL);
    }
    openai_form_free(&f);
    free(exact);
}

static void forms_do_no_harm(void **state) {
    (void)state;
    static const char letters[] = "--xx\r\n\r\n \";=0123456789.eE+n[]\xC3\xA9";
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < ROUNDS; round++) {
        char body[CAPACITY];
        const char *seed = seeds[next_random(&random) % (sizeof seeds / sizeof *seeds)];
        size_t size = strlen(seed);
        assert_true(size < CAPACITY);
        memcpy(body, seed, size);
        size = mutate_letters(letters, &random, body, size, CAPACITY);
        check(body, size, round % 2 == 0);
    }
    assert_true(taken > 10000 && chosen > 5000 && with_pictures > 5000 && refused > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(forms_do_no_harm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
