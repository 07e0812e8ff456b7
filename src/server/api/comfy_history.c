/* /queue, /history and /interrupt: what became of prompts, and what is to become of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/access/owner.h"
#include "server/api/comfy.h"
#include "server/http/answer.h"
#include "server/requests/services.h"

enum {
    HISTORY_DEFAULT = 1000,   /* prompts that one answer tells of */
    HISTORY_BYTES = 4 << 20,  /* of their graphs; the others are left out */
    DELETE_MAX = 1000,        /* prompts that one request names: each is looked for among all, on the loop */
};

/* The body, and what its "delete" names. False: it was refused, and *doc is none. */
static bool read_change(http_exchange *x, yyjson_doc **doc, yyjson_val **ids) {
    error why;
    if (!comfy_read_body(x, false, doc)) return false;
    *ids = yyjson_obj_get(yyjson_doc_get_root(*doc), "delete");
    if (yyjson_arr_size(*ids) <= DELETE_MAX) return true;
    error_field(&why, ERROR_INVALID, "delete", "'delete' names %zu prompts: at most %d are taken at once", yyjson_arr_size(*ids),
                DELETE_MAX);
    yyjson_doc_free(*doc);
    *doc = NULL;
    comfy_answer_error(x, 400, &why);
    return false;
}

/* --- what a prompt is told as --- */

yyjson_mut_val *comfy_number_document(yyjson_mut_doc *doc, double number) {
    bool whole = number > -9e15 && number < 9e15 && number == (double)(int64_t)number;
    return whole ? yyjson_mut_int(doc, (int64_t)number) : yyjson_mut_real(doc, number);
}

/* [number, id, graph, extra_data, [outputs]]: ComfyUI's tuple. */
static yyjson_mut_val *prompt_tuple(yyjson_mut_doc *doc, const comfy_prompt *one, const task *t) {
    yyjson_doc *data = yyjson_read(t->request.adapter_data, strlen(t->request.adapter_data), 0);
    yyjson_val *root = yyjson_doc_get_root(data), *graph = yyjson_obj_get(root, "graph"), *extra = yyjson_obj_get(root, "extra");
    yyjson_mut_val *tuple = yyjson_mut_arr(doc), *told = extra != NULL ? yyjson_val_mut_copy(doc, extra) : yyjson_mut_obj(doc);
    if (one->cached) { /* the other's, but for whom it is */
        yyjson_mut_obj_remove_key(told, "client_id");
        if (one->client[0] != '\0') yyjson_mut_obj_add_strcpy(doc, told, "client_id", one->client);
    }
    yyjson_mut_arr_append(tuple, comfy_number_document(doc, one->number));
    yyjson_mut_arr_add_strcpy(doc, tuple, one->id);
    yyjson_mut_arr_append(tuple, graph != NULL ? yyjson_val_mut_copy(doc, graph) : yyjson_mut_obj(doc));
    yyjson_mut_arr_append(tuple, told);
    yyjson_mut_val *outputs = yyjson_mut_arr_add_arr(doc, tuple);
    for (int i = 0; i < one->output_count; i++) yyjson_mut_arr_add_strcpy(doc, outputs, one->outputs[i].node);
    yyjson_doc_free(data);
    return tuple;
}

static void add_message(yyjson_mut_doc *doc, yyjson_mut_val *list, const comfy_prompt *one, const char *type, int64_t ms,
                        yyjson_mut_val **data) {
    yyjson_mut_val *pair = yyjson_mut_arr_add_arr(doc, list);
    yyjson_mut_arr_add_str(doc, pair, type);
    *data = yyjson_mut_arr_add_obj(doc, pair);
    yyjson_mut_obj_add_strcpy(doc, *data, "prompt_id", one->id);
    yyjson_mut_obj_add_int(doc, *data, "timestamp", ms);
}

