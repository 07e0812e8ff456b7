/* POST /prompt: from a graph to a task, or to one that is there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"
#include "server/access/owner.h"
#include "server/api/comfy.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/request_fields.h"
#include "server/requests/services.h"

/* One POST. Everything is borrowed from its body or lies here. */
typedef struct submission {
    services *services;
    http_exchange *exchange;
    yyjson_val *graph, *extra;
    char id[COMFY_ID_BYTES], client[COMFY_ID_BYTES];
    double number;
    bool front;
    comfy_plan plan;
    comfy_output outputs[COMFY_OUTPUTS_MAX];
    int output_count;
    char signature[SHA256_TEXT_BYTES];
} submission;

/* --- what the graph's names stand for --- */

static const model_info *find_model(void *context, const char *file_name) {
    return comfy_model(((submission *)context)->services, file_name);
}

static bool find_picture(void *context, const char *name, comfy_picture *out) {
    submission *m = context;
    return comfy_inputs_picture(m->services->comfy->inputs, comfy_owner(m->exchange), name, out);
}

static void list_choices(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *list) {
    submission *m = context;
    comfy_list_choices(&(comfy_view){m->services, comfy_owner(m->exchange)}, c, doc, list);
}

/* --- the body's other members --- */

static void make_id(char out[COMFY_ID_BYTES]) {
    unsigned char b[16] = {0};
    if (getrandom(b, sizeof b, 0) != sizeof b) b[0] = (unsigned char)clock_unix_ms();
    b[6] = (b[6] & 0x0F) | 0x40; /* RFC 9562, version 4 */
    b[8] = (b[8] & 0x3F) | 0x80;
    snprintf(out, COMFY_ID_BYTES, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
             b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static bool is_id(const char *text) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:";
    return text[0] != '\0' && strlen(text) < COMFY_ID_BYTES && strspn(text, allowed) == strlen(text);
}

static yyjson_mut_doc *read_members(submission *m, yyjson_val *root) {
    comfy *c = m->services->comfy;
    yyjson_val *id = yyjson_obj_get(root, "prompt_id"), *client = yyjson_obj_get(root, "client_id"),
               *number = yyjson_obj_get(root, "number");
    m->graph = yyjson_obj_get(root, "prompt");
    m->extra = yyjson_obj_get(root, "extra_data");
    m->front = yyjson_get_bool(yyjson_obj_get(root, "front"));
    if (m->graph == NULL || yyjson_is_null(m->graph)) return comfy_fault("no_prompt", "No prompt provided", "No prompt provided");
    if (m->extra != NULL && !yyjson_is_null(m->extra) && !yyjson_is_obj(m->extra))
        return comfy_fault("invalid_prompt", "extra_data must be an object", "");
    if (client == NULL) client = yyjson_obj_get(m->extra, "client_id");
    if (yyjson_is_str(client) && yyjson_get_len(client) < sizeof m->client)
        snprintf(m->client, sizeof m->client, "%s", yyjson_get_str(client));
    make_id(m->id);
    if (yyjson_is_str(id)) {
        if (!is_id(yyjson_get_str(id)) || comfy_prompts_find(c->prompts, yyjson_get_str(id)) != NULL)
            return comfy_fault("invalid_prompt_id", "The prompt_id is taken, or no id",
                               "At most 79 letters, digits and -_.: that no other prompt has");
        snprintf(m->id, sizeof m->id, "%s", yyjson_get_str(id));
    }
    m->number = yyjson_is_num(number) && isfinite(yyjson_get_num(number)) ? yyjson_get_num(number) : comfy_prompts_next_number(c->prompts);
    if (m->front && !yyjson_is_num(number)) m->number = -m->number;
    return NULL;
}

/* --- names of files --- */

/* "%year%", "%width%", … in a filename_prefix. */
static void expand_prefix(const submission *m, const char *from, buffer *out) {
    const time_t now = time(NULL);
    struct tm t;
    localtime_r(&now, &t);
    const struct {
        const char *name;
        int value, digits;
    } words[] = {{"%width%", m->plan.width, 1}, {"%height%", m->plan.height, 1}, {"%year%", t.tm_year + 1900, 4},
                 {"%month%", t.tm_mon + 1, 2},  {"%day%", t.tm_mday, 2},         {"%hour%", t.tm_hour, 2},
                 {"%minute%", t.tm_min, 2},     {"%second%", t.tm_sec, 2}};
    while (*from != '\0') {
        size_t i = 0;
        while (i < sizeof words / sizeof *words && strncmp(from, words[i].name, strlen(words[i].name)) != 0) i++;
        if (i < sizeof words / sizeof *words) {
            buffer_printf(out, "%0*d", words[i].digits, words[i].value);
            from += strlen(words[i].name);
        } else {
            buffer_append_byte(out, *from++);
        }
    }
}

/* "cats/fox" → "cats", "fox". */
static bool name_output(const submission *m, const char *prefix, comfy_output *out) {
    buffer text = {0};
    char whole[2 * COMFY_NAME_BYTES];
    expand_prefix(m, prefix, &text);
    const char *all = buffer_text(&text), *slash = strrchr(all, '/');
    size_t folder = slash != NULL ? (size_t)(slash - all) : 0;
    bool ok = buffer_ok(&text) && folder < sizeof out->subfolder && strlen(slash != NULL ? slash + 1 : all) < COMFY_NAME_BYTES - 32;
    if (ok) {
        snprintf(out->subfolder, sizeof out->subfolder, "%.*s", (int)folder, all);
        snprintf(out->prefix, sizeof out->prefix, "%s", slash != NULL ? slash + 1 : all);
        ok = comfy_input_join(out->subfolder, out->prefix, whole, NULL) && (slash == NULL || folder > 0);
    }
    buffer_free(&text);
    return ok;
}

static void name_preview(comfy_output *out) {
    unsigned char random[5] = {0};
    if (getrandom(random, sizeof random, 0) != sizeof random) memset(random, 0, sizeof random);
    out->temporary = true;
    snprintf(out->prefix, sizeof out->prefix, "ComfyUI_temp_%c%c%c%c%c", 'a' + random[0] % 26, 'a' + random[1] % 26, 'a' + random[2] % 26,
             'a' + random[3] % 26, 'a' + random[4] % 26);
}

static yyjson_mut_doc *name_outputs(submission *m) {
    for (int i = 0; i < m->plan.node_count; i++) {
        const comfy_step *n = &m->plan.nodes[i];
        if (!n->class->is_output) continue;
        if (m->output_count == COMFY_OUTPUTS_MAX)
            return comfy_node_fault(n, "unsupported_graph", "This server cannot run this", "too many nodes show pictures");
        comfy_output *out = &m->outputs[m->output_count++];
        snprintf(out->node, sizeof out->node, "%s", n->id);
        if (n->class->kind == KIND_PREVIEW) name_preview(out);
        else if (!name_output(m, m->plan.prefixes[i], out))
            return comfy_node_fault(n, "custom_validation_failed", "Custom validation failed for node",
                                    "filename_prefix - it must name a file inside the output folder");
    }
    return NULL;
}

/* --- the task --- */

static bool plan_failed(const comfy_plan *plan, const error *why, yyjson_mut_doc **fault) {
    char text[ERROR_TEXT_BYTES];
    *fault = comfy_node_fault(&plan->nodes[plan->sampler], "custom_validation_failed", "Custom validation failed for node",
                              problem_text(why->text, text, sizeof text));
    return false;
}

/* The plan's values go the way of every API's. `doc` holds the request's texts. */
static bool make_request(const comfy_plan *plan, json_document *doc, task_request *out, yyjson_mut_doc **fault) {
    yyjson_mut_doc *fields = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(fields);
    error why = {0};
    yyjson_mut_doc_set_root(fields, o);
    yyjson_mut_obj_add_str(fields, o, "prompt", plan->prompt);
    if (plan->negative_prompt != NULL) yyjson_mut_obj_add_str(fields, o, "negative_prompt", plan->negative_prompt);
    yyjson_mut_obj_add_int(fields, o, "width", plan->width);
    yyjson_mut_obj_add_int(fields, o, "height", plan->height);
    yyjson_mut_obj_add_int(fields, o, "num_inference_steps", plan->steps);
    yyjson_mut_obj_add_int(fields, o, "n", plan->count);
    yyjson_mut_obj_add_real(fields, o, "true_cfg_scale", plan->true_cfg_scale);
    if (plan->guidance_scale >= 0) yyjson_mut_obj_add_real(fields, o, "guidance_scale", plan->guidance_scale);
    yyjson_mut_obj_add_uint(fields, o, "seed", plan->seed);
    *doc = (json_document){.doc = yyjson_mut_doc_imut_copy(fields, NULL), .source = "the prompt"};
    yyjson_mut_doc_free(fields);
    if (doc->doc == NULL) {
        error_no_memory(&why, "a prompt", sizeof *doc);
        return plan_failed(plan, &why, fault);
    }
    if (!request_fields_defaults(plan->model, out, &why) || !request_fields_read(json_root(doc), plan->model, TASK_MAX_IMAGES, out, &why))
        return plan_failed(plan, &why, fault);
    if (plan->picture.image[0] != '\0') out->image = plan->picture.image;
    if (plan->picture.image[0] != '\0' && plan->mask.image[0] != '\0') out->mask = plan->mask.image;
    out->mask_is_alpha = plan->mask_is_alpha;
    out->strength = plan->strength;
    return true;
}

/* Whether the client asked to see the pictures as they come; ComfyUI's own choice, none, otherwise. */
static bool wants_previews(yyjson_val *extra) {
    const char *method = yyjson_get_str(yyjson_obj_get(extra, "preview_method"));
    return method != NULL && (strcmp(method, "auto") == 0 || strcmp(method, "latent2rgb") == 0 || strcmp(method, "taesd") == 0);
}

/* What the client sent besides the graph, but for keys of Comfy's own services, which are nobody's business here. */
static yyjson_mut_val *copy_extra(yyjson_mut_doc *doc, const submission *m) {
    yyjson_mut_val *o = m->extra != NULL && yyjson_is_obj(m->extra) ? yyjson_val_mut_copy(doc, m->extra) : yyjson_mut_obj(doc);
    yyjson_mut_obj_remove_key(o, "auth_token_comfy_org");
    yyjson_mut_obj_remove_key(o, "api_key_comfy_org");
    yyjson_mut_obj_remove_key(o, "client_id");
    if (m->client[0] != '\0') yyjson_mut_obj_add_str(doc, o, "client_id", m->client);
    return o;
}

static void add_nodes(yyjson_mut_doc *doc, yyjson_mut_val *root, const submission *m) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "nodes");
    for (int i = 0; i < m->plan.node_count; i++) {
        const comfy_step *n = &m->plan.nodes[i];
        yyjson_mut_val *one = yyjson_mut_arr_add_arr(doc, list);
        yyjson_mut_arr_add_str(doc, one, n->id);
        yyjson_mut_arr_add_str(doc, one, n->class->name);
        yyjson_mut_arr_add_str(doc, one, n->signature);
        yyjson_mut_arr_add_bool(doc, one, comfy_prompts_is_fresh(m->services->comfy->prompts, n));
    }
}

