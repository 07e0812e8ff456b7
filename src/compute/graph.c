#include "compute/graph.h"

#include <ggml-alloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "compute/custom.h"
#include "compute/segments.h"

/* One operation of ops.h can be several of ggml's. */
enum { TENSORS_PER_NODE = 8, SPARE_TENSORS = 256 };

typedef struct custom {
    graph *g;
    custom_kernel kernel;
    int64_t chunks;
    _Alignas(16) unsigned char parameters[];
} custom;

typedef struct tensor_link {
    struct tensor_link *next;
    struct ggml_tensor *tensor;
} tensor_link;

struct graph {
    device *d;
    struct ggml_context *tensors; /* what the operations are, no data */
    struct ggml_context *order;   /* holds cgraph */
    struct ggml_cgraph *cgraph;
    streaming *stream;  /* borrowed; NULL: every weight stays where it is */
    segments *segments; /* cgraph cut by the stream's groups */
    ggml_gallocr_t allocator;
    ggml_backend_buffer_t input_buffer; /* apart, so that an input keeps its value from run to run */
    size_t input_bytes, node_bytes, needed_bytes; /* as sized */
    size_t claimed_bytes;                         /* of the device's ledger */
    tensor_link *inputs, *outputs, *milestones;
    size_t scratch_bytes; /* of one thread */
    unsigned char *scratch;
    _Atomic(const char *) fault; /* what a kernel complained of */
    arena memory;
    bool half_allowed;
    size_t attention_slice; /* bytes of scores; 0: not bounded */
    bool failed; /* an allocation failed while building */
};

bool graph_new(device *d, size_t max_nodes, graph **out, error *e) {
    *out = NULL;
    graph *g = calloc(1, sizeof *g);
    size_t bytes;
    if (g == NULL) return error_no_memory(e, "a graph", sizeof *g);
    g->d = d;
    if (!checked_mul(max_nodes, TENSORS_PER_NODE, &bytes) || !checked_add(bytes, SPARE_TENSORS, &bytes) ||
        !checked_mul(bytes, ggml_tensor_overhead(), &bytes)) {
        graph_free(g);
        return error_set(e, ERROR_TOO_LARGE, "a graph of %zu operations is too large", max_nodes);
    }
    g->tensors = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    if (g->tensors == NULL) {
        graph_free(g);
        return error_no_memory(e, "a graph", bytes);
    }
    *out = g;
    return true;
}

void graph_free(graph *g) {
    if (g == NULL) return;
    if (g->allocator != NULL) ggml_gallocr_free(g->allocator);
    if (g->input_buffer != NULL) ggml_backend_buffer_free(g->input_buffer);
    segments_free(g->segments);
    if (g->order != NULL) ggml_free(g->order);
    if (g->tensors != NULL) ggml_free(g->tensors);
    free(g->scratch);
    device_unclaim(g->d, DEVICE_COMPUTE, g->claimed_bytes);
    arena_free(&g->memory);
    free(g);
}

void graph_allow_half(graph *g) { g->half_allowed = true; }
bool graph_half_allowed(const graph *g) { return g->half_allowed; }
void graph_set_attention_slice(graph *g, size_t bytes) { g->attention_slice = bytes; }
size_t graph_attention_slice(const graph *g) { return g->attention_slice; }
void graph_stream(graph *g, streaming *s) { g->stream = s; }
struct ggml_context *graph_context(graph *g) { return g->tensors; }
device *graph_device(const graph *g) { return g->d; }

void *graph_alloc(graph *g, size_t size) {
    void *result = arena_alloc(&g->memory, size);
    if (result == NULL) g->failed = true;
    return result;
}

static void append(graph *g, tensor_link **list, struct ggml_tensor *t) {
    tensor_link *link = graph_alloc(g, sizeof *link);
    if (link == NULL) return;
    link->tensor = t;
    while (*list != NULL) list = &(*list)->next;
    *list = link;
}

struct ggml_tensor *graph_input(graph *g, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3) {
    struct ggml_tensor *t = ggml_new_tensor_4d(g->tensors, type, ne0, ne1, ne2, ne3);
    ggml_set_input(t);
    append(g, &g->inputs, t);
    return t;
}

struct ggml_tensor *graph_output(graph *g, struct ggml_tensor *t) {
    ggml_set_output(t);
    append(g, &g->outputs, t);
    return t;
}

void graph_then(graph *g, struct ggml_tensor *t) { append(g, &g->milestones, t); }

/* ── our own operations ── */

typedef struct custom_run {
    custom *op;
    struct ggml_tensor *dst;
    _Atomic int64_t taken;
} custom_run;

