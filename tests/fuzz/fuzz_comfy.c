/* ComfyUI graphs from mutated and random bytes: never a crash; what is refused is told in ComfyUI's shape; what is accepted names a model
 * and stays within every cap. Names of files likewise: none that is taken leaves its folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/api/comfy_graph.h"
#include "server/api/comfy_inputs.h"
#include "mutate.h"

enum { CAPACITY = 8192, ROUNDS = 40000 };

static const model_info demo = {.name = "demo", .size_multiple = 16, .width = 128, .height = 128, .steps = 12, .guidance = 3.5};

static const model_info *find_model(void *context, const char *name) {
    (void)context;
    return name[0] == 'd' ? &demo : NULL;
}

static bool find_picture(void *context, const char *name, comfy_picture *out) {
    (void)context;
    *out = (comfy_picture){.image = "a", .mask = "b", .width = 1 + name[0], .height = 1 + (int)strlen(name)};
    return name[0] > 'f';
}

static void list(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *to) {
    (void)context, (void)c;
    yyjson_mut_arr_add_str(doc, to, "demo");
}

static const comfy_world world = {NULL, find_model, find_picture, list};

static const char *const seeds[] = {
    "{\"3\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":7,\"steps\":4,\"cfg\":1.0,\"sampler_name\":\"euler\",\"scheduler\":\"normal\",\"denoise\":1.0,\"model\":[\"4\",0],"
    "\"positive\":[\"6\",0],\"negative\":[\"7\",0],\"latent_image\":[\"5\",0]}},\"4\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"demo\"}},"
    "\"5\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":64,\"height\":64,\"batch_size\":1}},\"6\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"text\":\"a\",\"clip\":"
    "[\"4\",1]}},\"7\":{\"class_type\":\"ConditioningZeroOut\",\"inputs\":{\"conditioning\":[\"6\",0]}},\"8\":{\"class_type\":\"VAEDecode\",\"inputs\":{\"samples\":[\"3\",0],\"vae\":"
    "[\"4\",2]}},\"9\":{\"class_type\":\"SaveImage\",\"inputs\":{\"filename_prefix\":\"x\",\"images\":[\"8\",0]}}}",
    "{\"1\":{\"class_type\":\"UNETLoader\",\"inputs\":{\"unet_name\":\"d\",\"weight_dtype\":\"default\"}},\"2\":{\"class_type\":\"Reroute\",\"inputs\":{\"\":[\"1\",0]}},"
    "\"3\":{\"class_type\":\"CLIPTextEncodeFlux\",\"inputs\":{\"clip\":[\"4\",0],\"clip_l\":\"\",\"t5xxl\":[\"5\",0],\"guidance\":3.5}},\"4\":{\"class_type\":\"DualCLIPLoader\","
    "\"inputs\":{\"clip_name1\":\"a\",\"clip_name2\":\"b\",\"type\":\"flux\"}},\"5\":{\"class_type\":\"PrimitiveString\",\"inputs\":{\"value\":\"t\"}},\"6\":{\"class_type\":"
    "\"BasicGuider\",\"inputs\":{\"model\":[\"2\",0],\"conditioning\":[\"3\",0]}},\"7\":{\"class_type\":\"RandomNoise\",\"inputs\":{\"noise_seed\":18446744073709551615}},\"8\":{"
    "\"class_type\":\"KSamplerSelect\",\"inputs\":{\"sampler_name\":\"euler\"}},\"9\":{\"class_type\":\"BasicScheduler\",\"inputs\":{\"model\":[\"2\",0],\"scheduler\":\"simple\","
    "\"steps\":9,\"denoise\":0.5}},\"10\":{\"class_type\":\"LoadImage\",\"inputs\":{\"image\":\"xyzxyzxyzxyzxyzxyz\"}},\"11\":{\"class_type\":\"VAEEncode\",\"inputs\":{\"pixels\":"
    "[\"10\",0],\"vae\":[\"12\",0]}},\"12\":{\"class_type\":\"VAELoader\",\"inputs\":{\"vae_name\":\"v\"}},\"13\":{\"class_type\":\"SamplerCustomAdvanced\",\"inputs\":{\"noise\":"
    "[\"7\",0],\"guider\":[\"6\",0],\"sampler\":[\"8\",0],\"sigmas\":[\"9\",0],\"latent_image\":[\"11\",0]}},\"14\":{\"class_type\":\"VAEDecode\",\"inputs\":{\"samples\":[\"13\",0],"
    "\"vae\":[\"12\",0]}},\"15\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"14\",0]}}}",
    "{\"1\":{\"class_type\":\"SaveImage\",\"inputs\":{\"images\":[\"2\",0]}},\"2\":{\"class_type\":\"Reroute\",\"inputs\":{\"a\":[\"3\",0]}},\"3\":{\"class_type\":\"Reroute\","
    "\"inputs\":{\"a\":[\"2\",0]}}}",
};

static int accepted, refused;

static void check_plan(const comfy_plan *p) {
    assert_ptr_equal(p->model, &demo);
    assert_non_null(p->prompt);
    assert_in_range(p->width, 1, MODEL_MAX_SIDE);
    assert_in_range(p->height, 1, MODEL_MAX_SIDE);
    assert_in_range(p->steps, 1, 1000);
    assert_in_range(p->shown_steps, 1, p->steps);
    assert_in_range(p->count, 1, TASK_MAX_IMAGES);
    assert_in_range(p->node_count, 1, COMFY_GRAPH_NODES);
    assert_in_range(p->sampler, 0, p->node_count - 1);
    assert_int_equal(p->nodes[p->sampler].class->stage, STAGE_SAMPLE);
    assert_true(p->strength > 0 && p->strength <= 1);
    assert_true(isfinite(p->guidance_scale) && p->guidance_scale <= 100);
    assert_true(isfinite(p->true_cfg_scale) && p->true_cfg_scale >= 1 && p->true_cfg_scale <= 100);
    for (int i = 0; i < p->node_count; i++) assert_int_equal(strlen(p->nodes[i].signature), SHA256_TEXT_BYTES - 1);
}

static void check(const char *text, size_t size) {
    static comfy_plan plan;
    yyjson_mut_doc *fault;
    yyjson_doc *doc = yyjson_read(text, size, 0);
    if (doc == NULL) return;
    if (comfy_graph_read(yyjson_doc_get_root(doc), &world, &plan, &fault)) {
        accepted++;
        assert_null(fault);
        check_plan(&plan);
    } else {
        refused++;
        assert_non_null(fault);
        yyjson_mut_val *root = yyjson_mut_doc_get_root(fault), *told = yyjson_mut_obj_get(root, "error");
        assert_true(yyjson_mut_is_str(yyjson_mut_obj_get(told, "type")) && yyjson_mut_is_str(yyjson_mut_obj_get(told, "message")));
        assert_true(yyjson_mut_is_obj(yyjson_mut_obj_get(root, "node_errors")));
        char *written = yyjson_mut_write(fault, 0, NULL); /* valid UTF-8 all through */
        assert_non_null(written);
        free(written);
        yyjson_mut_doc_free(fault);
    }
    yyjson_doc_free(doc);
}