static void add_outputs(yyjson_mut_doc *doc, yyjson_mut_val *root, const submission *m) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "outputs");
    for (int i = 0; i < m->output_count; i++) {
        const comfy_output *out = &m->outputs[i];
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_str(doc, o, "node", out->node);
        yyjson_mut_obj_add_str(doc, o, "subfolder", out->subfolder);
        yyjson_mut_obj_add_str(doc, o, "prefix", out->prefix);
        yyjson_mut_obj_add_bool(doc, o, "temp", out->temporary);
        yyjson_mut_obj_add_int(doc, o, "first", out->first);
    }
}

/* comfy_hidden_mark begins it. NULL: no memory. */
static char *adapter_data(const submission *m) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_bool(doc, root, "hidden", false);
    yyjson_mut_obj_add_str(doc, root, "id", m->id);
    yyjson_mut_obj_add_str(doc, root, "client", m->client);
    yyjson_mut_obj_add_real(doc, root, "number", m->number);
    yyjson_mut_obj_add_bool(doc, root, "previews", wants_previews(m->extra));
    yyjson_mut_obj_add_int(doc, root, "shown_steps", m->plan.shown_steps);
    yyjson_mut_obj_add_str(doc, root, "sampler", m->plan.nodes[m->plan.sampler].id);
    yyjson_mut_obj_add_str(doc, root, "signature", m->signature);
    add_nodes(doc, root, m);
    add_outputs(doc, root, m);
    yyjson_mut_obj_add_val(doc, root, "graph", yyjson_val_mut_copy(doc, m->graph));
    yyjson_mut_obj_add_val(doc, root, "extra", copy_extra(doc, m));
    char *text = doc != NULL ? yyjson_mut_write(doc, 0, NULL) : NULL;
    yyjson_mut_doc_free(doc);
    return text;
}