static yyjson_mut_val *status_document(yyjson_mut_doc *doc, const comfy_prompt *one, const task *t) {
    yyjson_mut_val *o = yyjson_mut_obj(doc), *data;
    bool completed = t->status == TASK_COMPLETED;
    int64_t begun = one->cached ? one->created_ms : t->started_ms, over = one->cached ? one->created_ms : t->finished_ms;
    yyjson_mut_obj_add_str(doc, o, "status_str", completed ? "success" : "error");
    yyjson_mut_obj_add_bool(doc, o, "completed", completed);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, o, "messages");
    add_message(doc, list, one, "execution_start", begun, &data);
    add_message(doc, list, one, "execution_cached", begun, &data);
    yyjson_mut_val *nodes = yyjson_mut_obj_add_arr(doc, data, "nodes");
    for (int i = 0; i < one->node_count; i++)
        if (one->nodes[i].cached) yyjson_mut_arr_add_strcpy(doc, nodes, one->nodes[i].id);
    if (completed) {
        add_message(doc, list, one, "execution_success", over, &data);
    } else {
        yyjson_mut_val *pair = yyjson_mut_arr_add_arr(doc, list);
        yyjson_mut_arr_add_str(doc, pair, t->status == TASK_FAILED ? "execution_error" : "execution_interrupted");
        yyjson_mut_arr_append(pair, comfy_failure_document(doc, one, t));
    }
    return o;
}

static void add_entry(yyjson_mut_doc *doc, yyjson_mut_val *root, const comfy_prompt *one, const task *t) {
    yyjson_mut_val *entry = yyjson_mut_obj(doc), *outputs = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_val(doc, entry, "prompt", prompt_tuple(doc, one, t));
    for (int i = 0; t->status == TASK_COMPLETED && i < one->output_count; i++) {
        const comfy_output *o = &one->outputs[i];
        yyjson_mut_obj_add(outputs, yyjson_mut_strcpy(doc, o->node), comfy_output_document(doc, o, t->request.count));
        yyjson_mut_val *about = yyjson_mut_obj(doc);
        yyjson_mut_obj_add_strcpy(doc, about, "node_id", o->node);
        yyjson_mut_obj_add_strcpy(doc, about, "display_node", o->node);
        yyjson_mut_obj_add_null(doc, about, "parent_node");
        yyjson_mut_obj_add_strcpy(doc, about, "real_node_id", o->node);
        yyjson_mut_obj_add(meta, yyjson_mut_strcpy(doc, o->node), about);
    }
    yyjson_mut_obj_add_val(doc, entry, "outputs", outputs);
    yyjson_mut_obj_add_val(doc, entry, "status", status_document(doc, one, t));
    yyjson_mut_obj_add_val(doc, entry, "meta", meta);
    yyjson_mut_obj_add(root, yyjson_mut_strcpy(doc, one->id), entry);
}

/* What ComfyUI's history holds: prompts that ran, to whatever end. */
static bool in_history(const http_exchange *x, const comfy_prompt *one, const task *t) {
    return !one->hidden && task_status_is_final(t->status) && (t->status != TASK_CANCELLED || t->started_ms > 0) && owner_sees(x, t);
}

/* --- /history --- */

static long query_number(const http_exchange *x, const char *name, long otherwise) {
    const char *text = http_query(x, name);
    if (text == NULL || text[0] < '0' || text[0] > '9' || strlen(text) > 9) return otherwise;
    return strtol(text, NULL, 10);
}

/* Those that are asked for, the newest first: the newest ones, or with an offset those from there on, counted from the oldest. */
static int find_history(services *s, const http_exchange *x, long offset, const comfy_prompt *found[HISTORY_DEFAULT]) {
    comfy_prompts *p = s->comfy->prompts;
    long left = query_number(x, "max_items", HISTORY_DEFAULT), skip = 0;
    int count = 0;
    if (left > HISTORY_DEFAULT) left = HISTORY_DEFAULT;
    if (offset >= 0) {
        skip = -offset - left;
        for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one))
            skip += in_history(x, one, comfy_prompts_task(p, one));
        if (skip < 0) left += skip;
    }
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL && count < left; one = comfy_prompts_older(p, one))
        if (in_history(x, one, comfy_prompts_task(p, one)) && skip-- <= 0) found[count++] = one;
    return count;
}

