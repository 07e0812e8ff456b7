/* Weight files: what is there is found with its type, shape and place; and no truncation, lie or single wrong byte gets further than a
 * clean error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "safetensors_file.h"
#include "weights/tensor_store.h"

static const char *const stems[] = {"model", "other", NULL};

typedef struct fixture {
    char folder[64];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    make_folder(f->folder);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"model.safetensors", "other.safetensors", "model.safetensors.index.json", "a.safetensors",
                                        "b.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) remove_file(f->folder, names[i]);
    rmdir(f->folder);
    free(f);
    return 0;
}

static const char valid[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[16,16]}}";
static const unsigned char valid_data[16] = {0, 0, 0x80, 0x3f, 0x80, 0x3f, 0, 0x40};

/* Mapped and read into memory: the checks are the same. */
static bool opens(fixture *f, error *e) {
    tensor_store *s = NULL, *copy = NULL;
    error other = {0};
    bool ok = tensor_store_open(f->folder, stems, &s, e), copied = tensor_store_read(f->folder, stems, &(tensor_reading){0}, &copy, &other);
    assert_true(ok == (s != NULL) && copied == ok && copied == (copy != NULL));
    if (!ok) assert_string_equal(other.text, e->text);
    tensor_store_free(s);
    tensor_store_free(copy);
    return ok;
}

static void a_file_is_read_as_it_is(void **state) {
    fixture *f = *state;
    error e = {0};
    write_safetensors(f->folder, "other.safetensors", valid, valid_data, sizeof valid_data);
    tensor_store *s;
    assert_true(tensor_store_open(f->folder, stems, &s, &e));
    assert_int_equal(tensor_store_count(s), 3);
    assert_string_equal(tensor_store_at(s, 0)->name, "a");
    const weight *b = tensor_store_find(s, "b");
    assert_non_null(b);
    assert_int_equal(b->type, WEIGHT_BF16);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->size, 12);
    float values[6];
    assert_true(weight_to_f32(b->type, b->data, values, 6));
    assert_true(values[0] == 1.0f && values[1] == 2.0f);
    assert_true(weight_to_f32(WEIGHT_F32, tensor_store_find(s, "a")->data, values, 1));
    assert_true(values[0] == 1.0f);
    assert_null(tensor_store_find(s, "c"));
    assert_int_equal(tensor_store_mapped_bytes(s), 8 + strlen(valid) + 16);
    tensor_store_free(s);
}

static void count_bytes(void *context, size_t bytes) { *(size_t *)context += bytes; }

static bool maps_a_file_of(const char *folder) {
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) found = found || strstr(line, folder) != NULL;
    fclose(maps);
    return found;
}

static void a_file_read_into_memory_is_held_by_nobody(void **state) {
    fixture *f = *state;
    error e = {0};
    size_t told = 0, whole = 8 + strlen(valid) + 16;
    write_safetensors(f->folder, "other.safetensors", valid, valid_data, sizeof valid_data);
    tensor_store *s, *mapped;
    assert_true(tensor_store_open(f->folder, stems, &mapped, &e));
    assert_true(maps_a_file_of(f->folder));
    assert_int_equal(tensor_store_private_bytes(mapped), 0);
    assert_int_equal(tensor_store_bytes(mapped), whole);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), place = (uintptr_t)tensor_store_find(mapped, "b")->data % page;
    tensor_store_free(mapped);
    assert_true(tensor_store_read(f->folder, stems, &(tensor_reading){.progress = count_bytes, .context = &told}, &s, &e));
    assert_false(maps_a_file_of(f->folder));
    assert_int_equal(told, whole);
    assert_int_equal(tensor_store_mapped_bytes(s), 0);
    assert_int_equal(tensor_store_private_bytes(s), whole);
    assert_int_equal(tensor_store_bytes(s), whole);
    const weight *b = tensor_store_find(s, "b");
    assert_int_equal((uintptr_t)b->data % page, place); /* as aligned as in a mapping */
    write_file(f->folder, "other.safetensors", "gone", 4); /* what happens to the file is of no matter */
    float values[6];
    assert_true(weight_to_f32(b->type, b->data, values, 6));
    assert_true(values[0] == 1.0f && values[1] == 2.0f);
    tensor_store_free(s);
}