/* --- answers --- */

static void answer_fault(http_exchange *x, yyjson_mut_doc *fault) { answer_json(x, fault != NULL ? 400 : 503, NULL, fault); }

static void answer_accepted(http_exchange *x, const comfy_prompt *one) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "prompt_id", one->id);
    yyjson_mut_obj_add_val(doc, root, "number", comfy_number_document(doc, one->number));
    yyjson_mut_obj_add_obj(doc, root, "node_errors");
    answer_json(x, 200, NULL, doc);
}

static void answer_submitted(services *s, http_exchange *x, task *t, const error *why) {
    error lost;
    comfy_prompt *one = t != NULL ? comfy_prompts_of(s->comfy->prompts, t) : NULL;
    if (one != NULL) {
        answer_accepted(x, one);
    } else if (t != NULL) {
        error_no_memory(&lost, "a prompt", sizeof *one);
        comfy_answer_error(x, 503, &lost);
    } else {
        int seconds, status = submission_refusal(s, why, &seconds);
        if (status == 429) problem_retry_after(x, seconds);
        comfy_answer_error(x, status, why);
    }
}

static void run(submission *m, const task_request *from) {
    task_request request = *from;
    error why;
    for (int i = 0; i < m->output_count; i++)
        m->outputs[i].first = comfy_prompts_next_file(m->services->comfy->prompts, &m->outputs[i], m->plan.count);
    char *data = adapter_data(m);
    if (data == NULL) {
        error_no_memory(&why, "a prompt", COMFY_DATA_BYTES);
        comfy_answer_error(m->exchange, 503, &why);
        return;
    }
    if (!comfy_prompts_have_room(m->services->comfy->prompts, strlen(data))) {
        error_set(&why, ERROR_BUSY, "the prompts that wait take all the memory there is for them: come again when some are over");
        answer_submitted(m->services, m->exchange, NULL, &why);
    } else if (strlen(data) < COMFY_DATA_BYTES) {
        request.adapter = COMFY_ADAPTER;
        request.adapter_data = data;
        submissions_add(m->services->submissions, m->exchange, &request, m->front ? PRIORITY_HIGH : PRIORITY_NORMAL, false,
                        answer_submitted);
    } else {
        answer_fault(m->exchange,
                     comfy_fault("invalid_prompt", "The prompt is too large", "at most 512 KiB of graph and extra_data are taken"));
    }
    free(data);
}

