#include "compute/weight_set.h"

#include <ggml-alloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "compute/residency.h"

enum { MAX_NAME_BYTES = 512, STAGING_FLOATS = 64 * 1024 };

/* A weight someone took. */
typedef struct taken {
    const weight *weight;
    struct ggml_tensor *tensor;
    struct ggml_tensor *home; /* a streamed weight's copy in main memory; NULL for others, and on the CPU */
    int group;
    bool in_place; /* data stays in the mapping */
} taken;

struct weight_set {
    device *d;
    struct ggml_context *mapped, *copied; /* the tensors of the mapping; those with memory of their own */
    ggml_backend_buffer_t *files;         /* one around each mapped file */
    size_t file_count;
    ggml_backend_buffer_t copies;
    size_t claimed_bytes; /* of the device's ledger */
    struct ggml_context *homes; /* the streamed weights' copies in main memory */
    ggml_backend_buffer_t pinned;
    size_t pinned_claim;
    streaming *stream; /* NULL: every weight stays */
    residency_plan plan;
};

struct weight_loader {
    const tensor_store *store;
    precision precision;
    void (*progress)(void *context, size_t bytes); /* may be NULL */
    void *progress_context;
    char prefix[MAX_NAME_BYTES];
    int group, last_group;
    size_t budget;
    taken *taken; /* by index in the store; weight NULL: not taken */
    weight_set *set;
    error fault;
    bool failed;
    bool bias; /* what is taken now is a bias of compute_linear */
};

static bool fail(weight_loader *l) {
    l->failed = true;
    return false;
}

bool weight_loader_new(device *d, const tensor_store *s, precision p, weight_loader **out, error *e) {
    *out = NULL;
    if (p == PRECISION_INT8) return error_set(e, ERROR_UNSUPPORTED, "the precision int8 is not available yet; f32, bf16 and f16 are");
    weight_loader *l = calloc(1, sizeof *l);
    if (l == NULL) return error_no_memory(e, "weights", sizeof *l);
    size_t count = tensor_store_count(s), bytes = (count + 1) * ggml_tensor_overhead();
    l->store = s;
    l->precision = p;
    l->budget = SIZE_MAX;
    l->taken = calloc(count + 1, sizeof *l->taken);
    if (l->taken != NULL && (l->set = calloc(1, sizeof *l->set)) != NULL) {
        l->set->d = d;
        l->set->mapped = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
        l->set->copied = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    }
    if (l->set == NULL || l->set->mapped == NULL || l->set->copied == NULL) {
        weight_loader_free(l);
        return error_no_memory(e, "a list of weights", 2 * bytes);
    }
    *out = l;
    return true;
}

void weight_loader_free(weight_loader *l) {
    if (l == NULL) return;
    weight_set_free(l->set);
    free(l->taken);
    free(l);
}

void weight_loader_progress(weight_loader *l, void (*progress)(void *context, size_t bytes), void *context) {
    l->progress = progress;
    l->progress_context = context;
}

void weight_loader_prefix(weight_loader *l, const char *prefix) {
    if ((size_t)snprintf(l->prefix, sizeof l->prefix, "%s", prefix) >= sizeof l->prefix)
        fail(l), error_set(&l->fault, ERROR_INTERNAL, "the prefix '%s' is too long", prefix);
}

void weight_group(weight_loader *l, int n) {
    l->group = n >= 0 && n <= WEIGHT_MAX_GROUP ? n : 0;
    if (l->group > l->last_group) l->last_group = l->group;
}

void weight_loader_budget(weight_loader *l, size_t bytes) { l->budget = bytes; }

/* The prefixed name; an over-long one is cut and then found nowhere. */
static void make_name(const weight_loader *l, char name[2 * MAX_NAME_BYTES], const char *format, va_list args) {
    char *rest = stpcpy(name, l->prefix);
    vsnprintf(rest, MAX_NAME_BYTES, format, args);
}

bool weight_has(const weight_loader *l, const char *format, ...) {
    char name[2 * MAX_NAME_BYTES];
    va_list args;
    va_start(args, format);
    make_name(l, name, format, args);
    va_end(args);
    return tensor_store_find(l->store, name) != NULL;
}

/* ── types ── */

static enum ggml_type type_of(weight_type t) {
    switch (t) {
    case WEIGHT_F32:
    case WEIGHT_F64: return GGML_TYPE_F32;
    case WEIGHT_F16: return GGML_TYPE_F16;
    case WEIGHT_BF16: return GGML_TYPE_BF16;
    case WEIGHT_I32:
    case WEIGHT_I64:
    case WEIGHT_OTHER: break;
    }
    return GGML_TYPE_COUNT;
}

