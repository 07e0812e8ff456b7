/* Weights on the CPU: in place where they can be, exact copies where not; and a missing, mis-shaped or untyped one is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "compute/weight_set.h"
#include "safetensors_file.h"

static const char *const stems[] = {"model", NULL};

typedef struct fixture {
    char folder[64];
    device *dev;
    tensor_store *store;
} fixture;

/* f32 [2, 2] = 1 2 3 4; bf16 [2, 2] = 1 2 3 4; bf16 [2] = 1 2; f16 [4] = 1 …; f64 [1, 2] = 0.1 1e300; bytes of a type nobody knows; i32 [2,
 * 1]. */
static const char header[] = "{\"p.f32\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                             "\"p.bf16\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[16,24]},"
                             "\"p.vector\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[24,28]},"
                             "\"p.one\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[28,32]},"
                             "\"p.f64\":{\"dtype\":\"F64\",\"shape\":[1,2],\"data_offsets\":[32,48]},"
                             "\"p.odd\":{\"dtype\":\"F8_E5M2\",\"shape\":[3],\"data_offsets\":[48,51]},"
                             "\"p.late\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[51,67]},"
                             "\"p.i32\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[67,75]},"
                             "\"p.none\":{\"dtype\":\"F32\",\"shape\":[0,2],\"data_offsets\":[75,75]}}";

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    unsigned char data[75] = {0};
    const float four[] = {1, 2, 3, 4}, seven = 7;
    const uint16_t brain[] = {0x3f80, 0x4000, 0x4040, 0x4080};
    const double doubles[] = {0.1, 3.0};
    memcpy(data, four, 16);
    memcpy(data + 16, brain, 8);
    memcpy(data + 24, brain, 4);
    memcpy(data + 28, &seven, 4);
    memcpy(data + 32, doubles, 16);
    memcpy(data + 51, four, 16);
    make_folder(f->folder);
    /* Spaces at the header's end put the data where f32 is aligned. */
    char padded[1024];
    snprintf(padded, sizeof padded, "%-1016s", header);
    write_safetensors(f->folder, "model.safetensors", padded, data, sizeof data);
    assert_true(device_open("cpu", 1, &f->dev, NULL));
    assert_true(tensor_store_open(f->folder, stems, &f->store, NULL));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    tensor_store_free(f->store);
    device_free(f->dev);
    remove_file(f->folder, "model.safetensors");
    rmdir(f->folder);
    free(f);
    return 0;
}

static weight_loader *loader(fixture *f, precision p) {
    weight_loader *l;
    assert_true(weight_loader_new(f->dev, f->store, p, &l, NULL));
    weight_loader_prefix(l, "p.");
    return l;
}

static const int64_t square[] = {2, 2}, two[] = {2}, three[] = {3}, any_two[] = {-1, 2}, row[] = {1, 2}, column[] = {2, 1};

static void weights_are_used_in_place(void **state) {
    fixture *f = *state;
    static const precision exact[] = {PRECISION_AUTO, PRECISION_F32};
    for (size_t i = 0; i < 2; i++) {
        weight_loader *l = loader(f, exact[i]);
        weight_set *s;
        struct ggml_tensor *a = weight_take(l, 2, square, "f32"), *b = weight_take(l, 2, square, "bf%d", 16);
        assert_ptr_equal(weight_take(l, 2, square, "f32"), a); /* taken twice, there once */
        assert_true(weight_loader_finish(l, &s, NULL));
        assert_ptr_equal(a->data, tensor_store_find(f->store, "p.f32")->data);
        assert_ptr_equal(b->data, tensor_store_find(f->store, "p.bf16")->data);
        assert_int_equal(b->type, GGML_TYPE_BF16);
        assert_int_equal(weight_set_private_bytes(s), 0);
        assert_int_equal(weight_set_device_bytes(s), 0);
        weight_set_free(s);
    }
}

static void others_become_exact_copies(void **state) {
    fixture *f = *state;
    weight_loader *l = loader(f, PRECISION_AUTO);
    weight_set *s;
    struct ggml_tensor *vector = weight_take(l, 1, two, "vector"), *doubles = weight_take(l, 2, row, "f64");
    struct ggml_tensor *late = weight_take(l, 2, square, "late"), *scalar = weight_take(l, 0, NULL, "one");
    assert_true(weight_loader_finish(l, &s, NULL));
    assert_int_equal(vector->type, GGML_TYPE_F32);
    assert_true(((float *)vector->data)[0] == 1.0f && ((float *)vector->data)[1] == 2.0f);
    assert_true(((float *)doubles->data)[0] == 0.1f && ((float *)doubles->data)[1] == 3.0f);
    assert_ptr_not_equal(late->data, tensor_store_find(f->store, "p.late")->data); /* not aligned in the file */
    assert_true(((float *)late->data)[3] == 4.0f);
    assert_true(((float *)scalar->data)[0] == 7.0f);
    assert_true(weight_set_private_bytes(s) >= 8 + 8 + 16);
    weight_set_free(s);
}

