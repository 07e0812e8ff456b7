#include "server/api/comfy_graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "server/api/comfy_graph_internal.h"

enum { DETAIL_BYTES = 256, DETAILS_BYTES = 8 << 10, PROBLEMS = 64 };

static const double past_64_bits = 18446744073709551616.0; /* the bound of a seed, 2^64 − 1, is no other as a double */

/* --- values as text --- */

/* The library's own allocator is another's business; what it writes for us is freed by us. */
static void *take_memory(void *context, size_t size) { return (void)context, malloc(size); }
static void *move_memory(void *context, void *old, size_t before, size_t size) { return (void)context, (void)before, realloc(old, size); }
static void give_memory(void *context, void *p) { (void)context, free(p); }

/* Appends the value as JSON; without memory the buffer is marked. */
static void append_value(buffer *out, yyjson_val *v) {
    static const yyjson_alc ours = {take_memory, move_memory, give_memory, NULL};
    size_t size = 0;
    char *text = yyjson_val_write_opts(v, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &ours, &size, NULL);
    if (text != NULL) buffer_append(out, text, size);
    else out->failed = true;
    free(text);
}

/* --- what goes wrong --- */

static yyjson_mut_val *add_text(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, const char *text) {
    yyjson_mut_val *v = yyjson_mut_strcpy(doc, text);
    yyjson_mut_obj_add_val(doc, o, key, v);
    return v;
}

static yyjson_mut_val *add_error(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *type, const char *message, const char *details) {
    add_text(doc, o, "type", type);
    add_text(doc, o, "message", message);
    add_text(doc, o, "details", details);
    return yyjson_mut_obj_add_obj(doc, o, "extra_info");
}

/* {"error": {…}, "node_errors": {}}; *extra (may be NULL) is "extra_info". */
static yyjson_mut_doc *new_fault(const char *type, const char *message, const char *details, yyjson_mut_val **extra,
                                 yyjson_mut_val **node_errors) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *info = add_error(doc, yyjson_mut_obj_add_obj(doc, root, "error"), type, message, details);
    yyjson_mut_val *nodes = yyjson_mut_obj_add_obj(doc, root, "node_errors");
    yyjson_mut_doc_set_root(doc, root);
    if (extra != NULL) *extra = info;
    if (node_errors != NULL) *node_errors = nodes;
    return doc;
}

yyjson_mut_doc *comfy_fault(const char *type, const char *message, const char *details) {
    return new_fault(type, message, details, NULL, NULL);
}

/* The entry of a node among the errors. */
static yyjson_mut_val *errors_of(yyjson_mut_doc *doc, yyjson_mut_val *node_errors, const char *id, const char *class, const char *output) {
    yyjson_mut_val *entry = yyjson_mut_obj_get(node_errors, id);
    if (entry == NULL) {
        entry = yyjson_mut_obj(doc);
        yyjson_mut_obj_add(node_errors, yyjson_mut_strcpy(doc, id), entry);
        yyjson_mut_obj_add_arr(doc, entry, "errors");
        yyjson_mut_arr_add_strcpy(doc, yyjson_mut_obj_add_arr(doc, entry, "dependent_outputs"), output);
        add_text(doc, entry, "class_type", class);
    }
    return yyjson_mut_obj_get(entry, "errors");
}

yyjson_mut_doc *comfy_node_fault(const comfy_step *node, const char *type, const char *message, const char *details) {
    yyjson_mut_val *node_errors;
    char line[2 * DETAIL_BYTES];
    snprintf(line, sizeof line, "%s: %s", message, details);
    yyjson_mut_doc *doc = new_fault("prompt_outputs_failed_validation", "Prompt outputs failed validation", line, NULL, &node_errors);
    yyjson_mut_val *list = errors_of(doc, node_errors, node->id, node->class->name, node->id);
    add_error(doc, yyjson_mut_arr_add_obj(doc, list), type, message, details);
    return doc;
}

/* Notes it; the answer is its "extra_info", NULL where enough are noted. */
static yyjson_mut_val *note_problem(comfy_graph *g, const comfy_node *n, const char *type, const char *message, const char *details) {
    if (g->problems++ >= PROBLEMS) return NULL; /* more would help nobody */
    yyjson_mut_val *list = errors_of(g->doc, g->node_errors, n->id, n->class->name, g->nodes[g->output].id);
    if (g->details.size < DETAILS_BYTES) buffer_printf(&g->details, "%s%s: %s", g->details.size > 0 ? "\n" : "", message, details);
    return add_error(g->doc, yyjson_mut_arr_add_obj(g->doc, list), type, message, details);
}