static const char *const pieces[] = {"\"3\"",  "\"4\"", "\"5\"", "\"6\"", "\"8\"",  "\"10\"",          "0",     "-1",     "1e308", "99999999999999999999", "null", "[", "]",
                                     "{}",     "\"\"",  ",",     "0.5",   "\xC3\xA9", "\"Reroute\"", "true", "\"KSampler\"", "\"LoadImage\"", "\"VAEEncodeForInpaint\"", "\\u0000"};
static const mutator changes = {
    .kinds = MUTATE_BYTE | MUTATE_INSERT | MUTATE_DIGIT | MUTATE_QUOTED | MUTATE_REMOVE, .most = 3, .capacity = CAPACITY,
    .pieces = pieces, .piece_count = sizeof pieces / sizeof *pieces};

static void graphs_are_accepted_within_the_caps_or_refused(void **state) {
    (void)state;
    uint64_t random = 31;
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
    /* Otherwise the mutations have become too wild, or too tame, to prove anything. */
    assert_in_range(accepted, ROUNDS / 10, ROUNDS);
    assert_in_range(refused, ROUNDS / 10, ROUNDS);
}

static void names_stay_inside_their_folder(void **state) {
    (void)state;
    static const char alphabet[] = "ab./\\\n\x7F\xC3\xA9 ";
    uint64_t random = 32;
    int taken = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char part[2][12] = {{0}}, out[2 * COMFY_NAME_BYTES];
        for (int j = 0; j < 2; j++)
            for (uint64_t k = 0, n = next_random(&random) % 11; k < n; k++)
                part[j][k] = alphabet[next_random(&random) % (sizeof alphabet - 1)];
        if (!comfy_input_join(part[0], part[1], out, NULL)) continue;
        taken++;
        assert_true(out[0] != '/' && out[0] != '\0' && strstr(out, "//") == NULL && strpbrk(out, "\\\n\x7F") == NULL);
        for (char *rest = out, *one; (one = strsep(&rest, "/")) != NULL;)
            assert_true(strcmp(one, "..") != 0 && strcmp(one, ".") != 0 && one[0] != '\0');
    }
    assert_in_range(taken, 100, ROUNDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graphs_are_accepted_within_the_caps_or_refused),
        cmocka_unit_test(names_stay_inside_their_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
