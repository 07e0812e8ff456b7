#include "server/api/comfy_prompts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"

enum { COUNTERS = 64 };

struct comfy_prompts {
    queue_manager *queue;
    size_t data_limit;
    comfy_prompt *newest, *oldest;
    double next_number;
    size_t data_bytes; /* of all */
    int cached;        /* prompts without tasks */
    char (*fresh)[SHA256_TEXT_BYTES]; /* of the nodes of the last prompt that ran */
    int fresh_count;
    struct {
        comfy_output name;
        int64_t next;
    } counters[COUNTERS]; /* numbers given out lately, as the prompts that have them may still be on their way to disk */
    int counted;          /* the next of them to be replaced */
};

const char comfy_hidden_mark[] = "{\"hidden\":false";

/* --- the list --- */

static void add(comfy_prompts *p, comfy_prompt *one) {
    one->newer = NULL;
    one->older = p->newest;
    if (p->newest != NULL) p->newest->newer = one;
    else p->oldest = one;
    p->newest = one;
    p->data_bytes += one->data_bytes;
    p->cached += one->cached;
    if (one->number >= p->next_number) p->next_number = one->number + 1;
}

static void drop(comfy_prompts *p, comfy_prompt *one) {
    if (one->newer != NULL) one->newer->older = one->older;
    else p->newest = one->older;
    if (one->older != NULL) one->older->newer = one->newer;
    else p->oldest = one->newer;
    p->data_bytes -= one->data_bytes;
    p->cached -= one->cached;
    free(one->nodes);
    free(one);
}

task *comfy_prompts_task(const comfy_prompts *p, const comfy_prompt *one) { return queue_manager_find(p->queue, one->task); }

/* From `one` on to the first whose task is there; the others go. */
static comfy_prompt *first_alive(comfy_prompts *p, comfy_prompt *one) {
    while (one != NULL && comfy_prompts_task(p, one) == NULL) {
        comfy_prompt *older = one->older;
        drop(p, one);
        one = older;
    }
    return one;
}

comfy_prompt *comfy_prompts_newest(comfy_prompts *p) { return first_alive(p, p->newest); }
comfy_prompt *comfy_prompts_older(comfy_prompts *p, comfy_prompt *than) { return first_alive(p, than->older); }

/* The oldest that is over goes for good where all take too much; never the newest, which has just come and is its caller's. */
static void trim(comfy_prompts *p) {
    for (comfy_prompt *one = p->oldest, *newer; one != p->newest && (p->data_bytes > p->data_limit || p->cached > COMFY_CACHED_MAX);
         one = newer) {
        newer = one->newer;
        task *t = comfy_prompts_task(p, one);
        if (one->cached ? p->cached <= COMFY_CACHED_MAX : p->data_bytes <= p->data_limit) continue;
        if (t != NULL && !task_status_is_final(t->status)) continue;
        if (t != NULL && !one->cached) queue_manager_forget_task(p->queue, t);
        drop(p, one);
    }
}

bool comfy_prompts_have_room(comfy_prompts *p, size_t bytes) {
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one))
        if (!task_status_is_final(comfy_prompts_task(p, one)->status)) bytes += one->data_bytes;
    return bytes <= p->data_limit;
}

/* --- from adapter_data --- */