static void add_config(comfy_graph *g, yyjson_mut_val *info, const comfy_input *input) {
    add_text(g->doc, info, "input_name", input->name);
    yyjson_mut_obj_add_val(g->doc, info, "input_config", comfy_input_document(g->doc, input, g->world->list, g->world->context));
}

bool comfy_problem(comfy_graph *g, const comfy_node *n, const char *type, const char *message, const char *details,
                   const comfy_input *input, yyjson_val *received) {
    yyjson_mut_val *info = note_problem(g, n, type, message, details);
    if (info == NULL || input == NULL) return false;
    add_config(g, info, input);
    if (received != NULL) yyjson_mut_obj_add_val(g->doc, info, "received_value", yyjson_val_mut_copy(g->doc, received));
    return false;
}

/* --- nodes and links --- */

static comfy_node *find(comfy_graph *g, const char *id) {
    for (int i = 0; i < g->count; i++)
        if (strcmp(g->nodes[i].id, id) == 0) return &g->nodes[i];
    return NULL;
}

/* The node that a value links to; NULL when it is no link, or links to nothing. */
static comfy_node *linked(comfy_graph *g, yyjson_val *v, int *slot) {
    if (!yyjson_is_arr(v) || yyjson_arr_size(v) != 2) return NULL;
    yyjson_val *id = yyjson_arr_get_first(v), *number = yyjson_arr_get_last(v);
    char text[24];
    const char *name = yyjson_get_str(id);
    if (yyjson_is_int(id)) {
        snprintf(text, sizeof text, "%lld", (long long)yyjson_get_sint(id));
        name = text;
    }
    comfy_node *n = name != NULL ? find(g, name) : NULL;
    uint64_t at = yyjson_is_uint(number) ? yyjson_get_uint(number) : COMFY_OUTPUTS;
    *slot = at < COMFY_OUTPUTS ? (int)at : 0;
    return n != NULL && at < COMFY_OUTPUTS && n->class->outputs[at].type != COMFY_NONE ? n : NULL;
}

/* The one input of a reroute, whatever its name. */
static yyjson_val *input_of(const comfy_node *n, const char *name) {
    if (n->inputs == NULL) return NULL;
    if (n->class->kind != KIND_REROUTE) return yyjson_obj_get(n->inputs, name);
    yyjson_obj_iter members = yyjson_obj_iter_with(n->inputs);
    yyjson_val *key = yyjson_obj_iter_next(&members);
    return key != NULL ? yyjson_obj_iter_get_val(key) : NULL;
}

comfy_node *comfy_source_of(comfy_graph *g, const comfy_node *n, const char *input, int *slot) {
    comfy_node *to = linked(g, input_of(n, input), slot);
    /* A circle of reroutes was refused when it was walked, at the latest after all nodes. */
    for (int i = 0; i < g->count && to != NULL && to->class->kind == KIND_REROUTE; i++) to = linked(g, input_of(to, ""), slot);
    return to;
}

/* The literal that an input comes to; NULL: it is absent, or what is linked makes no value. */
static yyjson_val *literal(comfy_graph *g, const comfy_node *n, const char *input) {
    yyjson_val *v = input_of(n, input);
    for (int i = 0; i < g->count && yyjson_is_arr(v); i++) {
        int slot;
        const comfy_node *from = linked(g, v, &slot);
        bool passes = from != NULL && (from->class->kind == KIND_PRIMITIVE || from->class->kind == KIND_REROUTE);
        v = passes ? input_of(from, "value") : NULL;
    }
    return yyjson_is_arr(v) ? NULL : v;
}

static bool to_number(yyjson_val *v, double *out) {
    char *end;
    if (yyjson_is_bool(v)) *out = yyjson_get_bool(v);
    else if (yyjson_is_num(v)) *out = yyjson_get_num(v);
    else if (yyjson_is_str(v) && yyjson_get_len(v) > 0) {
        *out = strtod(yyjson_get_str(v), &end);
        if (*end != '\0') return false;
    } else return false;
    return isfinite(*out);
}

static uint64_t to_whole(yyjson_val *v, double number) {
    if (yyjson_is_uint(v)) return yyjson_get_uint(v);
    if (yyjson_is_str(v) && yyjson_get_str(v)[0] != '-') return strtoull(yyjson_get_str(v), NULL, 10);
    return number > 0 && number < past_64_bits ? (uint64_t)number : 0;
}