static void a_missing_folder_or_file_is_not_found(void **state) {
    fixture *f = *state;
    error e = {0};
    assert_false(opens(f, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(e.text, f->folder));
    assert_non_null(strstr(e.text, "model.safetensors"));
}

static void every_truncation_fails(void **state) {
    fixture *f = *state;
    size_t size;
    unsigned char *image = safetensors_image(valid, valid_data, sizeof valid_data, &size);
    for (size_t cut = 0; cut < size; cut++) {
        error e = {0};
        write_file(f->folder, "model.safetensors", image, cut);
        assert_false(opens(f, &e));
        assert_int_equal(e.code, ERROR_BAD_FILE);
        assert_non_null(strstr(e.text, "model.safetensors"));
    }
    write_file(f->folder, "model.safetensors", image, size);
    assert_true(opens(f, NULL));
    free(image);
}

/* A wrong byte may leave a valid file (a letter of a name): then its arrays must still lie within it. */
static void every_wrong_byte_fails_or_stays_within_the_file(void **state) {
    static const unsigned char replacements[] = {0, 1, 0x7f, 0xff, '0', '9', '-', '.', 'e', '"', '{', '}', '[', ']', ',', ':', ' ', '\\'};
    fixture *f = *state;
    size_t size, opened = 0;
    unsigned char *image = safetensors_image(valid, valid_data, sizeof valid_data, &size);
    for (size_t at = 0; at < size - sizeof valid_data; at++) {
        unsigned char was = image[at];
        for (size_t i = 0; i < sizeof replacements + 8; i++) {
            image[at] = i < 8 ? was ^ (unsigned char)(1 << i) : replacements[i - 8];
            write_file(f->folder, "model.safetensors", image, size);
            error e = {0};
            tensor_store *s;
            if (!tensor_store_open(f->folder, stems, &s, &e)) {
                assert_int_not_equal(e.code, ERROR_NONE);
                continue;
            }
            const void *address;
            size_t length;
            tensor_store_file(s, 0, &address, &length);
            for (size_t w = 0; w < tensor_store_count(s); w++) {
                const weight *t = tensor_store_at(s, w);
                assert_true((const char *)t->data >= (const char *)address);
                assert_true((const char *)t->data + t->size <= (const char *)address + length);
            }
            opened++;
            tensor_store_free(s);
        }
        image[at] = was;
    }
    assert_true(opened > 0);
    free(image);
}

static void lies_are_named(void **state) {
    static const struct {
        const char *header, *complaint;
    } lies[] = {
        {"[]", "not a JSON object"},
        {"{\"a\":[]}", "not an object"},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", "dimension 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]}}", "dimension 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,18446744073709551615],\"data_offsets\":[0,16]}}", "dimension 1"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]}}", "impossibly large"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387908],\"data_offsets\":[0,16]}}", "do not fill"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,15]}}", "do not fill"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", "claims bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}", "claims bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "bytes of no array before 'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "follow the last array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "twice"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", "NUL"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}", "7 dimensions"},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        error e = {0};
        write_safetensors(f->folder, "model.safetensors", lies[i].header, valid_data, sizeof valid_data);
        assert_false(opens(f, &e));
        if (strstr(e.text, lies[i].complaint) == NULL) fail_msg("%s: said \"%s\", not \"%s\"", lies[i].header, e.text, lies[i].complaint);
    }
}

static void an_unknown_type_is_carried_along(void **state) {
    fixture *f = *state;
    tensor_store *s;
    write_safetensors(f->folder, "model.safetensors", "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[16],\"data_offsets\":[0,16]}}", valid_data,
                      16);
    assert_true(tensor_store_open(f->folder, stems, &s, NULL));
    assert_int_equal(tensor_store_at(s, 0)->type, WEIGHT_OTHER);
    float values[16];
    assert_false(weight_to_f32(WEIGHT_OTHER, tensor_store_at(s, 0)->data, values, 16));
    tensor_store_free(s);
}