static void repeat(submission *m, const comfy_prompt *other) {
    error why;
    comfy *c = m->services->comfy;
    comfy_prompt *one = comfy_prompts_repeat(c->prompts, other, &m->plan, m->id, m->client, m->number);
    if (one == NULL) {
        error_no_memory(&why, "a prompt", sizeof *one);
        comfy_answer_error(m->exchange, 503, &why);
        return;
    }
    comfy_events_repeat(c->events, one);
    answer_accepted(m->exchange, one);
}

static bool graph_fits(yyjson_val *graph, yyjson_mut_doc **fault) {
    size_t size = 0;
    char *text = yyjson_val_write(graph, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &size);
    free(text);
    if (text != NULL && size <= COMFY_GRAPH_BYTES) return true;
    *fault = comfy_fault("invalid_prompt", "The prompt is too large", "at most 256 KiB of graph are taken");
    return false;
}

static void submit(submission *m, yyjson_val *root) {
    const comfy_world world = {m, find_model, find_picture, list_choices};
    char owner[OWNER_BYTES];
    json_document texts = {0};
    task_request request;
    yyjson_mut_doc *fault = read_members(m, root);
    bool ok = fault == NULL && graph_fits(m->graph, &fault) && comfy_graph_read(m->graph, &world, &m->plan, &fault) &&
              (fault = name_outputs(m)) == NULL && make_request(&m->plan, &texts, &request, &fault);
    if (ok) {
        request.owner = owner_of(m->exchange, owner);
        comfy_prompts_sign(&m->plan, m->signature);
        const comfy_prompt *same = comfy_prompts_same(m->services->comfy->prompts, m->signature, request.owner);
        if (same != NULL) repeat(m, same);
        else run(m, &request);
    } else {
        answer_fault(m->exchange, fault);
    }
    json_document_free(&texts);
}

void comfy_post_prompt(services *s, http_exchange *x, const char *id) {
    (void)id;
    yyjson_doc *doc;
    error why;
    if (!comfy_read_body(x, false, &doc)) return;
    submission *m = calloc(1, sizeof *m);
    if (m != NULL) {
        *m = (submission){.services = s, .exchange = x};
        submit(m, yyjson_doc_get_root(doc));
    } else {
        error_no_memory(&why, "a prompt", sizeof *m);
        comfy_answer_error(x, 503, &why);
    }
    free(m);
    yyjson_doc_free(doc);
}