comfy_value comfy_value_of(comfy_graph *g, const comfy_node *n, const char *input) {
    const comfy_input *i = comfy_class_input(n->class, input);
    yyjson_val *v = literal(g, n, input);
    comfy_value out = {.number = i->initial, .text = i->text != NULL ? i->text : "", .flag = i->initial != 0};
    out.whole = out.number > 0 ? (uint64_t)out.number : 0;
    if (v == NULL) return out;
    if (to_number(v, &out.number)) out.whole = to_whole(v, out.number);
    if (i->type == COMFY_INT) out.number = trunc(out.number);
    if (yyjson_is_str(v)) out.text = yyjson_get_str(v);
    if (yyjson_is_bool(v)) out.flag = yyjson_get_bool(v);
    else if (yyjson_is_num(v)) out.flag = out.number != 0;
    return out;
}

/* --- checks --- */

static bool bad_value(comfy_graph *g, const comfy_node *n, const comfy_input *i, yyjson_val *v, const char *type, const char *format,
                      double a, double b) {
    char message[DETAIL_BYTES];
    snprintf(message, sizeof message, format, a, b);
    return comfy_problem(g, n, type, message, i->name, i, v);
}

static bool check_number(comfy_graph *g, const comfy_node *n, const comfy_input *i, yyjson_val *v) {
    double number;
    char details[DETAIL_BYTES], message[64];
    if (!to_number(v, &number)) {
        snprintf(message, sizeof message, "Failed to convert an input value to a %s value", comfy_type_name(i->type));
        snprintf(details, sizeof details, "%s, %.64s", i->name, yyjson_is_str(v) ? yyjson_get_str(v) : yyjson_get_type_desc(v));
        return comfy_problem(g, n, "invalid_input_type", message, details, i, v);
    }
    if (number < i->low) return bad_value(g, n, i, v, "value_smaller_than_min", "Value %.15g smaller than min of %.15g", number, i->low);
    if (number > i->high || (yyjson_is_real(v) && number >= past_64_bits))
        return bad_value(g, n, i, v, "value_bigger_than_max", "Value %.15g bigger than max of %.15g", number, i->high);
    return true;
}

static bool is_choice(comfy_graph *g, const comfy_input *i, const char *text) {
    comfy_picture picture;
    const char *const *names = comfy_choice_names(i->choices);
    for (; names != NULL && *names != NULL; names++)
        if (strcmp(*names, text) == 0) return true;
    if (i->choices == CHOOSE_MODEL) return g->world->model(g->world->context, text) != NULL;
    if (i->choices == CHOOSE_PICTURE) return g->world->picture(g->world->context, text, &picture);
    return i->choices == CHOOSE_CLIP || i->choices == CHOOSE_VAE;
}

/* "a", "b", … */
static void append_choices(comfy_graph *g, comfy_choices c, buffer *out) {
    yyjson_mut_val *list = comfy_choices_document(g->doc, c, g->world->list, g->world->context), *name;
    size_t i, max;
    yyjson_mut_arr_foreach(list, i, max, name) buffer_printf(out, "%s'%s'", i > 0 ? ", " : "", yyjson_mut_get_str(name));
}

static bool check_choice(comfy_graph *g, const comfy_node *n, const comfy_input *i, yyjson_val *v) {
    const char *text = yyjson_get_str(v);
    char details[DETAIL_BYTES];
    if (text != NULL && is_choice(g, i, text)) return true;
    if (i->choices == CHOOSE_PICTURE) {
        snprintf(details, sizeof details, "%s - Invalid image file: %.128s", i->name, text != NULL ? text : yyjson_get_type_desc(v));
        return comfy_problem(g, n, "custom_validation_failed", "Custom validation failed for node", details, i, v);
    }
    buffer said = {0}, names = {0};
    append_choices(g, i->choices, &names);
    buffer_printf(&said, "%s: '%.128s' not in [%.1024s]", i->name, text != NULL ? text : yyjson_get_type_desc(v), buffer_text(&names));
    comfy_problem(g, n, "value_not_in_list", "Value not in list", buffer_text(&said), i, v);
    buffer_free(&said);
    buffer_free(&names);
    return false;
}

static bool check_value(comfy_graph *g, const comfy_node *n, const comfy_input *i, yyjson_val *v) {
    switch (i->type) {
    case COMFY_INT:
    case COMFY_FLOAT: return check_number(g, n, i, v);
    case COMFY_COMBO: return check_choice(g, n, i, v);
    case COMFY_STRING:
        if (yyjson_is_null(v)) return true; /* as if it were not there: some clients send it for a text that they have not */
        if (yyjson_is_str(v) && strlen(yyjson_get_str(v)) == yyjson_get_len(v)) return true;
        return comfy_problem(g, n, "invalid_input_type", "Failed to convert an input value to a STRING value", i->name, i, v);
    case COMFY_BOOLEAN:
        if (yyjson_is_bool(v) || yyjson_is_num(v)) return true;
        return comfy_problem(g, n, "invalid_input_type", "Failed to convert an input value to a BOOLEAN value", i->name, i, v);
    default:
        return comfy_problem(g, n, "bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", i->name, i, v);
    }
}

