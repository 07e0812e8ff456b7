/* A part of a model that says something wrong of itself is refused, and the error names the file, the key or the tensor. Every case starts
 * from a folder of the goldens, with one key of its config.json replaced. */
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
#include <yyjson.h>

#include "models/autoencoder_kl.h"
#include "models/clip_text.h"
#include "models/t5_encoder.h"

typedef bool (*loader)(device *d, const char *folder, error *e);

static bool load_clip(device *d, const char *folder, error *e) {
    clip_text *m;
    bool ok = clip_text_load(d, folder, &LOAD_OPTIONS(PRECISION_AUTO), &m, e);
    assert_true(ok == (m != NULL));
    clip_text_free(m);
    return ok;
}

static bool load_t5(device *d, const char *folder, error *e) {
    t5_encoder *m;
    bool ok = t5_encoder_load(d, folder, &LOAD_OPTIONS(PRECISION_AUTO), &m, e);
    assert_true(ok == (m != NULL));
    t5_encoder_free(m);
    return ok;
}

static bool load_vae(device *d, const char *folder, error *e) {
    autoencoder_kl *m;
    bool ok = autoencoder_kl_load(d, folder, &LOAD_OPTIONS(PRECISION_AUTO), &m, e);
    assert_true(ok == (m != NULL));
    autoencoder_kl_free(m);
    return ok;
}

typedef struct fault {
    const char *key, *value; /* JSON; NULL: the key is taken out */
    error_code code;
    const char *word; /* in the error, beside the folder's name; NULL: it loads */
} fault;

static void golden_folder(char path[512], const char *name) {
    const char *data = getenv("IMAGINED_TEST_DATA");
    assert_non_null(data);
    snprintf(path, 512, "%s/models/%s", data, name);
}

/* out/config.json: the golden's, with one key replaced */
static void write_config(const char *source, const char *out, const fault *f) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", source);
    yyjson_doc *doc = yyjson_read_file(path, 0, NULL, NULL);
    assert_non_null(doc);
    yyjson_mut_doc *changed = yyjson_doc_mut_copy(doc, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(changed);
    yyjson_mut_obj_remove_str(root, f->key);
    yyjson_doc *value = f->value != NULL ? yyjson_read(f->value, strlen(f->value), 0) : NULL;
    if (value != NULL) {
        yyjson_mut_val *copy = yyjson_val_mut_copy(changed, yyjson_doc_get_root(value));
        yyjson_mut_obj_add(root, yyjson_mut_str(changed, f->key), copy);
    }
    snprintf(path, sizeof path, "%s/config.json", out);
    assert_true(yyjson_mut_write_file(path, changed, 0, NULL, NULL));
    yyjson_doc_free(value);
    yyjson_doc_free(doc);
    yyjson_mut_doc_free(changed);
}

static void try(device *d, loader load, const char *name, const char *weights, const fault *f) {
    char source[512], folder[] = "/tmp/imagined-part-XXXXXX", from[600], to[600];
    golden_folder(source, name);
    assert_non_null(mkdtemp(folder));
    write_config(source, folder, f);
    snprintf(from, sizeof from, "%s/%s", source, weights);
    snprintf(to, sizeof to, "%s/%s", folder, weights);
    assert_int_equal(symlink(from, to), 0);
    error e = {0};
    bool ok = load(d, folder, &e);
    unlink(to);
    snprintf(to, sizeof to, "%s/config.json", folder);
    unlink(to);
    rmdir(folder);
    if (f->word == NULL) {
        if (!ok) fail_msg("%s, %s = %s: %s", name, f->key, f->value, e.text);
        return;
    }
    if (ok) fail_msg("%s, %s = %s: accepted", name, f->key, f->value);
    const char *once = strstr(e.text, folder);
    if (e.code != f->code || strstr(e.text, f->word) == NULL || once == NULL || strstr(once + 1, folder) != NULL)
        fail_msg("%s, %s = %s: the error is '%s' (%s)", name, f->key, f->value, e.text, error_code_name(e.code));
}

