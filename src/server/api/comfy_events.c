#include "server/api/comfy_events.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/http/random_id.h"
#include "server/requests/services.h"

enum {
    PREVIEW_SIDE = 256, /* a millisecond of the loop; previews come ten times a second at most */
    PREVIEW_QUALITY = 80,
    PREVIEW_IMAGE = 1, /* kinds of binary messages, and of pictures in them, as ComfyUI numbers them */
    PREVIEW_IMAGE_WITH_METADATA = 4,
    PREVIEW_JPEG = 1,
    HELD_MS = 100, /* a client on a busy machine may have read no answer yet after 20 */
    HELD_MOST_MS = 500, /* however many prompts follow each other */
    HELD_BYTES = 256 << 10,
};

typedef struct client {
    comfy_events *owner;
    http_socket *socket;
    char id[COMFY_ID_BYTES];
    bool takes_metadata; /* about previews */
    bool held; /* it has just sent a prompt, and hears of it a moment later: many clients listen for what they have the answer of only */
    buffer waiting;      /* texts for then, each with its NUL */
    struct client *next, **link;
} client;

struct comfy_events {
    services *services;
    comfy_prompts *prompts;
    client *clients;
    loop_timer *timer;
    double held_since; /* clock_seconds when the first was held of those who are; 0: nobody is */
};

/* --- messages --- */

static void let_go(client *c) {
    const char *end = c->waiting.data + c->waiting.size;
    c->held = false;
    for (const char *text = c->waiting.data; buffer_ok(&c->waiting) && text != NULL && text < end; text += strlen(text) + 1)
        http_socket_send(c->socket, text, strlen(text));
    buffer_free(&c->waiting);
}

static void send_text(client *c, const char *text, size_t size) {
    if (c->held && c->waiting.size + size < HELD_BYTES) {
        buffer_append(&c->waiting, text, size + 1);
        return;
    }
    if (c->held) let_go(c);
    http_socket_send(c->socket, text, size);
}

/* {"type": …, "data": …}; takes the document. */
static char *message_text(yyjson_mut_doc *doc, const char *type, yyjson_mut_val *data, size_t *size) {
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, root, "type", type);
    yyjson_mut_obj_add_val(doc, root, "data", data);
    yyjson_mut_doc_set_root(doc, root);
    char *text = doc != NULL ? yyjson_mut_write(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, size) : NULL;
    yyjson_mut_doc_free(doc);
    return text;
}

static bool may_see(const client *c, const task *t) {
    const char *caller = http_socket_caller(c->socket);
    return caller == NULL || (t != NULL && t->request.owner != NULL && strcmp(t->request.owner, caller) == 0);
}

static bool is_for(const client *c, const comfy_prompt *one, const task *t) {
    return one->client[0] != '\0' && strcmp(c->id, one->client) == 0 && may_see(c, t);
}

/* To the prompt's client; takes the document. */
static void tell(comfy_events *v, const comfy_prompt *one, const task *t, const char *type, yyjson_mut_doc *doc, yyjson_mut_val *data) {
    size_t size = 0;
    char *text = message_text(doc, type, data, &size);
    for (client *c = v->clients; text != NULL && c != NULL; c = c->next)
        if (is_for(c, one, t)) send_text(c, text, size);
    free(text);
}

static bool has_listener(const comfy_events *v, const comfy_prompt *one, const task *t) {
    for (const client *c = v->clients; c != NULL; c = c->next)
        if (is_for(c, one, t)) return true;
    return false;
}

size_t comfy_events_remaining(const comfy_events *v, const char *caller) {
    size_t count = 0;
    for (const task *t = queue_manager_first(v->services->queue); t != NULL; t = queue_manager_after(t)) {
        bool mine = t->request.adapter != NULL && strcmp(t->request.adapter, COMFY_ADAPTER) == 0;
        bool seen = caller == NULL || (t->request.owner != NULL && strcmp(caller, t->request.owner) == 0);
        count += mine && seen && !task_status_is_final(t->status);
    }
    return count;
}

