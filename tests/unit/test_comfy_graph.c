/* Graphs of ComfyUI become the request that they mean, by hand-made graphs of each kind of node; what a walk must not do (repeat itself without end, take too long) it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "models/flux_original.h"
#include "server/api/comfy_graph.h"

static const model_info demo = {.name = "demo", .size_multiple = 16, .width = 128, .height = 128, .steps = 12, .guidance = 3.5};

static const model_info *find_model(void *context, const char *name) {
    (void)context;
    return strcmp(name, "demo.safetensors") == 0 ? &demo : NULL;
}

/* "200x104.png" is a picture of that size. */
static bool find_picture(void *context, const char *name, comfy_picture *out) {
    (void)context;
    *out = (comfy_picture){0};
    if (sscanf(name, "%dx%d", &out->width, &out->height) != 2) return false;
    memset(out->image, 'a', sizeof out->image - 1);
    memset(out->mask, 'b', sizeof out->mask - 1);
    return true;
}

static void list(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *to) {
    (void)context, (void)c;
    yyjson_mut_arr_add_str(doc, to, "demo.safetensors");
}

static const comfy_world world = {NULL, find_model, find_picture, list};

static comfy_plan plan;
static yyjson_doc *graph_doc;
static char *fault_text;

/* Reads with ' for ". */
static bool read_graph(const char *text) {
    yyjson_mut_doc *fault;
    char *copy = strdup(text);
    for (char *c = copy; *c != '\0'; c++)
        if (*c == '\'') *c = '"';
    yyjson_doc_free(graph_doc);
    free(fault_text);
    graph_doc = yyjson_read(copy, strlen(copy), 0);
    assert_non_null(graph_doc);
    free(copy);
    bool ok = comfy_graph_read(yyjson_doc_get_root(graph_doc), &world, &plan, &fault);
    fault_text = fault != NULL ? yyjson_mut_write(fault, 0, NULL) : NULL;
    assert_true(ok == (fault == NULL));
    yyjson_mut_doc_free(fault);
    return ok;
}

static int free_all(void **state) {
    (void)state;
    yyjson_doc_free(graph_doc);
    free(fault_text);
    graph_doc = NULL;
    fault_text = NULL;
    return 0;
}

static void is_refused_with(const char *text, const char *said) {
    assert_false(read_graph(text));
    if (strstr(fault_text, said) == NULL) fail_msg("'%s' is not in %s", said, fault_text);
}

#define LOADER "'4':{'class_type':'CheckpointLoaderSimple','inputs':{'ckpt_name':'demo.safetensors'}},"
#define TEXTS "'6':{'class_type':'CLIPTextEncode','inputs':{'text':'a fox','clip':['4',1]}},'7':{'class_type':'CLIPTextEncode','inputs':{'text':'bad','clip':['4',1]}},"
#define EMPTY "'5':{'class_type':'EmptyLatentImage','inputs':{'width':64,'height':48,'batch_size':3}},"
#define OUT "'8':{'class_type':'VAEDecode','inputs':{'samples':['3',0],'vae':['4',2]}},'9':{'class_type':'SaveImage','inputs':{'filename_prefix':'x','images':['8',0]}}"
#define SAMPLER(latent, denoise) SAMPLER_OF(latent, "20", denoise)
#define SAMPLER_OF(latent, steps, denoise) \
    "'3':{'class_type':'KSampler','inputs':{'model':['4',0],'seed':18446744073709551615,'steps':" steps ",'cfg':4.5,'sampler_name':'euler','scheduler':'simple'," \
    "'positive':['6',0],'negative':['7',0],'latent_image':" latent ",'denoise':" denoise "}},"
#define PICTURE "'10':{'class_type':'LoadImage','inputs':{'image':'200x104.png'}},'11':{'class_type':'VAEEncode','inputs':{'pixels':['10',0],'vae':['4',2]}},"