static void take_chunks(void *context, int thread) {
    custom_run *run = context;
    const custom *op = run->op;
    graph *g = op->g;
    void *scratch = g->scratch_bytes > 0 ? g->scratch + (size_t)thread * g->scratch_bytes : NULL;
    for (;;) {
        int64_t chunk = atomic_fetch_add_explicit(&run->taken, 1, memory_order_relaxed);
        if (chunk >= op->chunks) return;
        const char *fault = op->kernel(run->dst, op->parameters, chunk, scratch);
        if (fault != NULL) atomic_store(&g->fault, fault);
    }
}

static void run_custom(struct ggml_tensor *dst, int ith, int nth, void *context) {
    (void)ith;
    (void)nth;
    custom_run run = {.op = context, .dst = dst};
    team_run(device_team(run.op->g->d), take_chunks, &run, run.op->chunks);
}

struct ggml_tensor *custom_add(graph *g, const custom_spec *spec) {
    const int64_t *ne = spec->ne;
    struct ggml_tensor *sources[CUSTOM_MAX_SOURCES];
    int count = 0;
    while (count < CUSTOM_MAX_SOURCES && spec->sources[count] != NULL) {
        sources[count] = spec->sources[count];
        count++;
    }
    custom *op = graph_alloc(g, sizeof *op + spec->parameter_bytes);
    if (op == NULL) return ggml_new_tensor_4d(g->tensors, GGML_TYPE_F32, ne[0], ne[1], ne[2], ne[3]); /* graph_reserve will say so */
    op->g = g;
    op->kernel = spec->kernel;
    op->chunks = spec->chunks;
    if (spec->parameter_bytes > 0) memcpy(op->parameters, spec->parameters, spec->parameter_bytes);
    size_t scratch = (spec->scratch_bytes + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
    if (scratch > g->scratch_bytes) g->scratch_bytes = scratch;
    return ggml_custom_4d(g->tensors, GGML_TYPE_F32, ne[0], ne[1], ne[2], ne[3], sources, count, run_custom, 1, op);
}

/* ── memory ── */

/* Weights are leaves of the graph but live elsewhere: every source is room for one. */
static bool order_nodes(graph *g, error *e) {
    size_t count = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(g->tensors); t != NULL; t = ggml_get_next_tensor(g->tensors, t)) {
        count++;
        for (int i = 0; i < GGML_MAX_SRC; i++) count += t->src[i] != NULL;
    }
    size_t bytes = ggml_graph_overhead_custom(count + 1, false);
    g->order = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    if (g->order == NULL) return error_no_memory(e, "a graph", bytes);
    g->cgraph = ggml_new_graph_custom(g->order, count + 1, false);
    for (tensor_link *l = g->inputs; l != NULL; l = l->next) ggml_build_forward_expand(g->cgraph, l->tensor);
    for (tensor_link *l = g->milestones; l != NULL; l = l->next) ggml_build_forward_expand(g->cgraph, l->tensor);
    for (tensor_link *l = g->outputs; l != NULL; l = l->next) ggml_build_forward_expand(g->cgraph, l->tensor);
    return g->stream == NULL || segments_new(g->cgraph, g->stream, &g->segments, e);
}

static ggml_backend_buffer_type_t buffer_type(const graph *g) { return ggml_backend_get_default_buffer_type(device_backend(g->d)); }

static size_t scratch_of_all(const graph *g) { return g->scratch_bytes * (size_t)device_threads(g->d); }

static size_t size_inputs(const graph *g) {
    size_t alignment = ggml_backend_buft_get_alignment(buffer_type(g)), bytes = alignment;
    if (g->inputs == NULL) return 0;
    for (tensor_link *l = g->inputs; l != NULL; l = l->next)
        bytes += (ggml_backend_buft_get_alloc_size(buffer_type(g), l->tensor) + alignment - 1) / alignment * alignment;
    return bytes;
}

/* The inputs have a buffer of their own: while ggml plans the others' places, they are given one that nobody looks at. */
static void pretend_inputs_placed(graph *g, void *place) {
    for (tensor_link *l = g->inputs; l != NULL; l = l->next) l->tensor->data = place;
}

static bool size_nodes(graph *g, error *e) {
    g->allocator = ggml_gallocr_new(buffer_type(g));
    if (g->allocator == NULL) return error_no_memory(e, "a graph's allocator", sizeof *g);
    pretend_inputs_placed(g, g);
    ggml_gallocr_reserve_n_size(g->allocator, g->cgraph, NULL, NULL, &g->node_bytes);
    pretend_inputs_placed(g, NULL);
    return true;
}

bool graph_size(graph *g, error *e) {
    if (g->failed) return error_no_memory(e, "building a graph", g->memory.total);
    if (!order_nodes(g, e) || !size_nodes(g, e)) return false;
    g->input_bytes = size_inputs(g);
    g->needed_bytes = g->input_bytes + g->node_bytes + scratch_of_all(g);
    return true;
}