static void send_status(client *c, size_t remaining, bool with_sid) {
    size_t size = 0;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_obj(doc);
    yyjson_mut_val *info = yyjson_mut_obj_add_obj(doc, yyjson_mut_obj_add_obj(doc, data, "status"), "exec_info");
    yyjson_mut_obj_add_uint(doc, info, "queue_remaining", remaining);
    if (with_sid) yyjson_mut_obj_add_str(doc, data, "sid", c->id);
    char *text = message_text(doc, "status", data, &size);
    if (text != NULL) send_text(c, text, size);
    free(text);
}

static void tell_status(comfy_events *v) {
    size_t of_all = SIZE_MAX;
    for (client *c = v->clients; c != NULL; c = c->next) {
        const char *caller = http_socket_caller(c->socket);
        if (caller == NULL && of_all == SIZE_MAX) of_all = comfy_events_remaining(v, NULL);
        send_status(c, caller == NULL ? of_all : comfy_events_remaining(v, caller), false);
    }
}

static yyjson_mut_val *about(yyjson_mut_doc *doc, const comfy_prompt *one) {
    yyjson_mut_val *data = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, data, "prompt_id", one->id);
    return data;
}

static void tell_executing(comfy_events *v, const comfy_prompt *one, const task *t, const comfy_prompt_node *node) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_obj(doc);
    if (node != NULL) {
        yyjson_mut_obj_add_str(doc, data, "node", node->id);
        yyjson_mut_obj_add_str(doc, data, "display_node", node->id);
    } else {
        yyjson_mut_obj_add_null(doc, data, "node");
    }
    yyjson_mut_obj_add_str(doc, data, "prompt_id", one->id);
    tell(v, one, t, "executing", doc, data);
}

static void tell_at(comfy_events *v, const comfy_prompt *one, const task *t, const char *type) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = about(doc, one);
    yyjson_mut_obj_add_int(doc, data, "timestamp", clock_unix_ms());
    tell(v, one, t, type, doc, data);
}

static void tell_cached(comfy_events *v, const comfy_prompt *one, const task *t) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_obj(doc), *nodes = yyjson_mut_obj_add_arr(doc, data, "nodes");
    for (int i = 0; i < one->node_count; i++)
        if (one->nodes[i].cached) yyjson_mut_arr_add_str(doc, nodes, one->nodes[i].id);
    yyjson_mut_obj_add_str(doc, data, "prompt_id", one->id);
    yyjson_mut_obj_add_int(doc, data, "timestamp", clock_unix_ms());
    tell(v, one, t, "execution_cached", doc, data);
}

yyjson_mut_val *comfy_output_document(yyjson_mut_doc *doc, const comfy_output *o, int count) {
    yyjson_mut_val *output = yyjson_mut_obj(doc), *images = yyjson_mut_obj_add_arr(doc, output, "images");
    for (int i = 0; i < count; i++) {
        char name[COMFY_NAME_BYTES + 32];
        snprintf(name, sizeof name, "%s_%05lld_.png", o->prefix, (long long)(o->first + i));
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, images);
        yyjson_mut_obj_add_strcpy(doc, one, "filename", name);
        yyjson_mut_obj_add_strcpy(doc, one, "subfolder", o->subfolder);
        yyjson_mut_obj_add_str(doc, one, "type", o->temporary ? "temp" : "output");
    }
    return output;
}

static void tell_executed(comfy_events *v, const comfy_prompt *one, const task *t, const comfy_output *o) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, data, "node", o->node);
    yyjson_mut_obj_add_str(doc, data, "display_node", o->node);
    yyjson_mut_obj_add_val(doc, data, "output", comfy_output_document(doc, o, t->request.count));
    yyjson_mut_obj_add_str(doc, data, "prompt_id", one->id);
    tell(v, one, t, "executed", doc, data);
}

static void tell_progress(comfy_events *v, comfy_prompt *one, const task *t, int value) {
    if (value <= one->progress || one->shown_steps <= 0) return;
    one->progress = value;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_int(doc, data, "value", value);
    yyjson_mut_obj_add_int(doc, data, "max", one->shown_steps);
    yyjson_mut_obj_add_str(doc, data, "prompt_id", one->id);
    yyjson_mut_obj_add_str(doc, data, "node", one->nodes[one->sampler].id);
    tell(v, one, t, "progress", doc, data);
}