static void text_to_image(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS EMPTY SAMPLER("['5',0]", "1") OUT "}"));
    assert_ptr_equal(plan.model, &demo);
    assert_string_equal(plan.prompt, "a fox");
    assert_string_equal(plan.negative_prompt, "bad");
    assert_true(plan.true_cfg_scale == 4.5 && plan.guidance_scale < 0 && plan.strength == 1);
    assert_true(plan.seed == UINT64_MAX);
    assert_int_equal(plan.width * 1000 + plan.height, 64048);
    assert_int_equal(plan.count * 100 + plan.steps, 320);
    assert_int_equal(plan.node_count, 7);
    assert_string_equal(plan.nodes[plan.sampler].id, "3");
    assert_string_equal(plan.nodes[0].id, "4");
    assert_string_equal(plan.nodes[6].id, "9");
    assert_string_equal(plan.prefixes[6], "x");
}

/* An empty latent has nothing of which a denoise below 1 could keep something. */
static void denoise_means_nothing_without_a_picture(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS EMPTY SAMPLER("['5',0]", "0.5") OUT "}"));
    assert_int_equal(plan.steps, 20);
    assert_true(plan.strength == 1);
}

/* ComfyUI runs 20 steps of 40 for a denoise of 0.5; so does a strength of 0.5 of 40. */
static void image_to_image(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS PICTURE SAMPLER("['11',0]", "0.5") OUT "}"));
    assert_int_equal(plan.steps, 40);
    assert_int_equal(plan.shown_steps, 20);
    assert_true(plan.strength == 0.5);
    assert_int_equal(plan.picture.image[0], 'a');
    assert_int_equal(plan.width * 1000 + plan.height, 192096);
    assert_int_equal(plan.mask.image[0], 0);
    is_refused_with("{" LOADER TEXTS PICTURE SAMPLER("['11',0]", "0") OUT "}", "a denoise of 0 changes nothing");
    is_refused_with("{" LOADER TEXTS PICTURE SAMPLER("['11',0]", "0.01") OUT "}", "at most 1000");
}

static void pictures_are_scaled(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS "'10':{'class_type':'LoadImage','inputs':{'image':'200x100.png'}},"
                           "'12':{'class_type':'ImageScale','inputs':{'image':['10',0],'upscale_method':'area','width':400,'height':0,'crop':'disabled'}},"
                           "'13':{'class_type':'ImageScaleBy','inputs':{'image':['12',0],'upscale_method':'area','scale_by':2}},"
                           "'11':{'class_type':'VAEEncodeTiled','inputs':{'pixels':['13',0],'vae':['4',2],'tile_size':512}}," SAMPLER("['11',0]", "1") OUT "}"));
    assert_int_equal(plan.width * 1000 + plan.height, 800400);
    is_refused_with("{" LOADER TEXTS "'10':{'class_type':'LoadImage','inputs':{'image':'15x100.png'}},"
                    "'11':{'class_type':'VAEEncode','inputs':{'pixels':['10',0],'vae':['4',2]}}," SAMPLER("['11',0]", "1") OUT "}", "smaller than the smallest");
}