/* Whether the device multiplies f32 activations by weights of this type. */
static bool can_multiply(const device *d, enum ggml_type type) {
    if (device_is_cpu(d) || type == GGML_TYPE_F32) return true;
    struct ggml_context *c = ggml_init((struct ggml_init_params){.mem_size = 4 * ggml_tensor_overhead(), .no_alloc = true});
    if (c == NULL) return false;
    struct ggml_tensor *w = ggml_new_tensor_2d(c, type, 64, 64), *x = ggml_new_tensor_2d(c, GGML_TYPE_F32, 64, 64);
    bool can = device_supports(d, ggml_mul_mat(c, w, x));
    ggml_free(c);
    return can;
}

/* The type that a weight has on the device. Vectors are f32, but for biases on the CPU, which compute_linear widens. The CPU widens 16-bit
 * weights exactly while it multiplies, so they stay as they are; GPUs would round the activations instead, so PRECISION_F32 uploads f32.
 * Convolution kernels on GPUs are f32, small as they are. Where nothing is asked for, GPUs take what is stored, and for f32 what
 * device_set_autocast says. */
static enum ggml_type target_type(const weight_loader *l, const weight *w) {
    const device *d = l->set->d;
    enum ggml_type stored = type_of(w->type);
    if (w->rank < 2) return l->bias && device_is_cpu(d) ? stored : GGML_TYPE_F32;
    if (!device_is_cpu(d) && w->rank != 2) return GGML_TYPE_F32;
    precision wanted = l->precision;
    if (wanted == PRECISION_AUTO && stored == GGML_TYPE_F32 && !device_is_cpu(d)) wanted = device_autocast(d);
    switch (wanted) {
    case PRECISION_BF16: return can_multiply(d, GGML_TYPE_BF16) ? GGML_TYPE_BF16 : GGML_TYPE_F32;
    case PRECISION_F16: return can_multiply(d, GGML_TYPE_F16) ? GGML_TYPE_F16 : GGML_TYPE_F32;
    case PRECISION_F32: return device_is_cpu(d) ? stored : GGML_TYPE_F32;
    case PRECISION_AUTO:
    case PRECISION_INT8: break;
    }
    return can_multiply(d, stored) ? stored : GGML_TYPE_F32;
}

/* ── taking ── */