static bool take_text(yyjson_val *from, const char *key, char *out, size_t capacity) {
    const char *text = yyjson_get_str(yyjson_obj_get(from, key));
    if (text == NULL || strlen(text) >= capacity) return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool take_output(comfy_prompt *one, yyjson_val *from) {
    if (one->output_count == COMFY_OUTPUTS_MAX) return false;
    comfy_output *out = &one->outputs[one->output_count++];
    out->temporary = yyjson_get_bool(yyjson_obj_get(from, "temp"));
    out->first = yyjson_get_sint(yyjson_obj_get(from, "first"));
    return take_text(from, "node", out->node, sizeof out->node) && take_text(from, "subfolder", out->subfolder, sizeof out->subfolder) &&
           take_text(from, "prefix", out->prefix, sizeof out->prefix);
}

/* [id, class, signature, cached] each. */
static bool take_nodes(comfy_prompt *one, yyjson_val *list, const char *sampler) {
    size_t count = yyjson_arr_size(list), i, max;
    yyjson_val *from;
    one->nodes = count > 0 && count <= COMFY_GRAPH_NODES ? calloc(count, sizeof *one->nodes) : NULL;
    if (one->nodes == NULL) return false;
    yyjson_arr_foreach(list, i, max, from) {
        comfy_prompt_node *n = &one->nodes[one->node_count++];
        const char *id = yyjson_get_str(yyjson_arr_get(from, 0)), *class = yyjson_get_str(yyjson_arr_get(from, 1)),
                   *signature = yyjson_get_str(yyjson_arr_get(from, 2));
        n->class = class != NULL ? comfy_class_find(class) : NULL;
        if (id == NULL || n->class == NULL || signature == NULL) return false;
        snprintf(n->id, sizeof n->id, "%s", id);
        snprintf(n->signature, sizeof n->signature, "%s", signature);
        n->cached = yyjson_get_bool(yyjson_arr_get(from, 3));
        if (sampler != NULL && strcmp(id, sampler) == 0) one->sampler = one->node_count - 1;
    }
    return true;
}

static bool take(comfy_prompt *one, yyjson_val *from, const task *t) {
    size_t i, max;
    yyjson_val *output;
    memcpy(one->task, t->id, sizeof one->task);
    one->created_ms = t->created_ms;
    one->number = yyjson_get_num(yyjson_obj_get(from, "number"));
    one->hidden = yyjson_get_bool(yyjson_obj_get(from, "hidden"));
    one->previews = yyjson_get_bool(yyjson_obj_get(from, "previews"));
    one->shown_steps = (int)yyjson_get_sint(yyjson_obj_get(from, "shown_steps"));
    if (!take_text(from, "id", one->id, sizeof one->id) || !take_text(from, "client", one->client, sizeof one->client) ||
        !take_text(from, "signature", one->signature, sizeof one->signature) ||
        !take_nodes(one, yyjson_obj_get(from, "nodes"), yyjson_get_str(yyjson_obj_get(from, "sampler"))))
        return false;
    yyjson_arr_foreach(yyjson_obj_get(from, "outputs"), i, max, output) if (!take_output(one, output)) return false;
    return one->output_count > 0;
}

comfy_prompt *comfy_prompts_of(comfy_prompts *p, const task *t) {
    if (t->request.adapter == NULL || strcmp(t->request.adapter, COMFY_ADAPTER) != 0 || t->request.adapter_data == NULL) return NULL;
    for (comfy_prompt *one = p->newest; one != NULL; one = one->older)
        if (!one->cached && strcmp(one->task, t->id) == 0) return one;
    size_t size = strlen(t->request.adapter_data);
    yyjson_doc *doc = yyjson_read(t->request.adapter_data, size, 0);
    comfy_prompt *one = calloc(1, sizeof *one);
    bool ok = one != NULL && doc != NULL && take(one, yyjson_doc_get_root(doc), t);
    yyjson_doc_free(doc);
    if (!ok) {
        if (one != NULL) free(one->nodes);
        free(one);
        return NULL;
    }
    one->data_bytes = size;
    add(p, one);
    trim(p);
    return one;
}

bool comfy_prompts_new(queue_manager *q, size_t data_limit, comfy_prompts **out, error *e) {
    comfy_prompts *p = calloc(1, sizeof *p);
    if (p == NULL) return error_no_memory(e, "the prompts", sizeof *p);
    p->queue = q;
    p->data_limit = data_limit;
    /* The queue's list falls; this one's newest is the last that is added. */
    size_t count = 0, i = 0;
    for (task *t = queue_manager_first(q); t != NULL; t = queue_manager_after(t)) count++;
    task **tasks = count > 0 ? calloc(count, sizeof *tasks) : NULL;
    if (count > 0 && tasks == NULL) {
        free(p);
        return error_no_memory(e, "the prompts", count * sizeof *tasks);
    }
    for (task *t = queue_manager_first(q); t != NULL; t = queue_manager_after(t)) tasks[i++] = t;
    while (i > 0) {
        const task *t = tasks[--i];
        comfy_prompt *one = comfy_prompts_of(p, t);
        if (one == NULL || !task_status_is_final(t->status)) continue;
        one->started = t->status == TASK_FAILED || (t->status == TASK_CANCELLED && t->started_ms > 0);
        one->told = one->sampler + 1; /* where it was is not on disk: mostly there */
        comfy_prompts_ended(p, one, false);
    }
    free(tasks);
    *out = p;
    return true;
}

void comfy_prompts_free(comfy_prompts *p) {
    if (p == NULL) return;
    while (p->newest != NULL) drop(p, p->newest);
    free(p->fresh);
    free(p);
}

comfy_prompt *comfy_prompts_find(comfy_prompts *p, const char *id) {
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one))
        if (strcmp(one->id, id) == 0) return one;
    return NULL;
}