static void masks(void **state) {
    (void)state;
    static const char *const latents[] = {
        PICTURE "'12':{'class_type':'SetLatentNoiseMask','inputs':{'samples':['11',0],'mask':['10',1]}},",
        PICTURE "'12':{'class_type':'VAEEncodeForInpaint','inputs':{'pixels':['10',0],'vae':['4',2],'mask':['10',1],'grow_mask_by':6}},",
    };
    for (size_t i = 0; i < 2; i++) {
        char text[4096];
        snprintf(text, sizeof text, "{" LOADER TEXTS "%s" SAMPLER("['12',0]", "0.8") OUT "}", latents[i]);
        assert_true(read_graph(text));
        assert_int_equal(plan.mask.image[0], 'b');
        assert_true(plan.mask_is_alpha);
    }
    assert_true(read_graph("{" LOADER TEXTS PICTURE "'14':{'class_type':'LoadImageMask','inputs':{'image':'8x8.png','channel':'red'}},"
                           "'12':{'class_type':'InpaintModelConditioning','inputs':{'positive':['6',0],'negative':['7',0],'vae':['4',2],'pixels':['10',0],'mask':['14',0]}},"
                           "'3':{'class_type':'KSampler','inputs':{'model':['4',0],'seed':1,'steps':20,'cfg':1,'sampler_name':'euler','scheduler':'simple',"
                           "'positive':['12',0],'negative':['12',1],'latent_image':['12',2],'denoise':1}}," OUT "}"));
    assert_string_equal(plan.prompt, "a fox");
    assert_string_equal(plan.negative_prompt, "bad");
    assert_int_equal(plan.mask.image[0], 'a');
    assert_false(plan.mask_is_alpha);
    assert_true(plan.true_cfg_scale == 1);
}

#define ADVANCED(guider, noise, sigmas) \
    "'3':{'class_type':'SamplerCustomAdvanced','inputs':{'noise':['20',0],'guider':['21',0],'sampler':['22',0],'sigmas':['23',0],'latent_image':['5',0]}}," \
    "'20':" noise ",'21':" guider ",'22':{'class_type':'KSamplerSelect','inputs':{'sampler_name':'euler'}},'23':" sigmas ","
#define NOISE "{'class_type':'RandomNoise','inputs':{'noise_seed':5}}"
#define SIGMAS "{'class_type':'BasicScheduler','inputs':{'model':['4',0],'scheduler':'simple','steps':9,'denoise':1}}"
#define BASIC(conditioning) "{'class_type':'BasicGuider','inputs':{'model':['24',0],'conditioning':" conditioning "}}"
#define SHIFT "'24':{'class_type':'ModelSamplingFlux','inputs':{'model':['4',0],'max_shift':1.15,'base_shift':0.5,'width':64,'height':64}},"

/* Seeds have 64 bits: one more is refused, not cut, and one that is no whole number as JSON is taken for what it comes to. */
static void seeds_are_whole(void **state) {
    static const struct {
        const char *text;
        uint64_t seed;
    } cases[] = {{"0", 0}, {"18446744073709551615", UINT64_MAX}, {"'18446744073709551615'", UINT64_MAX}, {"1.83e19", 18300000000000000000u}, {"7.9", 7}, {"'12'", 12}};
    (void)state;
    char text[4096];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{" LOADER TEXTS EMPTY ADVANCED(BASIC("['6',0]"), "{'class_type':'RandomNoise','inputs':{'noise_seed':%s}}", SIGMAS) SHIFT OUT "}", cases[i].text);
        assert_true(read_graph(text));
        assert_true(plan.seed == cases[i].seed);
    }
    is_refused_with("{" LOADER TEXTS EMPTY ADVANCED(BASIC("['6',0]"), "{'class_type':'RandomNoise','inputs':{'noise_seed':18446744073709551616}}", SIGMAS) SHIFT OUT "}",
                    "value_bigger_than_max");
}

static void samplers_in_parts(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS EMPTY SHIFT "'25':{'class_type':'FluxGuidance','inputs':{'conditioning':['6',0],'guidance':2}}," ADVANCED(BASIC("['25',0]"), NOISE, SIGMAS) OUT "}"));
    assert_true(plan.guidance_scale == 2 && plan.negative_prompt == NULL && plan.seed == 5 && plan.steps == 9);
    assert_true(read_graph("{" LOADER TEXTS EMPTY
                           ADVANCED("{'class_type':'CFGGuider','inputs':{'model':['4',0],'positive':['6',0],'negative':['7',0],'cfg':3}}", NOISE, SIGMAS) OUT "}"));
    assert_true(plan.true_cfg_scale == 3 && strcmp(plan.negative_prompt, "bad") == 0);
    is_refused_with("{" LOADER TEXTS EMPTY SHIFT ADVANCED(BASIC("['6',0]"), "{'class_type':'DisableNoise','inputs':{}}", SIGMAS) OUT "}", "RandomNoise");
    assert_true(read_graph("{" LOADER TEXTS EMPTY
                           "'3':{'class_type':'SamplerCustom','inputs':{'model':['4',0],'add_noise':true,'noise_seed':6,'cfg':1,'positive':['6',0],'negative':['7',0],"
                           "'sampler':['22',0],'sigmas':['23',0],'latent_image':['5',0]}},'22':{'class_type':'KSamplerSelect','inputs':{'sampler_name':'euler'}},'23':" SIGMAS "," OUT "}"));
    assert_true(plan.seed == 6);
}