static bool walk(comfy_graph *g, comfy_node *n);

static bool check_link(comfy_graph *g, comfy_node *n, const comfy_input *i, yyjson_val *v) {
    int slot;
    char details[DETAIL_BYTES];
    comfy_node *from = linked(g, v, &slot);
    if (from == NULL)
        return comfy_problem(g, n, "bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", i->name, i, v);
    if (!walk(g, from)) return false;
    if (from->class->kind == KIND_REROUTE) from = comfy_source_of(g, from, "", &slot);
    comfy_type made = from != NULL ? from->class->outputs[slot].type : COMFY_NONE;
    if (i->type == COMFY_ANY || made == i->type) {
        yyjson_val *value = i->type >= COMFY_INT ? literal(g, n, i->name) : NULL;
        return value == NULL || check_value(g, n, i, value);
    }
    snprintf(details, sizeof details, "%s, received_type(%s) mismatch input_type(%s)", i->name, comfy_type_name(made),
             comfy_type_name(i->type));
    yyjson_mut_val *info = note_problem(g, n, "return_type_mismatch", "Return type mismatch between linked nodes", details);
    if (info == NULL) return false;
    add_config(g, info, i);
    yyjson_mut_obj_add_str(g->doc, info, "received_type", comfy_type_name(made));
    yyjson_mut_obj_add_val(g->doc, info, "linked_node", yyjson_val_mut_copy(g->doc, v));
    return false;
}

static bool check_input(comfy_graph *g, comfy_node *n, const comfy_input *i) {
    yyjson_val *v = input_of(n, i->name);
    if (v == NULL && !i->optional) {
        yyjson_mut_val *info = note_problem(g, n, "required_input_missing", "Required input is missing", i->name);
        if (info != NULL) add_text(g->doc, info, "input_name", i->name);
    }
    if (v == NULL) return i->optional;
    return yyjson_is_arr(v) ? check_link(g, n, i, v) : check_value(g, n, i, v);
}

/* What the node makes is told by its class, its values, and what it is linked to; a picture by its bytes. */
static bool sign(comfy_graph *g, comfy_node *n) {
    buffer text = {0};
    buffer_printf(&text, "%s", n->class->name);
    for (int i = 0; i < COMFY_INPUTS && n->class->inputs[i].name != NULL; i++) {
        const comfy_input *in = &n->class->inputs[i];
        yyjson_val *v = input_of(n, in->name);
        int slot;
        comfy_picture picture;
        const comfy_node *from = linked(g, v, &slot);
        buffer_printf(&text, "\n%s=", in->name);
        if (from != NULL) buffer_printf(&text, "%s %d", from->signature, slot);
        else if (v != NULL) append_value(&text, v);
        if (in->choices == CHOOSE_PICTURE && yyjson_is_str(v) && g->world->picture(g->world->context, yyjson_get_str(v), &picture))
            buffer_printf(&text, " %s %s", picture.image, picture.mask);
    }
    bool ok = buffer_ok(&text);
    sha256_text(buffer_text(&text), text.size, n->signature);
    buffer_free(&text);
    return ok || comfy_problem(g, n, "out_of_memory", "Not enough memory for the graph", n->id, NULL, NULL);
}

/* Checks the node and all that it needs, and puts them in order. */
static bool walk(comfy_graph *g, comfy_node *n) {
    if (n->walked == NODE_DONE || n->walked == NODE_BAD) return n->walked == NODE_DONE;
    if (n->walked == NODE_OPEN) return comfy_problem(g, n, "dependency_cycle", "Dependency cycle detected", n->id, NULL, NULL);
    n->walked = NODE_OPEN;
    bool ok = true;
    for (int i = 0; i < COMFY_INPUTS && n->class->inputs[i].name != NULL; i++) ok = check_input(g, n, &n->class->inputs[i]) && ok;
    n->walked = ok ? NODE_DONE : NODE_BAD; /* what is bad was told once, however many need it */
    if (!ok) return false;
    g->order[g->walked++] = (int)(n - g->nodes);
    return sign(g, n);
}

/* --- the graph --- */