/* --- the course of a prompt --- */

static void start(comfy_events *v, comfy_prompt *one, const task *t) {
    if (one->started) return; /* again, after an engine's death: its client heard that it began */
    one->started = true;
    tell_at(v, one, t, "execution_start");
    tell_cached(v, one, t);
}

static const comfy_output *output_of(const comfy_prompt *one, const comfy_prompt_node *n) {
    for (int i = 0; i < one->output_count; i++)
        if (strcmp(one->outputs[i].node, n->id) == 0) return &one->outputs[i];
    return NULL;
}

/* Tells of the nodes up to those whose work is done in this stage. */
static void reach(comfy_events *v, comfy_prompt *one, const task *t, comfy_stage stage) {
    for (; one->told < one->node_count && one->nodes[one->told].class->stage <= stage; one->told++) {
        const comfy_prompt_node *n = &one->nodes[one->told];
        if (n->class->stage > STAGE_SAMPLE) tell_progress(v, one, t, one->shown_steps);
        if (n->cached) continue;
        tell_executing(v, one, t, n);
        const comfy_output *o = n->class->is_output ? output_of(one, n) : NULL;
        if (o != NULL) tell_executed(v, one, t, o);
    }
}

static void progress(comfy_events *v, comfy_prompt *one, const task *t) {
    static const struct {
        const char *phase;
        comfy_stage stage;
    } phases[] = {{"load", STAGE_LOAD}, {"encode", STAGE_ENCODE}, {"denoise", STAGE_SAMPLE}, {"decode", STAGE_DECODE}};
    start(v, one, t);
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        /* A picture of several that is decoded does not end the sampler of the others. */
        if (strcmp(t->phase, phases[i].phase) == 0 && (phases[i].stage != STAGE_DECODE || t->image + 1 >= t->request.count))
            reach(v, one, t, phases[i].stage);
    if (strcmp(t->phase, "denoise") != 0) return;
    int skipped = t->request.steps - one->shown_steps;
    tell_progress(v, one, t, (int)(task_done_fraction(t) * t->request.steps + 0.5) - skipped);
}

static void add_executed(yyjson_mut_doc *doc, yyjson_mut_val *data, const comfy_prompt *one) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, data, "executed");
    for (int i = 0; one->nodes != NULL && i + 1 < one->told; i++) yyjson_mut_arr_add_strcpy(doc, list, one->nodes[i].id);
}

/* The node at work when it ended. */
static const comfy_prompt_node *at_work(const comfy_prompt *one) { return &one->nodes[one->told > 0 ? one->told - 1 : 0]; }

yyjson_mut_val *comfy_failure_document(yyjson_mut_doc *doc, const comfy_prompt *one, const task *t) {
    yyjson_mut_val *data = yyjson_mut_obj(doc);
    char text[ERROR_TEXT_BYTES];
    yyjson_mut_obj_add_strcpy(doc, data, "prompt_id", one->id);
    if (one->nodes != NULL) {
        yyjson_mut_obj_add_strcpy(doc, data, "node_id", at_work(one)->id);
        yyjson_mut_obj_add_str(doc, data, "node_type", at_work(one)->class->name);
    }
    add_executed(doc, data, one);
    if (t->status == TASK_FAILED) {
        yyjson_mut_obj_add_strcpy(doc, data, "exception_message", problem_text(t->failure.text, text, sizeof text));
        yyjson_mut_obj_add_str(doc, data, "exception_type", error_code_name(t->failure.code));
        yyjson_mut_obj_add_arr(doc, data, "traceback");
        yyjson_mut_obj_add_obj(doc, data, "current_inputs");
        yyjson_mut_obj_add_arr(doc, data, "current_outputs");
    }
    yyjson_mut_obj_add_int(doc, data, "timestamp", t->finished_ms);
    return data;
}

static void tell_failure(comfy_events *v, const comfy_prompt *one, const task *t) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    tell(v, one, t, t->status == TASK_FAILED ? "execution_error" : "execution_interrupted", doc, comfy_failure_document(doc, one, t));
}

