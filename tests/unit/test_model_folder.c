/* A model folder's small files: defaults come out right, and what is wrong is named by file and key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/file.h"
#include "models/model_folder.h"

static char root[64];

static void put(const char *name, const char *text) {
    char path[256];
    error e = {0};
    snprintf(path, sizeof path, "%s/%s", root, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_true(file_make_folder(path, &e));
    *slash = '/';
    assert_true(file_replace(path, text, strlen(text), &e));
}

static int a_good_folder(void **state) {
    (void)state;
    strcpy(root, "/tmp/imagined-model-XXXXXX");
    if (mkdtemp(root) == NULL) return -1;
    put("m/model_index.json", "{\"_class_name\": \"FluxPipeline\"}");
    put("m/vae/config.json", "{\"block_out_channels\": [8, 16, 32, 32]}");
    put("m/transformer/config.json", "{\"guidance_embeds\": true}");
    put("m/tokenizer_2/tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656}");
    put("m/vae/x.safetensors", "12345");
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static bool read_model(model_info *m, error *e) {
    char folder[128];
    *e = (error){0};
    snprintf(folder, sizeof folder, "%s/m", root);
    return model_folder_read(folder, "m", m, e);
}

static void defaults_are_those_of_the_pipeline(void **state) {
    (void)state;
    model_info m;
    error e;
    assert_true(read_model(&m, &e));
    assert_int_equal(m.vae_factor, 8);
    assert_int_equal(m.size_multiple, 16);
    assert_int_equal(m.width, 1024);
    assert_int_equal(m.steps, 28);
    assert_true(m.guidance == 3.5);
    assert_int_equal(m.max_sequence_length, 512); /* 1e30 is no length */
    assert_int_equal(m.size_bytes, 5);
    put("m/tokenizer_2/tokenizer_config.json", "{\"model_max_length\": 32}");
    put("m/transformer/config.json", "{}");
    put("m/imagined.json", "{\"width\": 128, \"height\": 64, \"steps\": 8, \"guidance\": 2}");
    assert_true(read_model(&m, &e));
    assert_int_equal(m.max_sequence_length, 32);
    assert_int_equal(m.width, 128);
    assert_int_equal(m.height, 64);
    assert_int_equal(m.steps, 8);
    assert_false(m.guidance_embedded);
    assert_true(m.guidance == 2);
}

/* Flux's map for 16 channels, a model's own before it, and none for others. */
static void what_latents_look_like(void **state) {
    (void)state;
    model_info m;
    error e;
    assert_true(read_model(&m, &e));
    assert_int_equal(m.latent_channels, 4);
    assert_int_equal(m.latent_rgb.channels, 0);
    put("m/vae/config.json", "{\"block_out_channels\": [8, 16, 32, 32], \"latent_channels\": 16}");
    assert_true(read_model(&m, &e));
    assert_int_equal(m.latent_rgb.channels, 16);
    assert_true(m.latent_rgb.factors[15][0] == -0.1262f && m.latent_rgb.bias[2] == -0.0851f);
    put("m/vae/config.json", "{\"block_out_channels\": [8, 16, 32, 32], \"latent_channels\": 1}");
    put("m/imagined.json", "{\"latent_rgb\": {\"factors\": [[0.5, 0, 0]], \"bias\": [0, 0, 1]}}");
    assert_true(read_model(&m, &e));
    assert_int_equal(m.latent_rgb.channels, 1);
    assert_true(m.latent_rgb.factors[0][0] == 0.5f && m.latent_rgb.bias[2] == 1);
}

