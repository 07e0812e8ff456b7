#include "compute/segments.h"

#include <stdlib.h>

/* An operation and the segment it belongs to. */
typedef struct member {
    const struct ggml_tensor *tensor;
    int segment;
} member;

struct segments {
    member *members; /* in order of tensor, which is the order they were made in, as they lie in one arena */
    size_t member_count;
    int count;
    struct ggml_context *memory;
    struct ggml_cgraph *order;
    struct ggml_cgraph **parts;
};

static int by_tensor(const void *a, const void *b) {
    const member *x = a, *y = b;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static int segment_of(const segments *s, const struct ggml_tensor *t) {
    const member key = {.tensor = t}, *found = bsearch(&key, s->members, s->member_count, sizeof key, by_tensor);
    return found != NULL ? found->segment : 0;
}

/* An operation belongs where its latest source does or its weights. Sources are made before what uses them, so one pass finds all. */
static bool assign(segments *s, struct ggml_context *tensors, const streaming *stream, error *e) {
    size_t count = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(tensors); t != NULL; t = ggml_get_next_tensor(tensors, t)) count++;
    s->members = malloc((count + 1) * sizeof *s->members);
    if (s->members == NULL) return error_no_memory(e, "a graph's segments", count * sizeof *s->members);
    for (struct ggml_tensor *t = ggml_get_first_tensor(tensors); t != NULL; t = ggml_get_next_tensor(tensors, t)) {
        int segment = 0, weights = 0;
        for (int i = 0; i < GGML_MAX_SRC; i++) {
            if (t->src[i] == NULL) continue;
            int group = streaming_group_of(stream, t->src[i]) + 1, before = segment_of(s, t->src[i]);
            if (group > 0 && weights > 0 && group != weights) return error_set(e, ERROR_INTERNAL, "'%s' uses two groups of weights", t->name);
            if (group > 0) weights = group;
            if (before > segment) segment = before;
        }
        if (weights > 0 && segment > weights) return error_set(e, ERROR_INTERNAL, "the weights of group %d are used after those of %d", weights, segment);
        s->members[s->member_count++] = (member){t, weights > segment ? weights : segment};
    }
    return true;
}

/* Graphs that only hold what they are given: room for the nodes, and for the leaves that the first of them lists too. */
static bool make_graphs(segments *s, struct ggml_cgraph *whole, error *e) {
    size_t nodes = (size_t)ggml_graph_n_nodes(whole), all = (size_t)ggml_graph_size(whole);
    size_t bytes = ggml_graph_overhead_custom(all, false);
    size_t *sizes = calloc((size_t)s->count, sizeof *sizes);
    s->parts = calloc((size_t)s->count, sizeof *s->parts);
    if (sizes != NULL && s->parts != NULL) {
        for (size_t i = 0; i < nodes; i++) sizes[segment_of(s, ggml_graph_node(whole, (int)i))]++;
        for (int i = 0; i < s->count; i++) bytes += ggml_graph_overhead_custom(sizes[i] + 1, false);
        s->memory = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    }
    if (s->memory != NULL) {
        s->order = ggml_new_graph_custom(s->memory, all, false);
        for (int i = 0; i < s->count; i++) s->parts[i] = ggml_new_graph_custom(s->memory, sizes[i] + 1, false);
    }
    free(sizes);
    return s->memory != NULL || error_no_memory(e, "a graph's segments", bytes);
}

static void fill_graphs(segments *s, struct ggml_cgraph *whole) {
    for (int segment = 0; segment < s->count; segment++)
        for (int i = 0; i < ggml_graph_n_nodes(whole); i++) {
            struct ggml_tensor *node = ggml_graph_node(whole, i);
            if (segment_of(s, node) != segment) continue;
            ggml_build_forward_expand(s->order, node); /* its sources are there: only the node itself is added */
            ggml_graph_add_node(s->parts[segment], node);
        }
}

bool segments_new(struct ggml_context *tensors, struct ggml_cgraph *whole, const streaming *stream, segments **out, error *e) {
    *out = NULL;
    segments *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "a graph's segments", sizeof *s);
    s->count = streaming_groups(stream) + 1;
    if (!assign(s, tensors, stream, e) || !make_graphs(s, whole, e)) {
        segments_free(s);
        return false;
    }
    fill_graphs(s, whole);
    *out = s;
    return true;
}

void segments_free(segments *s) {
    if (s == NULL) return;
    if (s->memory != NULL) ggml_free(s->memory);
    free(s->parts);
    free(s->members);
    free(s);
}

struct ggml_cgraph *segments_order(const segments *s) { return s->order; }
int segments_count(const segments *s) { return s->count; }
struct ggml_cgraph *segments_at(const segments *s, int index) { return s->parts[index]; }