/* It is over, and the history has it. */
static void end(comfy_events *v, comfy_prompt *one, const task *t) {
    bool ran = one->started || t->status == TASK_COMPLETED || t->status == TASK_FAILED;
    if (ran && one->nodes != NULL) {
        start(v, one, t);
        if (t->status == TASK_COMPLETED) {
            reach(v, one, t, STAGE_OUTPUT);
            tell_at(v, one, t, "execution_success");
        } else {
            tell_failure(v, one, t);
        }
    }
    comfy_prompts_ended(v->prompts, one, t->status == TASK_COMPLETED);
    tell_status(v);
    if (ran) tell_executing(v, one, t, NULL);
}

/* --- previews --- */

static void put_u32(char out[4], uint32_t n) {
    for (int i = 0; i < 4; i++) out[i] = (char)(n >> (24 - 8 * i));
}

static bool add_metadata(buffer *out, const comfy_prompt *one) {
    const char *node = one->nodes[one->sampler].id;
    size_t size = 0;
    char head[4];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = about(doc, one);
    yyjson_mut_obj_add_str(doc, data, "node_id", node);
    yyjson_mut_obj_add_str(doc, data, "display_node_id", node);
    yyjson_mut_obj_add_null(doc, data, "parent_node_id");
    yyjson_mut_obj_add_str(doc, data, "real_node_id", node);
    yyjson_mut_obj_add_str(doc, data, "image_type", "image/jpeg");
    yyjson_mut_doc_set_root(doc, data);
    char *text = doc != NULL ? yyjson_mut_write(doc, 0, &size) : NULL;
    yyjson_mut_doc_free(doc);
    put_u32(head, (uint32_t)size);
    buffer_append(out, head, sizeof head);
    if (text != NULL) buffer_append(out, text, size);
    free(text);
    return text != NULL;
}

static void send_preview(const client *c, const comfy_prompt *one, const buffer *jpeg) {
    buffer out = {0};
    char head[4];
    bool ok = true;
    put_u32(head, c->takes_metadata ? PREVIEW_IMAGE_WITH_METADATA : PREVIEW_IMAGE);
    buffer_append(&out, head, sizeof head);
    if (c->takes_metadata) {
        ok = add_metadata(&out, one);
    } else {
        put_u32(head, PREVIEW_JPEG);
        buffer_append(&out, head, sizeof head);
    }
    buffer_append(&out, jpeg->data, jpeg->size);
    if (ok && buffer_ok(&out)) http_socket_send_rough(c->socket, out.data, out.size);
    buffer_free(&out);
}

static void show_preview(comfy_events *v, const comfy_prompt *one, const task *t) {
    const preview *newest = previews_find(v->services->previews, t->id);
    buffer jpeg = {0};
    if (!one->previews || one->nodes == NULL || newest == NULL || !has_listener(v, one, t)) return;
    if (preview_encode(newest, PREVIEW_SIDE, IMAGE_JPEG, PREVIEW_QUALITY, &jpeg, NULL))
        for (client *c = v->clients; c != NULL; c = c->next)
            if (is_for(c, one, t) && !c->held) send_preview(c, one, &jpeg);
    buffer_free(&jpeg);
}

/* --- what the server tells --- */

static void hold(comfy_events *v, const comfy_prompt *one, const task *t) {
    bool any = false;
    for (client *c = v->clients; c != NULL; c = c->next)
        if (is_for(c, one, t)) any = c->held = true;
    if (!any) return;
    double now = clock_seconds();
    if (v->held_since == 0) v->held_since = now;
    loop_timer_set(v->timer, (int)fmin(HELD_MS, fmax(0, HELD_MOST_MS - 1000 * (now - v->held_since))));
}

static void let_all_go(void *context) {
    comfy_events *v = context;
    v->held_since = 0;
    for (client *c = v->clients; c != NULL; c = c->next)
        if (c->held) let_go(c);
}

void comfy_events_changed(comfy_events *v, const task *t, task_change what) {
    comfy_prompt *one = comfy_prompts_of(v->prompts, t);
    if (one == NULL) return;
    switch (what) {
    case CHANGE_QUEUED:
        if (!one->known) hold(v, one, t);
        one->known = true;
        tell_status(v);
        break;
    case CHANGE_STARTED:
        tell_status(v);
        start(v, one, t);
        break;
    case CHANGE_PROGRESS: progress(v, one, t); break;
    case CHANGE_PREVIEW: show_preview(v, one, t); break;
    case CHANGE_ENDED: end(v, one, t); break;
    case CHANGE_PLAN: break;
    }
}