#define KSAMPLER_ADVANCED(latent, steps, from, to, noise, leftover) \
    "'3':{'class_type':'KSamplerAdvanced','inputs':{'model':['4',0],'add_noise':" noise ",'noise_seed':1,'steps':" steps ",'cfg':1,'sampler_name':'euler','scheduler':'simple'," \
    "'positive':['6',0],'negative':['7',0],'latent_image':" latent ",'start_at_step':" from ",'end_at_step':" to ",'return_with_leftover_noise':" leftover "}},"

static void advanced_ksampler(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS PICTURE KSAMPLER_ADVANCED("['11',0]", "20", "15", "10000", "'enable'", "'disable'") OUT "}"));
    assert_int_equal(plan.steps, 20);
    assert_int_equal(plan.shown_steps, 5);
    assert_true(plan.strength == 0.25);
    is_refused_with("{" LOADER TEXTS EMPTY KSAMPLER_ADVANCED("['5',0]", "20", "0", "10", "'enable'", "'disable'") OUT "}", "to the last step");
    is_refused_with("{" LOADER TEXTS EMPTY KSAMPLER_ADVANCED("['5',0]", "20", "0", "20", "'enable'", "'enable'") OUT "}", "leave no noise");
    is_refused_with("{" LOADER TEXTS EMPTY KSAMPLER_ADVANCED("['5',0]", "20", "0", "20", "'disable'", "'disable'") OUT "}", "add_noise");
    is_refused_with("{" LOADER TEXTS EMPTY KSAMPLER_ADVANCED("['5',0]", "20", "20", "20", "'enable'", "'disable'") OUT "}", "leaves no step");
}

/* Of a schedule's steps as many run as ComfyUI runs: also where a share of them, a number with a fraction, comes out a hair above a whole one. */
static void no_step_too_many(void **state) {
    (void)state;
    char text[4096];
    for (int steps = 1; steps <= 60; steps++) {
        for (int hundredths = 10; hundredths < 100; hundredths++) {
            snprintf(text, sizeof text, "{" LOADER TEXTS PICTURE SAMPLER_OF("['11',0]", "%d", "0.%02d") OUT "}", steps, hundredths);
            assert_true(read_graph(text));
            assert_int_equal(plan.steps, (int)(steps / (hundredths / 100.0)));
            assert_int_equal(plan.steps - flux_original_first_step(plan.steps, plan.strength), steps);
            assert_true(fabs(plan.strength - hundredths / 100.0) < 1.0 / plan.steps);
        }
        for (int from = 0; from < steps; from++) {
            snprintf(text, sizeof text, "{" LOADER TEXTS PICTURE KSAMPLER_ADVANCED("['11',0]", "%d", "%d", "10000", "'enable'", "'disable'") OUT "}", steps, from);
            assert_true(read_graph(text));
            assert_int_equal(plan.steps, steps);
            assert_int_equal(flux_original_first_step(plan.steps, plan.strength), from);
        }
    }
}