double comfy_prompts_next_number(comfy_prompts *p) { return p->next_number++; }

/* --- what need not run again --- */

void comfy_prompts_ended(comfy_prompts *p, comfy_prompt *one, bool completed) {
    char(*fresh)[SHA256_TEXT_BYTES] = completed && one->node_count > 0 ? calloc((size_t)one->node_count, sizeof *fresh) : NULL;
    if (fresh != NULL) {
        for (int i = 0; i < one->node_count; i++) memcpy(fresh[i], one->nodes[i].signature, sizeof fresh[i]);
        free(p->fresh);
        p->fresh = fresh;
        p->fresh_count = one->node_count;
    }
    /* Where it failed or was stopped, the history tells of its nodes. */
    if (one->cached || (one->started && !completed)) return;
    free(one->nodes);
    one->nodes = NULL;
    one->node_count = 0;
}

bool comfy_prompts_is_fresh(const comfy_prompts *p, const comfy_step *node) {
    /* Latents and pixels are not kept: of a sampler on, everything runs again. */
    if (node->class->stage >= STAGE_SAMPLE) return false;
    for (int i = 0; i < p->fresh_count; i++)
        if (strcmp(p->fresh[i], node->signature) == 0) return true;
    return false;
}

void comfy_prompts_sign(const comfy_plan *plan, char out[SHA256_TEXT_BYTES]) {
    buffer text = {0};
    for (int i = 0; i < plan->node_count; i++)
        if (plan->nodes[i].class->is_output) buffer_printf(&text, "%s %s\n", plan->nodes[i].id, plan->nodes[i].signature);
    if (buffer_ok(&text)) sha256_text(buffer_text(&text), text.size, out);
    else out[0] = '\0'; /* like no other */
    buffer_free(&text);
}

static bool shows_all(const task *t, const char *owner) {
    bool same_owner = owner == NULL ? t->request.owner == NULL : t->request.owner != NULL && strcmp(owner, t->request.owner) == 0;
    if (!same_owner || t->status != TASK_COMPLETED) return false;
    for (int i = 0; i < t->request.count; i++)
        if (!t->images[i].stored) return false;
    return true;
}

comfy_prompt *comfy_prompts_same(comfy_prompts *p, const char *signature, const char *owner) {
    for (comfy_prompt *one = comfy_prompts_newest(p); signature[0] != '\0' && one != NULL; one = comfy_prompts_older(p, one))
        if (strcmp(one->signature, signature) == 0 && shows_all(comfy_prompts_task(p, one), owner)) return one;
    return NULL;
}