void comfy_events_repeat(comfy_events *v, comfy_prompt *one) {
    const task *t = comfy_prompts_task(v->prompts, one);
    if (t == NULL) return;
    hold(v, one, t);
    start(v, one, t);
    for (int i = 0; i < one->output_count; i++)
        tell_executed(v, one, t, &one->outputs[i]); /* ComfyUI tells what it shows, though nothing ran */
    tell_at(v, one, t, "execution_success");
    tell_status(v);
    tell_executing(v, one, t, NULL);
}

/* --- clients --- */

static void send_features(client *c) {
    size_t size = 0;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    char *text = message_text(doc, "feature_flags", comfy_features_document(doc), &size);
    if (text != NULL) send_text(c, text, size);
    free(text);
}

yyjson_mut_val *comfy_features_document(yyjson_mut_doc *doc) {
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_bool(doc, o, "supports_preview_metadata", true);
    yyjson_mut_obj_add_int(doc, o, "max_upload_size", COMFY_UPLOAD_BYTES);
    return o;
}

/* A client may say what it understands; anything else is ignored, as ComfyUI does. */
static void received(void *context, http_socket *socket, const char *text, size_t size) {
    client *c = context;
    yyjson_doc *doc = yyjson_read(text, size, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    (void)socket;
    if (yyjson_equals_str(yyjson_obj_get(root, "type"), "feature_flags")) {
        c->takes_metadata = yyjson_get_bool(yyjson_obj_get(yyjson_obj_get(root, "data"), "supports_preview_metadata"));
        send_features(c);
    }
    yyjson_doc_free(doc);
}

static void closed(void *context, http_socket *socket) {
    client *c = context;
    (void)socket;
    *c->link = c->next;
    if (c->next != NULL) c->next->link = c->link;
    buffer_free(&c->waiting);
    free(c);
}

/* Who comes again while its prompt runs hears where that is. */
static void tell_where(comfy_events *v, const client *c) {
    for (comfy_prompt *one = comfy_prompts_newest(v->prompts); one != NULL; one = comfy_prompts_older(v->prompts, one)) {
        const task *t = comfy_prompts_task(v->prompts, one);
        if (!one->cached && !task_status_is_final(t->status) && one->told > 0 && is_for(c, one, t)) tell_executing(v, one, t, at_work(one));
    }
}

void comfy_events_accept(comfy_events *v, http_exchange *x) {
    const char *id = http_query(x, "clientId");
    client *c = calloc(1, sizeof *c);
    const http_socket_owner owner = {c, received, closed};
    if (c != NULL) {
        if (id != NULL && id[0] != '\0' && strlen(id) < sizeof c->id && strlen(id) == strcspn(id, "\n\r"))
            snprintf(c->id, sizeof c->id, "%s", id);
        else random_id("", c->id);
        c->owner = v;
        c->socket = http_accept_socket(x, &owner);
    }
    if (c == NULL || c->socket == NULL) {
        free(c);
        answer_empty(x, 503);
        return;
    }
    c->next = v->clients;
    c->link = &v->clients;
    if (c->next != NULL) c->next->link = &c->next;
    v->clients = c;
    send_status(c, comfy_events_remaining(v, http_socket_caller(c->socket)), true);
    tell_where(v, c);
}

bool comfy_events_new(services *s, loop *l, comfy_prompts *prompts, comfy_events **out, error *e) {
    comfy_events *v = calloc(1, sizeof *v);
    if (v == NULL) return error_no_memory(e, "the clients of ComfyUI's events", sizeof *v);
    *v = (comfy_events){.services = s, .prompts = prompts};
    if (!loop_timer_new(l, let_all_go, v, &v->timer, e)) {
        free(v);
        return false;
    }
    *out = v;
    return true;
}

void comfy_events_free(comfy_events *v) {
    if (v == NULL) return;
    loop_timer_free(v->timer);
    free(v);
}