static void conditionings(void **state) {
    (void)state;
    static const struct {
        const char *node, *text;
        double guidance;
    } cases[] = {
        {"{'class_type':'CLIPTextEncodeFlux','inputs':{'clip':['4',1],'clip_l':'short','t5xxl':'long','guidance':4}}", "long", 4},
        {"{'class_type':'CLIPTextEncodeFlux','inputs':{'clip':['4',1],'clip_l':'short','t5xxl':'','guidance':4}}", "short", 4},
        {"{'class_type':'CLIPTextEncodeSDXL','inputs':{'clip':['26',0],'width':64,'height':64,'crop_w':0,'crop_h':0,'target_width':64,'target_height':64,'text_g':'big','text_l':'l'}}", "big", -1},
        {"{'class_type':'ConditioningZeroOut','inputs':{'conditioning':['6',0]}}", "", -1},
        {"{'class_type':'CLIPTextEncode','inputs':{'clip':['4',1],'text':['27',0]}}", "said elsewhere", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        snprintf(text, sizeof text,
                 "{" LOADER TEXTS EMPTY SHIFT "'26':{'class_type':'CLIPSetLastLayer','inputs':{'clip':['4',1],'stop_at_clip_layer':-2}},"
                 "'27':{'class_type':'PrimitiveStringMultiline','inputs':{'value':'said elsewhere'}},'25':%s," ADVANCED(BASIC("['25',0]"), NOISE, SIGMAS) OUT "}",
                 cases[i].node);
        assert_true(read_graph(text));
        assert_string_equal(plan.prompt, cases[i].text);
        assert_true(plan.guidance_scale == cases[i].guidance);
    }
}

static void batches(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS EMPTY "'12':{'class_type':'LatentFromBatch','inputs':{'samples':['5',0],'batch_index':1,'length':5}}," SAMPLER("['12',0]", "1") OUT "}"));
    assert_int_equal(plan.count, 2);
    assert_true(plan.seed == 0); /* the second picture's: 2^64 − 1 + 1 */
    assert_true(read_graph("{" LOADER TEXTS EMPTY "'12':{'class_type':'RepeatLatentBatch','inputs':{'samples':['5',0],'amount':5}}," SAMPLER("['12',0]", "1") OUT "}"));
    assert_int_equal(plan.count, 15);
    is_refused_with("{" LOADER TEXTS EMPTY "'12':{'class_type':'RepeatLatentBatch','inputs':{'samples':['5',0],'amount':6}}," SAMPLER("['12',0]", "1") OUT "}", "at most 16");
}

static void values_come_from_primitives_and_through_reroutes(void **state) {
    (void)state;
    assert_true(read_graph("{" LOADER TEXTS "'30':{'class_type':'PrimitiveInt','inputs':{'value':80}},'31':{'class_type':'Reroute','inputs':{'':['30',0]}},"
                           "'5':{'class_type':'EmptyLatentImage','inputs':{'width':['31',0],'height':'96','batch_size':1.0}},"
                           "'32':{'class_type':'Reroute','inputs':{'any':['5',0]}},'33':{'class_type':'Note','inputs':{}}," SAMPLER("['32',0]", "1") OUT "}"));
    assert_int_equal(plan.width * 1000 + plan.height, 80096);
    is_refused_with("{" LOADER TEXTS "'30':{'class_type':'PrimitiveInt','inputs':{'value':8}},"
                    "'5':{'class_type':'EmptyLatentImage','inputs':{'width':['30',0],'height':96,'batch_size':1}}," SAMPLER("['5',0]", "1") OUT "}", "value_smaller_than_min");
    is_refused_with("{" LOADER TEXTS "'30':{'class_type':'PrimitiveString','inputs':{'value':'8'}},"
                    "'5':{'class_type':'EmptyLatentImage','inputs':{'width':['30',0],'height':96,'batch_size':1}}," SAMPLER("['5',0]", "1") OUT "}", "return_type_mismatch");
}

