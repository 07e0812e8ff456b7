/* ComfyUI's graphs and prompts when memory runs out: each allocation fails in turn, and nothing is left behind or half done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fault.h"
#include "server/api/comfy_prompts.h"

static const char text[] =
    "{\"3\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":7,\"steps\":4,\"cfg\":1.0,\"sampler_name\":\"euler\",\"scheduler\":\"normal\",\"denoise\":1.0,\"model\":[\"4\",0],"
    "\"positive\":[\"6\",0],\"negative\":[\"6\",0],\"latent_image\":[\"5\",0]}},\"4\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"%s\"}},"
    "\"5\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":64,\"height\":64,\"batch_size\":1}},\"6\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"text\":\"a\",\"clip\":"
    "[\"4\",1]}},\"8\":{\"class_type\":\"VAEDecode\",\"inputs\":{\"samples\":[\"3\",0],\"vae\":[\"4\",2]}},"
    "\"9\":{\"class_type\":\"SaveImage\",\"inputs\":{\"filename_prefix\":\"x\",\"images\":[\"8\",0]}}}";

static const char data[] = "{\"hidden\":false,\"id\":\"one\",\"client\":\"c\",\"number\":1,\"shown_steps\":4,\"sampler\":\"3\",\"signature\":\"s\",\"nodes\":[[\"3\",\"KSampler\",\"a\",false],"
                           "[\"9\",\"SaveImage\",\"b\",false]],\"outputs\":[{\"node\":\"9\",\"subfolder\":\"\",\"prefix\":\"x\",\"temp\":false,\"first\":1}],\"graph\":{},\"extra\":{}}";

static const model_info demo = {.name = "demo", .size_multiple = 16};

static const model_info *find_model(void *context, const char *name) {
    (void)context;
    return strcmp(name, "demo") == 0 ? &demo : NULL;
}

static bool find_picture(void *context, const char *name, comfy_picture *out) {
    (void)context, (void)name, (void)out;
    return false;
}

static void list(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *to) {
    (void)context, (void)c;
    yyjson_mut_arr_add_str(doc, to, "demo");
}

/* context: the model that the graph names. */
static bool read_graph(void *context, error *e) {
    static comfy_plan plan;
    const comfy_world world = {NULL, find_model, find_picture, list};
    char graph[2048], signature[SHA256_TEXT_BYTES];
    yyjson_mut_doc *fault;
    (void)e;
    snprintf(graph, sizeof graph, text, (const char *)context);
    yyjson_doc *doc = yyjson_read(graph, strlen(graph), 0);
    bool ok = comfy_graph_read(yyjson_doc_get_root(doc), &world, &plan, &fault);
    assert_true(!ok || fault == NULL);
    if (ok) comfy_prompts_sign(&plan, signature);
    yyjson_mut_doc_free(fault);
    yyjson_doc_free(doc);
    return ok;
}

static void a_graph(void **state) {
    (void)state;
    char right[] = "demo", wrong[] = "none";
    assert_true(fault_survive_each(read_graph, right) >= 8);
    assert_true(fault_survive_each(read_graph, wrong) >= 4);
}

static bool keep_prompts(void *context, error *e) {
    const queue_limits limits = {.max_queued = 10, .max_active = 2, .keep_finished = 2};
    const task_request r = {.model = "demo", .prompt = "a", .precision = "auto", .width = 64, .height = 64, .steps = 4, .count = 1, .adapter = COMFY_ADAPTER, .adapter_data = data};
    queue_manager *q = NULL;
    comfy_prompts *p = NULL;
    task *t;
    (void)context;
    bool ok = queue_manager_new(&limits, &q, e) && queue_manager_submit_task(q, &r, PRIORITY_NORMAL, 1, &t, e) &&
              comfy_prompts_new(q, 1 << 20, &p, e);
    if (ok) {
        comfy_plan plan = {.node_count = 1, .nodes = {{.id = "9", .class = comfy_class_find("SaveImage")}}};
        comfy_prompt *one = comfy_prompts_of(p, t); /* not kept before, for want of memory: it is tried again */
        if (one != NULL) comfy_prompts_repeat(p, one, &plan, "two", "c", 2);
        if (one != NULL) comfy_prompts_ended(p, one, true);
        ok = one != NULL && comfy_prompts_find(p, "two") != NULL;
    }
    comfy_prompts_free(p);
    queue_manager_free(q);
    return ok;
}

static void the_prompts(void **state) {
    (void)state;
    assert_true(fault_survive_each(keep_prompts, NULL) >= 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_graph), cmocka_unit_test(the_prompts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