/* One node's id and class; *fault where there is no such class. */
static bool take_node(comfy_graph *g, yyjson_val *key, yyjson_val *v, yyjson_mut_doc **fault) {
    const char *id = yyjson_get_str(key), *class = yyjson_get_str(yyjson_obj_get(v, "class_type"));
    const char *title = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(v, "_meta"), "title"));
    char message[DETAIL_BYTES], details[DETAIL_BYTES];
    yyjson_mut_val *extra;
    snprintf(details, sizeof details, "Node ID '#%.64s'", id);
    if (strlen(id) != yyjson_get_len(key) || id[0] == '\0' || strlen(id) >= COMFY_NODE_ID_BYTES || g->count == COMFY_GRAPH_NODES) {
        snprintf(message, sizeof message, "At most %d nodes are taken, with ids of at most %d bytes", COMFY_GRAPH_NODES,
                 COMFY_NODE_ID_BYTES - 1);
        *fault = comfy_fault("invalid_prompt", message, details);
        return false;
    }
    g->nodes[g->count] = (comfy_node){.id = id, .class = class != NULL ? comfy_class_find(class) : NULL};
    if (find(g, id) != NULL) {
        *fault = comfy_fault("invalid_prompt", "Two nodes have the same id", details);
        return false;
    }
    if (g->nodes[g->count].class == NULL) {
        if (title == NULL) title = class != NULL ? class : id;
        if (class != NULL) snprintf(message, sizeof message, "Node '%.128s' not found. This server knows no such node.", title);
        else snprintf(message, sizeof message, "Node '%.128s' has no class_type. The workflow may be corrupted.", title);
        *fault = new_fault("missing_node_type", message, details, &extra, NULL);
        add_text(*fault, extra, "node_id", id);
        if (class != NULL) add_text(*fault, extra, "class_type", class);
        else yyjson_mut_obj_add_null(*fault, extra, "class_type");
        add_text(*fault, extra, "node_title", title);
        return false;
    }
    yyjson_val *inputs = yyjson_obj_get(v, "inputs");
    g->nodes[g->count++].inputs = yyjson_is_obj(inputs) ? inputs : NULL;
    return true;
}

static bool take_nodes(comfy_graph *g, yyjson_val *from, yyjson_mut_doc **fault) {
    if (!yyjson_is_obj(from)) {
        *fault = comfy_fault("invalid_prompt", "The prompt must be an object of nodes", "");
        return false;
    }
    yyjson_obj_iter members = yyjson_obj_iter_with(from);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&members)) != NULL;)
        if (!take_node(g, key, yyjson_obj_iter_get_val(key), fault)) return false;
    for (int i = 0; i < g->count; i++)
        if (g->nodes[i].class->is_output) return true;
    *fault = comfy_fault("prompt_no_outputs", "Prompt has no outputs", "");
    return false;
}

static bool read_graph(comfy_graph *g, comfy_plan *out) {
    for (g->output = 0; g->output < g->count; g->output++)
        if (g->nodes[g->output].class->is_output) walk(g, &g->nodes[g->output]);
    /* ComfyUI runs the outputs that are right and leaves out the others; here one request makes them all. */
    return g->problems == 0 && comfy_translate(g, out);
}

/* The problems become the answer. */
static yyjson_mut_doc *tell_problems(comfy_graph *g) {
    yyjson_mut_val *root = yyjson_mut_obj(g->doc);
    add_error(g->doc, yyjson_mut_obj_add_obj(g->doc, root, "error"), "prompt_outputs_failed_validation", "Prompt outputs failed validation",
              buffer_text(&g->details));
    yyjson_mut_obj_add_val(g->doc, root, "node_errors", g->node_errors);
    yyjson_mut_doc_set_root(g->doc, root);
    yyjson_mut_doc *doc = g->doc;
    g->doc = NULL;
    return doc;
}

bool comfy_graph_read(yyjson_val *from, const comfy_world *world, comfy_plan *out, yyjson_mut_doc **fault) {
    comfy_graph *g = calloc(1, sizeof *g);
    *fault = NULL;
    memset(out, 0, sizeof *out);
    if (g == NULL) return false;
    *g = (comfy_graph){.world = world, .doc = yyjson_mut_doc_new(NULL)};
    g->node_errors = yyjson_mut_obj(g->doc);
    bool ok = g->node_errors != NULL && take_nodes(g, from, fault) && read_graph(g, out);
    if (!ok && g->problems > 0) *fault = tell_problems(g);
    yyjson_mut_doc_free(g->doc);
    buffer_free(&g->details);
    free(g);
    return ok;
}