/* What makes the same of the same has the same signature, however the node is called. */
static void signatures(void **state) {
    (void)state;
    char before[8][SHA256_TEXT_BYTES];
    assert_true(read_graph("{" LOADER TEXTS EMPTY SAMPLER("['5',0]", "1") OUT "}"));
    for (int i = 0; i < plan.node_count; i++) memcpy(before[i], plan.nodes[i].signature, SHA256_TEXT_BYTES);
    assert_true(read_graph("{" LOADER TEXTS EMPTY SAMPLER("['5',0]", "0.9") OUT "}"));
    for (int i = 0; i < plan.node_count; i++) {
        bool later = plan.nodes[i].class->stage >= STAGE_SAMPLE;
        assert_true((strcmp(before[i], plan.nodes[i].signature) != 0) == later);
    }
}

/* Each of a row of nodes needs the one before twice: a walk that forgets what it saw would take 2^200 steps. */
static void a_walk_sees_each_node_once(void **state) {
    (void)state;
    for (int right = 0; right < 2; right++) {
        buffer text = {0};
        buffer_printf(&text, "{" LOADER TEXTS EMPTY);
        for (int i = 100; i < 300; i++)
            buffer_printf(&text, "'%d':{'class_type':'InpaintModelConditioning','inputs':{'positive':['%d',0],'negative':['%d',1],'vae':['4',2],'pixels':['10',0],'mask':['10',1]}},", i,
                          i > 100 ? i - 1 : 6, i > 100 ? i - 1 : 6);
        buffer_printf(&text, "'10':{'class_type':'LoadImage','inputs':{'image':'%s'}},", right ? "64x64" : "none");
        buffer_printf(&text, "'3':{'class_type':'KSampler','inputs':{'model':['4',0],'seed':1,'steps':20,'cfg':1,'sampler_name':'euler','scheduler':'simple',"
                             "'positive':['299',0],'negative':['299',0],'latent_image':['5',0],'denoise':1}}," OUT "}");
        assert_true(buffer_ok(&text));
        if (!right) is_refused_with(buffer_text(&text), "Invalid image file");
        else is_refused_with(buffer_text(&text), "bad_linked_input"); /* the first one's negative: a text has one output */
        buffer_free(&text);
    }
}

static void caps(void **state) {
    (void)state;
    buffer text = {0};
    buffer_printf(&text, "{");
    for (int i = 0; i < COMFY_GRAPH_NODES + 1; i++) buffer_printf(&text, "'%d':{'class_type':'Note','inputs':{}},", 1000 + i);
    buffer_printf(&text, OUT "}");
    is_refused_with(buffer_text(&text), "At most 256 nodes");
    buffer_free(&text);
    is_refused_with("{'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa':{'class_type':'Note'}}", "ids of at most 63 bytes");
    is_refused_with("{'1':{'class_type':'Note'},'1':{'class_type':'Note'}}", "same id");
    is_refused_with("{'1':{}}", "missing_node_type");
    is_refused_with("{'1':7}", "missing_node_type");
    is_refused_with("{'1':{'class_type':'SaveImage','inputs':7}}", "required_input_missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(text_to_image, free_all),
        cmocka_unit_test_teardown(denoise_means_nothing_without_a_picture, free_all),
        cmocka_unit_test_teardown(image_to_image, free_all),
        cmocka_unit_test_teardown(pictures_are_scaled, free_all),
        cmocka_unit_test_teardown(masks, free_all),
        cmocka_unit_test_teardown(samplers_in_parts, free_all),
        cmocka_unit_test_teardown(advanced_ksampler, free_all),
        cmocka_unit_test_teardown(no_step_too_many, free_all),
        cmocka_unit_test_teardown(seeds_are_whole, free_all),
        cmocka_unit_test_teardown(conditionings, free_all),
        cmocka_unit_test_teardown(batches, free_all),
        cmocka_unit_test_teardown(values_come_from_primitives_and_through_reroutes, free_all),
        cmocka_unit_test_teardown(signatures, free_all),
        cmocka_unit_test_teardown(a_walk_sees_each_node_once, free_all),
        cmocka_unit_test_teardown(caps, free_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