static void answer_history(services *s, http_exchange *x) {
    const comfy_prompt *found[HISTORY_DEFAULT];
    long offset = query_number(x, "offset", -1);
    int first = 0, end = find_history(s, x, offset, found);
    size_t bytes = 0;
    /* What is too much is left out at the end that the client will come back for. */
    for (int i = 0, count = end; i < count; i++) {
        int at = offset < 0 ? i : count - 1 - i;
        bytes += strlen(comfy_prompts_task(s->comfy->prompts, found[at])->request.adapter_data);
        if (bytes <= HISTORY_BYTES || i == 0) continue;
        if (offset < 0) end = at;
        else first = at + 1;
        break;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    /* As ComfyUI's dictionary: what came last stands last. */
    while (end > first) {
        const comfy_prompt *one = found[--end];
        add_entry(doc, root, one, comfy_prompts_task(s->comfy->prompts, one));
    }
    answer_json(x, 200, NULL, doc);
}

void comfy_get_history(services *s, http_exchange *x, const char *id) {
    if (id[0] == '\0') {
        answer_history(s, x);
        return;
    }
    const comfy_prompt *one = comfy_prompts_find(s->comfy->prompts, id);
    const task *t = one != NULL ? comfy_prompts_task(s->comfy->prompts, one) : NULL;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    if (t != NULL && in_history(x, one, t)) add_entry(doc, root, one, t);
    answer_json(x, 200, NULL, doc);
}

/* What a request to clear or delete means for one prompt. */
typedef void (*change)(services *s, const http_exchange *x, comfy_prompt *one);

/* All prompts where the body says "clear", and those that its "delete" names. False: it was refused, and is answered. */
static bool change_named(services *s, http_exchange *x, change each) {
    yyjson_doc *doc;
    size_t i, max;
    yyjson_val *name, *ids;
    comfy_prompts *p = s->comfy->prompts;
    if (!read_change(x, &doc, &ids)) return false;
    if (yyjson_get_bool(yyjson_obj_get(yyjson_doc_get_root(doc), "clear")))
        for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one)) each(s, x, one);
    yyjson_arr_foreach(ids, i, max, name) {
        comfy_prompt *one = yyjson_is_str(name) ? comfy_prompts_find(p, yyjson_get_str(name)) : NULL;
        if (one != NULL) each(s, x, one);
    }
    yyjson_doc_free(doc);
    return true;
}

static void hide(services *s, const http_exchange *x, comfy_prompt *one) {
    task *t = comfy_prompts_task(s->comfy->prompts, one);
    if (t == NULL || !in_history(x, one, t)) return;
    comfy_prompts_hide(s->comfy->prompts, one);
    if (!one->cached) task_keeper_note(s->keeper, t);
}

void comfy_post_history(services *s, http_exchange *x, const char *id) {
    (void)id;
    if (!change_named(s, x, hide)) return;
    task_keeper_hurry(s->keeper);
    answer_empty(x, 200);
}

/* --- /queue --- */

void comfy_get_queue(services *s, http_exchange *x, const char *id) {
    (void)id;
    comfy_prompts *p = s->comfy->prompts;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *running = yyjson_mut_obj_add_arr(doc, root, "queue_running"),
                   *pending = yyjson_mut_obj_add_arr(doc, root, "queue_pending");
    size_t bytes = 0;
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL && bytes <= HISTORY_BYTES; one = comfy_prompts_older(p, one)) {
        const task *t = comfy_prompts_task(p, one);
        bool leaves = t->closing && t->end == TASK_CANCELLED && t->status == TASK_QUEUED; /* once that is on disk */
        if (one->cached || leaves || task_status_is_final(t->status) || !owner_sees(x, t)) continue;
        bytes += strlen(t->request.adapter_data);
        yyjson_mut_arr_prepend(task_status_holds_slot(t->status) ? running : pending, prompt_tuple(doc, one, t));
    }
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

static void cancel_waiting(services *s, const http_exchange *x, comfy_prompt *one) {
    bool at_once;
    task *t = comfy_prompts_task(s->comfy->prompts, one);
    if (t != NULL && !one->cached && owner_sees(x, t) && t->status == TASK_QUEUED) dispatch_cancel(s->dispatch, t, &at_once, NULL);
}

void comfy_post_queue(services *s, http_exchange *x, const char *id) {
    (void)id;
    if (change_named(s, x, cancel_waiting)) answer_empty(x, 200);
}

/* --- /interrupt --- */

/* The prompt that is named, if it runs; without a name, or with a body that is no JSON, those that do. */
void comfy_post_interrupt(services *s, http_exchange *x, const char *id) {
    (void)id;
    const buffer *body = http_request_body(x);
    yyjson_doc *doc = yyjson_read(buffer_text(body), body->size, 0);
    comfy_prompts *p = s->comfy->prompts;
    const char *named = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "prompt_id"));
    if (named != NULL && named[0] == '\0') named = NULL;
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one)) {
        bool at_once;
        task *t = comfy_prompts_task(p, one);
        bool meant = !one->cached && owner_sees(x, t) && (named == NULL || strcmp(named, one->id) == 0);
        if (meant && (task_status_holds_slot(t->status) || t->suspended)) dispatch_cancel(s->dispatch, t, &at_once, NULL);
    }
    yyjson_doc_free(doc);
    answer_empty(x, 200);
}
