#include "compute/segments.h"

#include <stdlib.h>

struct segments {
    int count;
    int *ends; /* of each segment, in the whole order */
    struct ggml_context *memory;
    struct ggml_cgraph **parts;
};

/* What an operation uses of streamed weights is of one group, which is that of the operation before it or a later one. */
static bool find_ends(segments *s, struct ggml_cgraph *whole, const streaming *stream, error *e) {
    int now = 0, nodes = ggml_graph_n_nodes(whole);
    for (int i = 0; i < nodes; i++) {
        const struct ggml_tensor *node = ggml_graph_node(whole, i);
        for (int k = 0; k < GGML_MAX_SRC; k++) {
            int segment = node->src[k] != NULL ? streaming_group_of(stream, node->src[k]) + 1 : 0;
            if (segment == 0 || segment == now) continue;
            if (segment < now) return error_set(e, ERROR_INTERNAL, "'%s' is used behind the weights of a later group", node->src[k]->name);
            for (; now < segment; now++) s->ends[now] = i;
        }
    }
    for (; now < s->count; now++) s->ends[now] = nodes;
    return true;
}

static int begin(const segments *s, int segment) { return segment > 0 ? s->ends[segment - 1] : 0; }

/* Graphs that only hold what they are given. */
static bool make_parts(segments *s, struct ggml_cgraph *whole, error *e) {
    size_t bytes = 0;
    for (int i = 0; i < s->count; i++) bytes += ggml_graph_overhead_custom((size_t)(s->ends[i] - begin(s, i)) + 1, false);
    s->memory = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    if (s->memory == NULL) return error_no_memory(e, "a graph's segments", bytes);
    for (int i = 0; i < s->count; i++) {
        s->parts[i] = ggml_new_graph_custom(s->memory, (size_t)(s->ends[i] - begin(s, i)) + 1, false);
        for (int node = begin(s, i); node < s->ends[i]; node++) ggml_graph_add_node(s->parts[i], ggml_graph_node(whole, node));
    }
    return true;
}

bool segments_new(struct ggml_cgraph *whole, const streaming *stream, segments **out, error *e) {
    *out = NULL;
    segments *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->count = streaming_groups(stream) + 1;
        s->ends = calloc((size_t)s->count, sizeof *s->ends);
        s->parts = calloc((size_t)s->count, sizeof *s->parts);
    }
    bool ok = s != NULL && s->ends != NULL && s->parts != NULL;
    if (!ok) error_no_memory(e, "a graph's segments", sizeof *s);
    ok = ok && find_ends(s, whole, stream, e) && make_parts(s, whole, e);
    if (!ok) segments_free(s);
    else *out = s;
    return ok;
}

void segments_free(segments *s) {
    if (s == NULL) return;
    if (s->memory != NULL) ggml_free(s->memory);
    free(s->parts);
    free(s->ends);
    free(s);
}

int segments_count(const segments *s) { return s->count; }
struct ggml_cgraph *segments_at(const segments *s, int index) { return s->parts[index]; }
