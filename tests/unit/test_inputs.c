/* What stands behind an upload: SHA-256, forms, and the store of inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "server/http/multipart.h"
#include "server/pictures/input_store.h"

/* --- SHA-256: the examples of FIPS 180-4 and its test vectors --- */

static void hashes_are_the_standards(void **state) {
    (void)state;
    static const struct {
        const char *text, *hash;
    } cases[] = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                 {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                 {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    char hash[SHA256_TEXT_BYTES];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        sha256_text(cases[c].text, strlen(cases[c].text), hash);
        assert_string_equal(hash, cases[c].hash);
    }
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    sha256_text(million, 1000000, hash);
    assert_string_equal(hash, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

/* --- forms --- */

static bool open_form(const char *type, const char *body, multipart *m) {
    error e = {0};
    return multipart_open(type, body, strlen(body), m, &e);
}

static void forms_are_read_part_by_part(void **state) {
    (void)state;
    static const char body[] = "a preamble with --edge in it\r\n"
                               "--edge  \r\n"
                               "Content-Disposition: form-data; name=\"text\"\r\n\r\n"
                               "one\r\n--edg\r\ntwo --edge\r\n"
                               "--edge\r\n"
                               "content-type: image/png\r\n"
                               "CONTENT-DISPOSITION: form-data; filename=\"a\\\"b;c\\d.png\"; name=image\r\n\r\n"
                               "\r\n"
                               "--edge\r\n"
                               "Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n"
                               "--edge\r\n\r\n"
                               "nameless\r\n"
                               "--edge--\r\nan epilogue";
    multipart m;
    multipart_part p;
    error e = {0};
    assert_true(open_form("Multipart/Form-Data; charset=utf-8; boundary=\"edge\"", body, &m));
    assert_true(multipart_next(&m, &p));
    assert_string_equal(p.name, "text");
    assert_false(p.is_file);
    assert_int_equal(p.size, strlen("one\r\n--edg\r\ntwo --edge"));
    assert_memory_equal(p.bytes, "one\r\n--edg\r\ntwo --edge", p.size);
    assert_true(multipart_next(&m, &p));
    assert_string_equal(p.name, "image");
    assert_string_equal(p.file_name, "a\"b;c\\d.png");
    assert_true(p.is_file && p.size == 0);
    assert_true(multipart_next(&m, &p));
    assert_string_equal(p.name, "none");
    assert_true(p.is_file && p.file_name[0] == '\0' && p.size == 0);
    assert_false(multipart_complete(&m, &e));
    assert_true(multipart_next(&m, &p));
    assert_string_equal(p.name, "");
    assert_int_equal(p.size, 8);
    assert_false(multipart_next(&m, &p));
    assert_true(multipart_complete(&m, &e));
}

static void damaged_forms_are_refused(void **state) {
    (void)state;
    static const char *const types[] = {NULL, "", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
                                        "multipart/form-dataX; boundary=a",
                                        "multipart/mixed; boundary=a", "multipart/form-data; boundary=\"\"",
                                        "multipart/form-data; boundary=12345678901234567890123456789012345678901234567890123456789012345678901"};
    static const char *const bodies[] = {"", "--", "--x", "--x\r\n", "--x\r\na: b", "--x\r\n\r\nno end",
                                         "--xy\r\n\r\na\r\n--x--", "text --x\r\n\r\na\r\n-x--"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        multipart m;
        assert_false(open_form(types[t], "--a--", &m));
    }
    for (size_t b = 0; b < sizeof bodies / sizeof *bodies; b++) {
        multipart m;
        multipart_part p;
        error e = {0};
        assert_true(open_form("multipart/form-data; boundary=x", bodies[b], &m));
        while (multipart_next(&m, &p)) continue;
        assert_false(multipart_complete(&m, &e));
        assert_int_equal(e.code, ERROR_INVALID);
    }
}

static void forms_have_caps(void **state) {
    (void)state;
    buffer many = {0}, wide = {0};
    multipart m;
    multipart_part p;
    error e = {0};
    int parts = 0;
    for (int i = 0; i < MULTIPART_PARTS_MAX + 10; i++) buffer_append_text(&many, "--x\r\n\r\na\r\n");
    buffer_append_text(&many, "--x--");
    assert_true(open_form("multipart/form-data; boundary=x", buffer_text(&many), &m));
    while (multipart_next(&m, &p)) parts++;
    assert_int_equal(parts, MULTIPART_PARTS_MAX);
    assert_false(multipart_complete(&m, &e));
    buffer_append_text(&wide, "--x\r\nContent-Disposition: form-data; name=\"");
    for (int i = 0; i < 300; i++) buffer_append_text(&wide, "n");
    buffer_append_text(&wide, "\"\r\n\r\na\r\n--x--");
    assert_true(open_form("multipart/form-data; boundary=x", buffer_text(&wide), &m));
    assert_true(multipart_next(&m, &p));
    assert_int_equal(strlen(p.name), MULTIPART_NAME_BYTES - 1);
    buffer_free(&many);
    buffer_free(&wide);
}

/* --- the store --- */

typedef struct fixture {
    char folder[64];
    input_store *store;
} fixture;

static int set_up(void **state) {
    static fixture f;
    error e;
    snprintf(f.folder, sizeof f.folder, "/tmp/imagined-test-XXXXXX");
    assert_non_null(mkdtemp(f.folder));
    assert_true(input_store_new(f.folder, &f.store, &e));
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    input_store_free(f->store);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    return system(command);
}

static input bring(input_store *s, int width, image_format format) {
    image i;
    buffer file = {0};
    input made;
    error e = {0};
    assert_true(image_new(width, 8, 3, &i, &e));
    memset(i.pixels, width, (size_t)width * 8 * 3);
    assert_true(image_encode(&i, format, 80, NULL, &file, &e));
    if (!input_store_write(s, NULL, file.data, file.size, &made, &e) || !input_store_add(s, &made, &e)) fail_msg("%s", e.text);
    assert_int_equal(made.bytes, file.size);
    buffer_free(&file);
    image_free(&i);
    return made;
}

static void inputs_are_found_again(void **state) {
    fixture *f = *state;
    error e = {0};
    char path[PATH_MAX];
    input first = bring(f->store, 5, IMAGE_PNG), second = bring(f->store, 6, IMAGE_JPEG), third = bring(f->store, 7, IMAGE_WEBP);
    assert_string_equal(input_store_at(f->store, 0)->id, third.id);
    /* The same again is the newest, and still one. */
    assert_string_equal(bring(f->store, 6, IMAGE_JPEG).id, second.id);
    assert_int_equal(input_store_count(f->store), 3);
    assert_string_equal(input_store_at(f->store, 0)->id, second.id);
    assert_string_equal(input_store_at(f->store, 2)->id, first.id);
    input_store_free(f->store);
    assert_true(input_store_new(f->folder, &f->store, &e));
    assert_int_equal(input_store_count(f->store), 3);
    const input *found = input_store_find(f->store, NULL, third.id);
    assert_non_null(found);
    assert_true(found->info.width == 7 && found->info.height == 8 && found->info.format == IMAGE_WEBP && found->bytes == third.bytes);
    assert_true(input_store_path(f->store, found, path, &e) && file_exists(path));
    assert_true(input_store_remove(f->store, NULL, third.id));
    assert_false(file_exists(path));
    assert_false(input_store_remove(f->store, NULL, third.id));
    assert_null(input_store_find(f->store, NULL, third.id));
}

static void what_was_deleted_meanwhile_is_not_taken(void **state) {
    fixture *f = *state;
    error e = {0};
    input made = bring(f->store, 9, IMAGE_PNG);
    assert_true(input_store_remove(f->store, NULL, made.id));
    assert_false(input_store_add(f->store, &made, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
    assert_int_equal(input_store_count(f->store), 0);
}

static void the_oldest_go_first(void **state) {
    fixture *f = *state;
    input made[4];
    for (int i = 0; i < 4; i++) made[i] = bring(f->store, 10 + i, IMAGE_PNG);
    int64_t now = clock_unix_ms();
    input_store_trim(f->store, &(input_limits){0}, now + 1000000, NULL, NULL);
    assert_int_equal(input_store_count(f->store), 4);
    input_store_trim(f->store, &(input_limits){.bytes = made[2].bytes + made[3].bytes}, now, NULL, NULL);
    assert_int_equal(input_store_count(f->store), 2);
    assert_non_null(input_store_find(f->store, NULL, made[2].id));
    input_store_trim(f->store, &(input_limits){.age_ms = 1000}, now, NULL, NULL);
    assert_int_equal(input_store_count(f->store), 2);
    input_store_trim(f->store, &(input_limits){.age_ms = 1000}, now + 100000, NULL, NULL);
    assert_int_equal(input_store_count(f->store), 0);
}

static bool is_one_of(const void *context, const char *id) {
    const char *const *held = context;
    while (*held != NULL && strcmp(*held, id) != 0) held++;
    return *held != NULL;
}

/* Those that are held stay, whatever the limits say; others go in their place. */
static void held_ones_stay(void **state) {
    fixture *f = *state;
    input made[4];
    for (int i = 0; i < 4; i++) made[i] = bring(f->store, 20 + i, IMAGE_PNG);
    const char *held[] = {made[0].id, made[2].id, NULL};
    int64_t now = clock_unix_ms();
    input_store_trim(f->store, &(input_limits){.bytes = made[0].bytes + made[2].bytes + made[3].bytes}, now, is_one_of, held);
    assert_int_equal(input_store_count(f->store), 3);
    assert_null(input_store_find(f->store, NULL, made[1].id));
    input_store_trim(f->store, &(input_limits){.bytes = 1}, now, is_one_of, held);
    input_store_trim(f->store, &(input_limits){.age_ms = 1000}, now + 100000, is_one_of, held);
    assert_int_equal(input_store_count(f->store), 2);
    assert_non_null(input_store_find(f->store, NULL, made[0].id));
    assert_non_null(input_store_find(f->store, NULL, made[2].id));
    input_store_trim(f->store, &(input_limits){.bytes = 1}, now, NULL, NULL);
    assert_int_equal(input_store_count(f->store), 0);
}

static void strange_names_are_left_alone(void **state) {
    fixture *f = *state;
    static const char id[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char *const tails[] = {"",          ".png",     ".1x1.gif",  ".01x1.png", ".1x1.jpeg", ".1x1.png.old",
                                        ".-1x1.png", ".1x1.PNG", ".1x1x1.png"};
    error e = {0};
    char path[PATH_MAX];
    for (size_t t = 0; t < sizeof tails / sizeof *tails; t++) {
        snprintf(path, sizeof path, "%s/inputs/%s%s", f->folder, id, tails[t]);
        assert_true(file_replace(path, "x", 1, &e));
    }
    snprintf(path, sizeof path, "%s/inputs/%s.1x1.png", f->folder, id);
    assert_int_equal(mkdir(path, 0700), 0);
    input_store_free(f->store);
    assert_true(input_store_new(f->folder, &f->store, &e));
    assert_int_equal(input_store_count(f->store), 0);
    snprintf(path, sizeof path, "%s/inputs/%s", f->folder, id);
    assert_true(file_exists(path));
    assert_true(input_id_valid(id));
    assert_false(input_id_valid("../../../../../../../../../../../../../../../../../../../etc/passwd"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_the_standards),
        cmocka_unit_test(forms_are_read_part_by_part),
        cmocka_unit_test(damaged_forms_are_refused),
        cmocka_unit_test(forms_have_caps),
        cmocka_unit_test_setup_teardown(inputs_are_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_deleted_meanwhile_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_go_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(held_ones_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strange_names_are_left_alone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