static void biases_stay_in_place(void **state) {
    fixture *f = *state;
    for (precision p = PRECISION_AUTO; p < PRECISION_INT8; p++) {
        weight_loader *l = loader(f, p);
        weight_set *s;
        struct ggml_tensor *bias = weight_take_bias(l, 2, "%s", "vector");
        assert_true(weight_loader_finish(l, &s, NULL));
        assert_int_equal(bias->type, GGML_TYPE_BF16);
        assert_ptr_equal(bias->data, tensor_store_find(f->store, "p.vector")->data);
        assert_int_equal(weight_set_private_bytes(s), 0);
        weight_set_free(s);
    }
    error e = {0};
    weight_set *s;
    weight_loader *l = loader(f, PRECISION_AUTO);
    assert_null(weight_take_bias(l, 3, "vector"));
    assert_false(weight_loader_finish(l, &s, &e));
    assert_non_null(strstr(e.text, "p.vector"));
}

static void a_precision_rounds_matrices_alone(void **state) {
    fixture *f = *state;
    static const struct {
        precision precision;
        enum ggml_type type;
    } cases[] = {{PRECISION_BF16, GGML_TYPE_BF16}, {PRECISION_F16, GGML_TYPE_F16}};
    for (size_t i = 0; i < 2; i++) {
        weight_loader *l = loader(f, cases[i].precision);
        weight_set *s;
        struct ggml_tensor *a = weight_take(l, 2, square, "f32"), *v = weight_take(l, 1, two, "vector");
        assert_true(weight_loader_finish(l, &s, NULL));
        assert_int_equal(a->type, cases[i].type);
        assert_int_equal(v->type, GGML_TYPE_F32);
        float values[4];
        ggml_get_type_traits(a->type)->to_float(a->data, values, 4);
        for (int n = 0; n < 4; n++) assert_true(values[n] == (float)(n + 1));
        weight_set_free(s);
    }
}

static void faults_are_named(void **state) {
    fixture *f = *state;
    static const struct {
        const char *name;
        int rank;
        const int64_t *shape;
        const char *complaint;
    } cases[] = {
        {"absent", 2, square, "'p.absent' is missing"},
        {"f32", 2, row, "'p.f32' has the shape [2, 2], not [1, 2]"},
        {"f32", 1, two, "'p.f32' has the shape [2, 2], not [2]"},
        {"odd", 1, three, "'p.odd' is not an array of floats"},
        {"i32", 2, column, "'p.i32' is not an array of floats"},
        {"none", 2, any_two, "'p.none' has the shape [0, 2], not [?, 2]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weight_loader *l = loader(f, PRECISION_F32);
        weight_set *s;
        error e = {0};
        assert_null(weight_take(l, cases[i].rank, cases[i].shape, "%s", cases[i].name));
        assert_null(weight_take(l, 2, square, "f32")); /* the first fault stands */
        assert_false(weight_loader_finish(l, &s, &e));
        assert_null(s);
        if (strstr(e.text, cases[i].complaint) == NULL) fail_msg("said \"%s\", not \"%s\"", e.text, cases[i].complaint);
    }
}

static void count_bytes(void *context, size_t bytes) { *(size_t *)context += bytes; }

/* Also what nobody takes counts: who waits wants to see all of it arrive. */
static void progress_adds_up_to_the_files(void **state) {
    fixture *f = *state;
    size_t told = 0;
    weight_loader *l = loader(f, PRECISION_AUTO);
    weight_set *s;
    weight_loader_progress(l, count_bytes, &told);
    weight_take(l, 2, square, "f32");
    weight_take(l, 1, two, "vector");
    assert_int_equal(told, 0);
    assert_true(weight_loader_finish(l, &s, NULL));
    assert_int_equal(told, tensor_store_bytes(f->store));
    assert_true(weight_set_in_place(s));
    weight_set_free(s);
    l = loader(f, PRECISION_AUTO);
    weight_take(l, 1, two, "vector");
    assert_true(weight_loader_finish(l, &s, NULL));
    assert_false(weight_set_in_place(s));
    weight_set_free(s);
}

static void any_size_and_presence_can_be_asked(void **state) {
    fixture *f = *state;
    weight_loader *l = loader(f, PRECISION_AUTO);
    assert_true(weight_has(l, "%s", "f32"));
    assert_false(weight_has(l, "p.f32"));
    struct ggml_tensor *t = weight_take(l, 2, (const int64_t[]){-1, -1}, "f64");
    assert_true(t->ne[0] == 2 && t->ne[1] == 1);
    weight_loader_free(l);
    weight_loader_free(NULL);
    weight_set_free(NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(weights_are_used_in_place),    TEST(others_become_exact_copies),         TEST(a_precision_rounds_matrices_alone),
        TEST(biases_stay_in_place),
        TEST(faults_are_named),             TEST(any_size_and_presence_can_be_asked),
        TEST(progress_adds_up_to_the_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