static void what_is_no_regular_file_is_refused(void **state) {
    fixture *f = *state;
    char path[128];
    error e = {0};
    snprintf(path, sizeof path, "%s/model.safetensors", f->folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(opens(f, &e));
    assert_int_equal(e.code, ERROR_BAD_FILE);
    remove(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(opens(f, &e));
    rmdir(path);
}

static const char shard_a[] = "{\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
static const char shard_b[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";

static void shards_make_one_store(void **state) {
    fixture *f = *state;
    error e = {0};
    const char index[] = "{\"metadata\":{},\"weight_map\":{\"x\":\"a.safetensors\",\"w\":\"b.safetensors\"}}";
    write_safetensors(f->folder, "a.safetensors", shard_a, valid_data, 16);
    write_safetensors(f->folder, "b.safetensors", shard_b, valid_data, 16);
    write_file(f->folder, "model.safetensors.index.json", index, sizeof index - 1);
    tensor_store *s;
    assert_true(tensor_store_open(f->folder, stems, &s, &e));
    assert_int_equal(tensor_store_count(s), 2);
    assert_int_equal(tensor_store_file_count(s), 2);
    assert_non_null(tensor_store_find(s, "w"));
    assert_non_null(tensor_store_find(s, "x"));
    tensor_store_free(s);
}

static void a_lying_index_is_refused(void **state) {
    static const struct {
        const char *index, *complaint;
    } lies[] = {
        {"{}", "weight_map"},
        {"{\"weight_map\":[]}", "weight_map"},
        {"{\"weight_map\":{\"x\":7}}", "not the name of a file"},
        {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", "not the name of a file"},
        {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", "not the name of a file"},
        {"{\"weight_map\":{\"x\":\"a.safetensors\\u0000\"}}", "not the name of a file"},
        {"{\"weight_map\":{\"x\":\"c.safetensors\"}}", "c.safetensors does not exist"},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"a.safetensors\"}}", "'y' is not in a.safetensors"},
        {"{\"weight_map\":{\"x\":\"b.safetensors\",\"w\":\"a.safetensors\"}}", "is not in"},
        {"{\"weight_map\":{\"x\"", "not valid JSON"},
    };
    fixture *f = *state;
    write_safetensors(f->folder, "a.safetensors", shard_a, valid_data, 16);
    write_safetensors(f->folder, "b.safetensors", shard_b, valid_data, 16);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        error e = {0};
        write_file(f->folder, "model.safetensors.index.json", lies[i].index, strlen(lies[i].index));
        assert_false(opens(f, &e));
        if (strstr(e.text, lies[i].complaint) == NULL) fail_msg("%s: said \"%s\", not \"%s\"", lies[i].index, e.text, lies[i].complaint);
    }
    write_safetensors(f->folder, "b.safetensors", shard_a, valid_data, 16);
    const char twice[] = "{\"weight_map\":{\"x\":\"a.safetensors\",\"w\":\"b.safetensors\"}}";
    write_file(f->folder, "model.safetensors.index.json", twice, sizeof twice - 1);
    error e = {0};
    assert_false(opens(f, &e));
    assert_non_null(strstr(e.text, "two shards"));
}

static void every_half_widens_exactly(void **state) {
    (void)state;
    static const struct {
        uint16_t bits;
        float value;
    } samples[] = {{0x3c00, 1.0f}, {0xc000, -2.0f}, {0x0001, 0x1p-24f}, {0x83ff, -0x3ffp-24f}, {0x0400, 0x1p-14f}, {0x7bff, 65504.0f}};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        float value;
        assert_true(weight_to_f32(WEIGHT_F16, &samples[i].bits, &value, 1));
        assert_true(value == samples[i].value);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_read_as_it_is),
        TEST(a_file_read_into_memory_is_held_by_nobody),
        TEST(a_missing_folder_or_file_is_not_found),
        TEST(every_truncation_fails),
        TEST(every_wrong_byte_fails_or_stays_within_the_file),
        TEST(lies_are_named),
        TEST(an_unknown_type_is_carried_along),
        TEST(what_is_no_regular_file_is_refused),
        TEST(shards_make_one_store),
        TEST(a_lying_index_is_refused),
        TEST(every_half_widens_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