static void shape_text(int rank, const int64_t *shape, buffer *text) {
    buffer_append_byte(text, '[');
    for (int i = 0; i < rank; i++) buffer_printf(text, shape[i] < 0 ? "%s?" : "%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
    buffer_append_byte(text, ']');
}

static bool check_shape(weight_loader *l, const weight *w, int rank, const int64_t *shape) {
    bool same = w->rank == rank;
    for (int i = 0; same && i < rank; i++) same = w->shape[i] > 0 && (shape[i] < 0 || shape[i] == w->shape[i]);
    if (same) return true;
    buffer is = {0}, should = {0};
    shape_text(w->rank, w->shape, &is);
    shape_text(rank, shape, &should);
    error_set(&l->fault, ERROR_BAD_FILE, "'%s' has the shape %s, not %s", w->name, buffer_text(&is), buffer_text(&should));
    buffer_free(&is);
    buffer_free(&should);
    return fail(l);
}

static struct ggml_tensor *take(weight_loader *l, const weight *w) {
    taken *t = &l->taken[w - tensor_store_at(l->store, 0)];
    if (t->weight != NULL) return t->tensor;
    enum ggml_type type = target_type(l, w);
    bool aligned = (uintptr_t)w->data % weight_type_size(w->type) == 0;
    int64_t ne[GGML_MAX_DIMS];
    for (int i = 0; i < w->rank; i++) ne[i] = w->shape[w->rank - 1 - i];
    if (w->rank == 0) ne[0] = 1;
    t->weight = w;
    t->group = l->group;
    t->in_place = device_is_cpu(l->set->d) && aligned && w->type != WEIGHT_F64 && type == type_of(w->type);
    t->tensor = ggml_new_tensor(t->in_place ? l->set->mapped : l->set->copied, type, w->rank > 0 ? w->rank : 1, ne);
    ggml_set_name(t->tensor, w->name);
    return t->tensor;
}

struct ggml_tensor *weight_take(weight_loader *l, int rank, const int64_t *shape, const char *format, ...) {
    if (l->failed) return NULL;
    char name[2 * MAX_NAME_BYTES];
    va_list args;
    va_start(args, format);
    make_name(l, name, format, args);
    va_end(args);
    const weight *w = tensor_store_find(l->store, name);
    if (w == NULL) {
        error_set(&l->fault, ERROR_BAD_FILE, "the weight '%s' is missing", name);
        fail(l);
        return NULL;
    }
    if (w->rank > GGML_MAX_DIMS || type_of(w->type) == GGML_TYPE_COUNT) {
        error_set(&l->fault, ERROR_UNSUPPORTED, "'%s' is not an array of floats of at most %d dimensions", name, GGML_MAX_DIMS);
        fail(l);
        return NULL;
    }
    return check_shape(l, w, rank, shape) ? take(l, w) : NULL;
}

struct ggml_tensor *weight_take_bias(weight_loader *l, int64_t size, const char *format, ...) {
    char name[MAX_NAME_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args); /* an over-long one is cut and then found nowhere */
    va_end(args);
    l->bias = true;
    struct ggml_tensor *t = weight_take(l, 1, &size, "%s", name);
    l->bias = false;
    return t;
}

/* ── placing ── */

/* ggml wants a buffer around memory that is not its own. It is never written to: the mapping is read-only. */
static bool wrap_files(weight_loader *l, error *e) {
    weight_set *s = l->set;
    if (ggml_get_first_tensor(s->mapped) == NULL) return true;
    size_t count = tensor_store_file_count(l->store);
    s->files = calloc(count, sizeof *s->files);
    if (s->files == NULL) return error_no_memory(e, "weights", count * sizeof *s->files);
    for (; s->file_count < count; s->file_count++) {
        const void *address;
        size_t length;
        tensor_store_file(l->store, s->file_count, &address, &length);
        s->files[s->file_count] = ggml_backend_cpu_buffer_from_ptr((void *)(uintptr_t)address, length);
        if (s->files[s->file_count] == NULL) return error_no_memory(e, "weights", length);
        ggml_backend_buffer_set_usage(s->files[s->file_count], GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    }
    return true;
}

static bool place_mapped(weight_loader *l, const taken *t, error *e) {
    const char *data = t->weight->data;
    for (size_t i = 0; i < l->set->file_count; i++) {
        const void *address;
        size_t length;
        tensor_store_file(l->store, i, &address, &length);
        if (data >= (const char *)address && data < (const char *)address + length)
            return ggml_backend_tensor_alloc(l->set->files[i], t->tensor, (void *)(uintptr_t)data) == GGML_STATUS_SUCCESS ||
                   error_set(e, ERROR_INTERNAL, "'%s' could not be used in place", t->weight->name);
    }
    return error_set(e, ERROR_INTERNAL, "'%s' lies in no file", t->weight->name);
}

static bool allocate_copies(weight_set *s, error *e) {
    if (ggml_get_first_tensor(s->copied) == NULL) return true;
    ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(device_backend(s->d));
    size_t bytes = ggml_backend_alloc_ctx_tensors_from_buft_size(s->copied, type);
    if (bytes == 0) return true; /* all of them are streamed */
    if (!device_claim(s->d, DEVICE_WEIGHTS, bytes, e)) return false;
    s->claimed_bytes = bytes;
    s->copies = ggml_backend_alloc_ctx_tensors_from_buft(s->copied, type);
    if (s->copies == NULL)
        return error_set(e, ERROR_OUT_OF_MEMORY, "the weights need %zu MiB of %s memory, which could not be had", bytes >> 20,
                         device_kind(s->d));
    ggml_backend_buffer_set_usage(s->copies, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    size_t real = ggml_backend_buffer_get_size(s->copies);
    device_correct(s->d, DEVICE_WEIGHTS, bytes, real);
    s->claimed_bytes = real;
    return true;
}

/* ── staying and streaming ── */

/* What the budget counts: on the CPU the mapping's pages, as private memory cannot come and go; elsewhere the device's memory. */
static size_t counted_bytes(const weight_loader *l, const taken *t) {
    if (device_is_cpu(l->set->d)) return t->in_place && tensor_store_mapped_bytes(l->store) > 0 ? t->weight->size : 0;
    ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(device_backend(l->set->d));
    size_t alignment = ggml_backend_buft_get_alignment(type);
    return (ggml_backend_buft_get_alloc_size(type, t->tensor) + alignment - 1) / alignment * alignment;
}

/* By group; the caller frees them. */
static bool size_groups(const weight_loader *l, size_t **out, error *e) {
    size_t *bytes = calloc((size_t)l->last_group + 1, sizeof *bytes);
    if ((*out = bytes) == NULL) return error_no_memory(e, "weights", (size_t)l->last_group * sizeof *bytes);
    for (size_t i = 0; i < tensor_store_count(l->store); i++)
        if (l->taken[i].weight != NULL) bytes[l->taken[i].group] += counted_bytes(l, &l->taken[i]);
    return true;
}

bool weight_loader_bounds(weight_loader *l, size_t *all, size_t *least, error *e) {
    size_t *bytes = NULL;
    *all = *least = 0;
    if (l->failed && e != NULL) *e = l->fault;
    bool ok = !l->failed && size_groups(l, &bytes, e) && residency_bounds(bytes, l->last_group + 1, all, least, e);
    free(bytes);
    /* A place that nobody looks at: graphs are sized without the weights, which have memory of their own. */
    for (size_t i = 0; i < tensor_store_count(l->store); i++)
        if (l->taken[i].weight != NULL) l->taken[i].tensor->data = l;
    return ok;
}

static bool plan_residency(weight_loader *l, error *e) {
    size_t *bytes;
    bool ok = size_groups(l, &bytes, e) && residency_plan_make(bytes, l->last_group + 1, l->budget, &l->set->plan, e);
    free(bytes);
    return ok;
}

static bool is_streamed(const weight_loader *l, const taken *t) {
    return t->weight != NULL && t->group > l->set->plan.resident && counted_bytes(l, t) > 0;
}

/* Keeps the streamed weights in memory that the device copies from by itself, where it has such, else in ordinary memory. */
static bool make_homes(weight_loader *l, error *e) {
    weight_set *s = l->set;
    if (device_is_cpu(s->d)) return true;
    ggml_backend_buffer_type_t type = ggml_backend_dev_host_buffer_type(ggml_backend_get_device(device_backend(s->d)));
    if (type == NULL) type = ggml_backend_cpu_buffer_type();
    size_t count = tensor_store_count(l->store), bytes = (count + 1) * ggml_tensor_overhead();
    s->homes = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    if (s->homes == NULL) return error_no_memory(e, "a list of weights", bytes);
    for (size_t i = 0; i < count; i++)
        if (is_streamed(l, &l->taken[i])) l->taken[i].home = ggml_dup_tensor(s->homes, l->taken[i].tensor);
    bytes = ggml_backend_alloc_ctx_tensors_from_buft_size(s->homes, type);
    if (!device_claim(s->d, DEVICE_PINNED, bytes, e)) return false;
    s->pinned_claim = bytes;
    s->pinned = ggml_backend_alloc_ctx_tensors_from_buft(s->homes, type);
    if (s->pinned == NULL)
        return error_set(e, ERROR_OUT_OF_MEMORY, "the weights to be streamed need %zu MiB of main memory, which could not be had",
                         bytes >> 20);
    s->pinned_claim = ggml_backend_buffer_get_size(s->pinned);
    device_correct(s->d, DEVICE_PINNED, bytes, s->pinned_claim);
    return true;
}

static bool start_streaming(weight_loader *l, error *e) {
    size_t count = tensor_store_count(l->store), used = 0;
    streamed_weight *list = calloc(count + 1, sizeof *list);
    if (list == NULL) return error_no_memory(e, "a list of weights", count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        const taken *t = &l->taken[i];
        if (!is_streamed(l, t)) continue;
        list[used++] = (streamed_weight){t->tensor, t->home != NULL ? t->home->data : t->weight->data,
                                         t->group - l->set->plan.resident - 1};
    }
    bool ok = streaming_new(l->set->d, list, used, l->set->plan.streamed, &l->set->stream, e);
    free(list);
    return ok;
}

/* Decides which weights stay, and gives the others their places. */
static bool place_streamed(weight_loader *l, error *e) {
    if (!plan_residency(l, e)) return false;
    return l->set->plan.streamed == 0 || (make_homes(l, e) && start_streaming(l, e));
}

static bool same_type(const taken *t) { return t->weight->type != WEIGHT_F64 && type_of(t->weight->type) == t->tensor->type; }

/* Converts through f32, a piece at a time. */
static void convert(const taken *t, struct ggml_tensor *to, float *staging, void *narrow) {
    enum ggml_type type = to->type;
    size_t count = (size_t)ggml_nelements(to), element = weight_type_size(t->weight->type), narrow_size = ggml_type_size(type);
    for (size_t i = 0; i < count; i += STAGING_FLOATS) {
        size_t n = count - i < STAGING_FLOATS ? count - i : STAGING_FLOATS;
        weight_to_f32(t->weight->type, (const char *)t->weight->data + i * element, staging, n);
        const void *piece = staging;
        if (type == GGML_TYPE_F16) ggml_fp32_to_fp16_row(staging, narrow, (int64_t)n);
        else if (type == GGML_TYPE_BF16) ggml_fp32_to_bf16_row(staging, narrow, (int64_t)n);
        if (type != GGML_TYPE_F32) piece = narrow;
        ggml_backend_tensor_set(to, piece, i * narrow_size, n * narrow_size);
    }
}

static void tell(const weight_loader *l, size_t bytes) {
    if (l->progress != NULL && bytes > 0) l->progress(l->progress_context, bytes);
}

static bool place_all(weight_loader *l, error *e) {
    float *staging = malloc(STAGING_FLOATS * sizeof *staging);
    uint16_t *narrow = malloc(STAGING_FLOATS * sizeof *narrow);
    bool ok = staging != NULL && narrow != NULL;
    if (!ok) error_no_memory(e, "weights", STAGING_FLOATS * (sizeof *staging + sizeof *narrow));
    size_t told = 0;
    for (size_t i = 0; ok && i < tensor_store_count(l->store); i++) {
        const taken *t = &l->taken[i];
        if (t->weight == NULL) continue;
        struct ggml_tensor *to = t->home != NULL ? t->home : t->tensor;
        if (t->in_place) ok = place_mapped(l, t, e);
        else if (same_type(t)) ggml_backend_tensor_set(to, t->weight->data, 0, t->weight->size);
        else convert(t, to, staging, narrow);
        if (ok) tell(l, t->weight->size);
        told += t->weight->size;
    }
    if (ok) tell(l, tensor_store_bytes(l->store) - told); /* headers, and what nobody wanted */
    free(staging);
    free(narrow);
    return ok;
}

bool weight_loader_finish(weight_loader *l, weight_set **out, error *e) {
    *out = NULL;
    bool ok = !l->failed;
    if (!ok && e != NULL) *e = l->fault;
    ok = ok && wrap_files(l, e) && place_streamed(l, e) && allocate_copies(l->set, e) && place_all(l, e);
    if (ok) {
        if (l->set->stream != NULL) streaming_settle(l->set->stream);
        *out = l->set;
        l->set = NULL;
    }
    weight_loader_free(l);
    return ok;
}

void weight_set_free(weight_set *s) {
    if (s == NULL) return;
    streaming_free(s->stream);
    if (s->pinned != NULL) ggml_backend_buffer_free(s->pinned);
    device_unclaim(s->d, DEVICE_PINNED, s->pinned_claim);
    if (s->homes != NULL) ggml_free(s->homes);
    for (size_t i = 0; i < s->file_count; i++) ggml_backend_buffer_free(s->files[i]);
    free(s->files);
    if (s->copies != NULL) ggml_backend_buffer_free(s->copies);
    device_unclaim(s->d, DEVICE_WEIGHTS, s->claimed_bytes);
    if (s->mapped != NULL) ggml_free(s->mapped);
    if (s->copied != NULL) ggml_free(s->copied);
    free(s);
}

bool weight_set_in_place(const weight_set *s) { return s->file_count > 0; }
static size_t copied_bytes(const weight_set *s) { return s->copies != NULL ? ggml_backend_buffer_get_size(s->copies) : 0; }
static size_t pinned_bytes(const weight_set *s) { return s->pinned != NULL ? ggml_backend_buffer_get_size(s->pinned) : 0; }
static size_t staging_size(const weight_set *s) { return s->stream != NULL ? streaming_device_bytes(s->stream) : 0; }
size_t weight_set_private_bytes(const weight_set *s) { return device_is_cpu(s->d) ? copied_bytes(s) : pinned_bytes(s); }
size_t weight_set_device_bytes(const weight_set *s) { return device_is_cpu(s->d) ? 0 : copied_bytes(s) + staging_size(s); }

weight_residency weight_set_residency(const weight_set *s) {
    return (weight_residency){s->plan.resident, s->plan.streamed, s->plan.resident_bytes, s->plan.slot_bytes, pinned_bytes(s)};
}

streaming *weight_set_streaming(const weight_set *s) { return s != NULL ? s->stream : NULL; }