comfy_prompt *comfy_prompts_repeat(comfy_prompts *p, const comfy_prompt *other, const comfy_plan *plan, const char *id, const char *client,
                                   double number) {
    comfy_prompt *one = calloc(1, sizeof *one);
    comfy_prompt_node *nodes = calloc((size_t)plan->node_count, sizeof *nodes);
    if (one == NULL || nodes == NULL) {
        free(one);
        free(nodes);
        return NULL;
    }
    *one = (comfy_prompt){.cached = true, .number = number, .created_ms = clock_unix_ms(), .nodes = nodes, .node_count = plan->node_count};
    snprintf(one->id, sizeof one->id, "%s", id);
    snprintf(one->client, sizeof one->client, "%s", client);
    memcpy(one->task, other->task, sizeof one->task);
    memcpy(one->signature, other->signature, sizeof one->signature);
    memcpy(one->outputs, other->outputs, sizeof one->outputs);
    one->output_count = other->output_count;
    for (int i = 0; i < plan->node_count; i++) {
        nodes[i] = (comfy_prompt_node){.class = plan->nodes[i].class, .cached = true};
        snprintf(nodes[i].id, sizeof nodes[i].id, "%s", plan->nodes[i].id);
        memcpy(nodes[i].signature, plan->nodes[i].signature, sizeof nodes[i].signature);
    }
    add(p, one);
    trim(p);
    return one;
}

void comfy_prompts_hide(comfy_prompts *p, comfy_prompt *one) {
    task *t = comfy_prompts_task(p, one);
    one->hidden = true;
    if (one->cached || t == NULL) return;
    /* The text is the task's own, and comfy_hidden_mark its beginning. */
    char *data = (char *)t->request.adapter_data;
    if (strncmp(data, comfy_hidden_mark, strlen(comfy_hidden_mark)) == 0) memcpy(data + strlen(comfy_hidden_mark) - 5, "true ", 5);
}

/* --- files --- */

static bool same_name(const comfy_output *a, const comfy_output *b) {
    return a->temporary == b->temporary && strcmp(a->subfolder, b->subfolder) == 0 && strcmp(a->prefix, b->prefix) == 0;
}

int64_t comfy_prompts_next_file(comfy_prompts *p, const comfy_output *name, int count) {
    int64_t next = 1;
    int at = 0;
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one)) {
        const task *t = comfy_prompts_task(p, one);
        for (int i = 0; i < one->output_count; i++)
            if (same_name(&one->outputs[i], name) && one->outputs[i].first + t->request.count > next)
                next = one->outputs[i].first + t->request.count;
    }
    while (at < COUNTERS && !same_name(&p->counters[at].name, name)) at++;
    if (at == COUNTERS) {
        at = p->counted++ % COUNTERS;
        p->counters[at].next = 0;
        p->counters[at].name = *name;
    }
    if (p->counters[at].next > next) next = p->counters[at].next;
    p->counters[at].next = next + count;
    return next;
}

/* "fox_00012_.png" → "fox", 12. */
static bool split_name(const char *name, comfy_output *out, int64_t *number) {
    size_t size = strlen(name), digits = 0;
    if (size < 7 || size >= COMFY_NAME_BYTES || strcmp(name + size - 5, "_.png") != 0) return false;
    while (digits < size - 5 && digits < 18 && name[size - 6 - digits] >= '0' && name[size - 6 - digits] <= '9') digits++;
    size_t prefix = size - 5 - digits;
    if (digits < 5 || prefix < 1 || name[prefix - 1] != '_') return false;
    *number = strtoll(name + prefix, NULL, 10);
    snprintf(out->prefix, sizeof out->prefix, "%.*s", (int)prefix - 1, name);
    return true;
}

task *comfy_prompts_picture(comfy_prompts *p, const char *subfolder, const char *name, bool temporary, int *index) {
    comfy_output wanted = {.temporary = temporary};
    int64_t number;
    if (strlen(subfolder) >= sizeof wanted.subfolder || !split_name(name, &wanted, &number)) return NULL;
    memcpy(wanted.subfolder, subfolder, strlen(subfolder) + 1);
    for (comfy_prompt *one = comfy_prompts_newest(p); one != NULL; one = comfy_prompts_older(p, one)) {
        task *t = comfy_prompts_task(p, one);
        for (int i = 0; i < one->output_count; i++) {
            int64_t at = number - one->outputs[i].first;
            if (!same_name(&one->outputs[i], &wanted) || at < 0 || at >= t->request.count || !t->images[at].stored) continue;
            *index = (int)at;
            return t;
        }
    }
    return NULL;
}