bool graph_measure(graph *g, error *e) { return graph_size(g, e) && device_could_claim(g->d, DEVICE_COMPUTE, g->needed_bytes, e); }

static bool claim(graph *g, error *e) {
    if (!device_claim(g->d, DEVICE_COMPUTE, g->needed_bytes, e)) return false;
    g->claimed_bytes = g->needed_bytes;
    return true;
}

static bool could_not_be_had(const graph *g, size_t bytes, error *e) {
    return error_set(e, ERROR_OUT_OF_MEMORY, "the computation needs %zu MiB of %s memory, which could not be had", bytes >> 20,
                     device_kind(g->d));
}

static bool allocate_inputs(graph *g, error *e) {
    if (g->inputs == NULL) return true;
    g->input_buffer = ggml_backend_buft_alloc_buffer(buffer_type(g), g->input_bytes);
    if (g->input_buffer == NULL) return could_not_be_had(g, g->input_bytes, e);
    ggml_backend_buffer_clear(g->input_buffer, 0);
    struct ggml_tallocr place = ggml_tallocr_new(g->input_buffer);
    for (tensor_link *l = g->inputs; l != NULL; l = l->next)
        if (ggml_tallocr_alloc(&place, l->tensor) != GGML_STATUS_SUCCESS) return error_set(e, ERROR_DEVICE, "the device refused an input");
    return true;
}

static bool allocate_scratch(graph *g, error *e) {
    size_t bytes;
    if (g->scratch_bytes == 0) return true;
    if (!checked_mul(g->scratch_bytes, (size_t)device_threads(g->d), &bytes) ||
        (g->scratch = aligned_alloc(SCRATCH_ALIGNMENT, bytes)) == NULL)
        return error_no_memory(e, "the threads' scratch memory", g->scratch_bytes);
    return true;
}

static bool allocate_nodes(graph *g, error *e) {
    return (ggml_gallocr_reserve(g->allocator, g->cgraph) && ggml_gallocr_alloc_graph(g->allocator, g->cgraph)) ||
           could_not_be_had(g, g->node_bytes, e);
}

bool graph_reserve(graph *g, error *e) {
    if (!graph_size(g, e) || !claim(g, e) || !allocate_inputs(g, e) || !allocate_scratch(g, e) || !allocate_nodes(g, e)) return false;
    size_t real = graph_buffer_bytes(g);
    device_correct(g->d, DEVICE_COMPUTE, g->claimed_bytes, real);
    g->claimed_bytes = real;
    return true;
}

size_t graph_needed_bytes(const graph *g) { return g->needed_bytes; }

size_t graph_buffer_bytes(const graph *g) {
    size_t nodes = g->allocator != NULL ? ggml_gallocr_get_buffer_size(g->allocator, 0) : 0;
    size_t inputs = g->input_buffer != NULL ? ggml_backend_buffer_get_size(g->input_buffer) : 0;
    return nodes + inputs + (g->scratch != NULL ? scratch_of_all(g) : 0);
}

/* ── running ── */

void graph_set(struct ggml_tensor *input, const void *data) { ggml_backend_tensor_set(input, data, 0, ggml_nbytes(input)); }
void graph_set_part(struct ggml_tensor *input, const void *data, size_t offset, size_t size) {
    ggml_backend_tensor_set(input, data, offset, size);
}
void graph_get(const struct ggml_tensor *output, void *data) { ggml_backend_tensor_get(output, data, 0, ggml_nbytes(output)); }

/* Each segment is handed to the device as soon as its weights are on their way; the device waits for them, not this thread. */
static enum ggml_status run_segments(graph *g) {
    ggml_backend_t backend = device_backend(g->d);
    streaming_begin(g->stream);
    enum ggml_status status = ggml_backend_graph_compute_async(backend, segments_at(g->segments, 0));
    for (int i = 1; status == GGML_STATUS_SUCCESS && i < segments_count(g->segments); i++) {
        streaming_acquire(g->stream, i - 1);
        status = ggml_backend_graph_compute_async(backend, segments_at(g->segments, i));
        streaming_release(g->stream, i - 1);
    }
    streaming_end(g->stream);
    return status;
}

bool graph_run(graph *g, error *e) {
    atomic_store(&g->fault, NULL);
    enum ggml_status status = g->stream != NULL ? run_segments(g) : ggml_backend_graph_compute(device_backend(g->d), g->cgraph);
    if (status == GGML_STATUS_ALLOC_FAILED) return error_set(e, ERROR_OUT_OF_MEMORY, "the device %s has no memory left", device_name(g->d));
    if (status != GGML_STATUS_SUCCESS)
        return error_set(e, ERROR_DEVICE, "the device %s failed: %s", device_name(g->d), ggml_status_to_string(status));
    const char *fault = atomic_load(&g->fault);
    return fault == NULL || error_set(e, ERROR_INTERNAL, "a computation failed: %s", fault);
}