static void faults_name_file_and_key(void **state) {
    (void)state;
    static const struct {
        const char *file, *text, *in_message;
        error_code code;
    } cases[] = {
        {"m/model_index.json", "{\"_class_name\": \"StableDiffusionPipeline\"}", "StableDiffusionPipeline", ERROR_UNSUPPORTED},
        {"m/model_index.json", "{}", "_class_name", ERROR_BAD_FILE},
        {"m/model_index.json", "{", "model_index.json", ERROR_BAD_FILE},
        {"m/model_index.json", "[]", "model_index.json", ERROR_BAD_FILE},
        {"m/vae/config.json", "{\"block_out_channels\": []}", "block_out_channels", ERROR_BAD_FILE},
        {"m/vae/config.json", "{\"block_out_channels\": 7}", "block_out_channels", ERROR_BAD_FILE},
        {"m/vae/config.json", "{}", "block_out_channels", ERROR_BAD_FILE},
        {"m/transformer/config.json", "{\"guidance_embeds\": \"yes\"}", "guidance_embeds", ERROR_BAD_FILE},
        {"m/imagined.json", "{\"width\": 100}", "multiples of 16", ERROR_BAD_FILE},
        {"m/vae/config.json", "{\"block_out_channels\": [8], \"latent_channels\": 0}", "latent_channels", ERROR_BAD_FILE},
        {"m/imagined.json", "{\"latent_rgb\": {\"factors\": [[1, 1, 1]], \"bias\": [0, 0, 0]}}", "factors", ERROR_BAD_FILE},
        {"m/imagined.json", "{\"steps\": 0}", "steps", ERROR_BAD_FILE},
        {"m/imagined.json", "{\"steps\": \"8\"}", "steps", ERROR_BAD_FILE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(remove_folder(NULL), 0);
        assert_int_equal(a_good_folder(NULL), 0);
        put(cases[i].file, cases[i].text);
        model_info m;
        error e;
        assert_false(read_model(&m, &e));
        assert_int_equal(e.code, cases[i].code);
        if (strstr(e.text, cases[i].in_message) == NULL) fail_msg("'%s' does not say '%s'", e.text, cases[i].in_message);
    }
}

static int complaints;
static void count_complaint(void *context, const char *folder, const error *e) {
    (void)context, (void)folder, (void)e;
    complaints++;
}

static void a_list_leaves_out_what_cannot_be_used(void **state) {
    (void)state;
    put("broken/model_index.json", "{}");
    put("unrelated/readme.txt", "hello");
    char demo[128];
    snprintf(demo, sizeof demo, "%s/m", root);
    model_list l;
    error e = {0};
    assert_true(model_list_read(demo, root, count_complaint, NULL, &l, &e));
    assert_int_equal(l.count, 2);
    assert_string_equal(l.models[0].name, "demo");
    assert_string_equal(l.models[1].name, "m");
    assert_int_equal(complaints, 1);
    assert_null(model_list_find(&l, "broken"));
    model_list_free(&l);
    assert_true(model_list_read("", "/nowhere/at/all", count_complaint, NULL, &l, &e));
    assert_int_equal(l.count, 0);
    model_list_free(&l);
}

static void a_picture_gives_its_proportions(void **state) {
    (void)state;
    const model_info m = {.width = 1024, .height = 1024, .size_multiple = 16};
    static const int cases[][4] = {{1024, 1024, 1024, 1024}, {640, 480, 640, 480},  {641, 470, 640, 464},     {4000, 3000, 1184, 880},
                                   {1, 1, 16, 16},           {16384, 1, 16384, 16}, {3000, 16384, 432, 2400}, {16384, 16384, 1024, 1024}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int width, height;
        model_size_for_picture(&m, cases[i][0], cases[i][1], &width, &height);
        if (width != cases[i][2] || height != cases[i][3]) fail_msg("%d × %d became %d × %d", cases[i][0], cases[i][1], width, height);
        assert_true(width % 16 == 0 && height % 16 == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_those_of_the_pipeline, a_good_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_latents_look_like, a_good_folder, remove_folder),
        cmocka_unit_test_setup_teardown(faults_name_file_and_key, a_good_folder, remove_folder),
        cmocka_unit_test(a_picture_gives_its_proportions),
        cmocka_unit_test_setup_teardown(a_list_leaves_out_what_cannot_be_used, a_good_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