static void clip_text_faults_are_named(void **state) {
    static const fault faults[] = {
        {"hidden_act", NULL, ERROR_NONE, NULL}, /* the default: quick_gelu */
        {"hidden_act", "\"mish\"", ERROR_BAD_FILE, "'hidden_act'"},
        {"hidden_act", "7", ERROR_BAD_FILE, "'hidden_act'"},
        {"hidden_size", "33", ERROR_BAD_FILE, "'hidden_size'"},
        {"hidden_size", "0", ERROR_BAD_FILE, "'hidden_size'"},
        {"hidden_size", "2147483648", ERROR_BAD_FILE, "'hidden_size'"},
        {"hidden_size", "\"32\"", ERROR_BAD_FILE, "'hidden_size'"},
        {"hidden_size", "64", ERROR_BAD_FILE, "embeddings.token_embedding.weight"},
        {"num_hidden_layers", "3", ERROR_BAD_FILE, "encoder.layers.2."},
        {"num_hidden_layers", "-1", ERROR_BAD_FILE, "'num_hidden_layers'"},
        {"num_attention_heads", "1.5", ERROR_BAD_FILE, "'num_attention_heads'"},
        {"intermediate_size", "47", ERROR_BAD_FILE, "mlp.fc1.weight"},
        {"vocab_size", "62", ERROR_BAD_FILE, "embeddings.token_embedding.weight"},
        {"max_position_embeddings", "77", ERROR_BAD_FILE, "embeddings.position_embedding.weight"},
        {"layer_norm_eps", "\"tiny\"", ERROR_BAD_FILE, "'layer_norm_eps'"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) try(*state, load_clip, "clip_quick", "model.safetensors", &faults[i]);
}

static void t5_faults_are_named(void **state) {
    static const fault faults[] = {
        {"dense_act_fn", "\"anything\"", ERROR_NONE, NULL}, /* derived from feed_forward_proj */
        {"feed_forward_proj", "\"gated-mish\"", ERROR_BAD_FILE, "'feed_forward_proj'"},
        {"feed_forward_proj", "\"relu\"", ERROR_BAD_FILE, "DenseReluDense.wi.weight"},
        {"relative_attention_num_buckets", "7", ERROR_BAD_FILE, "'relative_attention_num_buckets'"},
        {"relative_attention_num_buckets", "16", ERROR_BAD_FILE, "relative_attention_bias.weight"},
        {"relative_attention_max_distance", "2", ERROR_BAD_FILE, "'relative_attention_max_distance'"},
        {"d_kv", "11", ERROR_BAD_FILE, "SelfAttention.q.weight"},
        {"d_model", "0", ERROR_BAD_FILE, "'d_model'"},
        {"num_layers", "3", ERROR_BAD_FILE, "encoder.block.2."},
        {"num_heads", "1e99", ERROR_BAD_FILE, "'num_heads'"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) try(*state, load_t5, "t5_gated", "model.safetensors", &faults[i]);
}

static void autoencoder_faults_are_named(void **state) {
    static const fault faults[] = {
        {"shift_factor", "null", ERROR_NONE, NULL},
        {"_class_name", "\"AutoencoderTiny\"", ERROR_UNSUPPORTED, "AutoencoderTiny"},
        {"block_out_channels", "[8, 18]", ERROR_BAD_FILE, "'block_out_channels'"},
        {"block_out_channels", "[]", ERROR_BAD_FILE, "'block_out_channels'"},
        {"block_out_channels", "[8, \"16\"]", ERROR_BAD_FILE, "'block_out_channels'"},
        {"block_out_channels", "[8, -16]", ERROR_BAD_FILE, "'block_out_channels'"},
        {"block_out_channels", "[8, 8, 8, 8, 8, 8, 8, 8, 8]", ERROR_BAD_FILE, "'block_out_channels'"},
        {"block_out_channels", "[8, 8]", ERROR_BAD_FILE, "decoder.conv_in.weight"},
        {"up_block_types", "[\"UpDecoderBlock2D\"]", ERROR_BAD_FILE, "'up_block_types'"},
        {"up_block_types", "[\"UpDecoderBlock2D\", \"AttnUpDecoderBlock2D\"]", ERROR_BAD_FILE, "'up_block_types'"},
        {"norm_num_groups", "3", ERROR_BAD_FILE, "'norm_num_groups'"},
        {"out_channels", "4", ERROR_BAD_FILE, "'out_channels'"},
        {"scaling_factor", "0", ERROR_BAD_FILE, "'scaling_factor'"},
        {"latent_channels", "16", ERROR_BAD_FILE, "decoder.conv_in.weight"},
        {"use_post_quant_conv", "true", ERROR_BAD_FILE, "post_quant_conv.weight"},
        {"use_post_quant_conv", "1", ERROR_BAD_FILE, "'use_post_quant_conv'"},
        {"layers_per_block", "2", ERROR_BAD_FILE, "decoder.up_blocks.0.resnets.2"},
        {"act_fn", "\"mish\"", ERROR_BAD_FILE, "'act_fn'"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        try(*state, load_vae, "vae_flux", "diffusion_pytorch_model.safetensors", &faults[i]);
}

static void missing_files_are_named(void **state) {
    error e = {0};
    char folder[] = "/tmp/imagined-part-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    assert_false(load_clip(*state, folder, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(e.text, "config.json"));
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("[]", f);
    fclose(f);
    assert_false(load_t5(*state, folder, &e));
    assert_int_equal(e.code, ERROR_BAD_FILE);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("{}", f);
    fclose(f);
    assert_false(load_vae(*state, folder, &e));
    assert_int_equal(e.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(e.text, folder));
    unlink(path);
    rmdir(folder);
}

static void count_bytes(void *context, size_t bytes) { *(size_t *)context += bytes; }

/* Where the weights are, for each way to load them; progress ends at the size of the file whichever it is. */
static void figures_say_where_weights_are(void **state) {
    char folder[512], file[600];
    struct stat info;
    golden_folder(folder, "clip_quick");
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    assert_int_equal(stat(file, &info), 0);
    const size_t whole = (size_t)info.st_size;
    for (int copied = 0; copied < 2; copied++) {
        for (int converted = 0; converted < 2; converted++) {
            size_t told = 0;
            load_options o = LOAD_OPTIONS(converted ? PRECISION_BF16 : PRECISION_F32);
            o.copied = copied != 0;
            o.progress = count_bytes;
            o.context = &told;
            clip_text *m;
            assert_true(clip_text_load(*state, folder, &o, &m, NULL));
            const component *c = clip_text_component(m);
            assert_int_equal(told, whole);
            assert_int_equal(component_mapped_bytes(c), copied ? 0 : whole);
            assert_int_equal(component_device_bytes(c), 0);
            if (copied) assert_true(component_private_bytes(c) >= whole);
            else assert_true(converted == (component_private_bytes(c) >= whole / 4));
            clip_text_free(m);
        }
    }
}

int main(void) {
    device *d;
    error e = {0};
    if (!device_open("cpu", 1, &d, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(clip_text_faults_are_named, d),
        cmocka_unit_test_prestate(t5_faults_are_named, d),
        cmocka_unit_test_prestate(autoencoder_faults_are_named, d),
        cmocka_unit_test_prestate(missing_files_are_named, d),
        cmocka_unit_test_prestate(figures_say_where_weights_are, d),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_free(d);
    return failed;
}
