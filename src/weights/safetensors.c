#include "weights/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

#include "base/arena.h"
#include "base/checked.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors files are little-endian and are used in place");

enum { LENGTH_BYTES = 8, READ_BYTES = 8 << 20 /* between two reports of progress */ };

struct safetensors {
    char *path;
    unsigned char *mapping;
    size_t length;
    bool is_private; /* read into anonymous memory */
    weight *weights; /* in order of name */
    size_t count;
    arena names;
};

static bool bad(const safetensors *s, error *e, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ERROR_BAD_FILE, "PATH: …". */
static bool bad(const safetensors *s, error *e, const char *format, ...) {
    char text[ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(e, ERROR_BAD_FILE, "%s: %s", s->path, text);
}

/* Fills private memory from the file. What the header says is checked afterwards, against this memory: the file may change meanwhile. */
static bool read_whole(safetensors *s, int fd, const tensor_reading *how, error *e) {
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (size_t done = 0; done < s->length;) {
        size_t wanted = s->length - done < READ_BYTES ? s->length - done : READ_BYTES;
        ssize_t n = pread(fd, s->mapping + done, wanted, (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_system(e, "read", s->path);
        if (n == 0) return bad(s, e, "is truncated: it became shorter while it was read");
        done += (size_t)n;
        if (how->progress != NULL) how->progress(how->context, (size_t)n);
    }
    return true;
}

static bool read_file(safetensors *s, int fd, size_t length, const tensor_reading *how, error *e) {
    if (how->claim != NULL && !how->claim(how->context, length, e)) return error_prefix(e, "%s: ", s->path);
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return error_no_memory(e, "weights", length);
    s->mapping = memory;
    s->length = length;
    s->is_private = true;
    if (!read_whole(s, fd, how, e)) return false;
    mprotect(memory, length, PROT_READ); /* as a mapping: nothing may write to weights */
    return true;
}

/* `how` NULL: mapped. */
static bool load_file(safetensors *s, const tensor_reading *how, error *e) {
    /* O_NONBLOCK: a named pipe must not make us wait for its writer. */
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return error_set(e, ERROR_NOT_FOUND, "%s does not exist", s->path);
    if (fd < 0) return error_system(e, "open", s->path);
    struct stat status;
    bool ok = false;
    if (fstat(fd, &status) != 0) {
        error_system(e, "examine", s->path);
    } else if (!S_ISREG(status.st_mode)) {
        bad(s, e, "is not a regular file");
    } else if (status.st_size < LENGTH_BYTES) {
        bad(s, e, "is truncated: a safetensors file has at least %d bytes", LENGTH_BYTES);
    } else if (how != NULL) {
        ok = read_file(s, fd, (size_t)status.st_size, how, e);
    } else {
        void *mapping = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        ok = mapping != MAP_FAILED;
        if (ok) {
            s->mapping = mapping;
            s->length = (size_t)status.st_size;
        } else {
            error_system(e, "map", s->path);
        }
    }
    close(fd);
    return ok;
}

static weight_type type_of(const char *text) {
    for (weight_type t = WEIGHT_F32; t < WEIGHT_OTHER; t++)
        if (strcmp(text, weight_type_name(t)) == 0) return t;
    return WEIGHT_OTHER;
}

static bool read_type(const safetensors *s, weight *w, yyjson_val *entry, error *e) {
    const char *type = yyjson_get_str(yyjson_obj_get(entry, "dtype"));
    if (type == NULL) return bad(s, e, "'%s' has no dtype", w->name);
    w->type = type_of(type);
    return true;
}

static bool read_shape(const safetensors *s, weight *w, yyjson_val *entry, size_t *elements, error *e) {
    yyjson_val *shape = yyjson_obj_get(entry, "shape"), *item;
    if (!yyjson_is_arr(shape)) return bad(s, e, "'%s' has no shape", w->name);
    if (yyjson_arr_size(shape) > WEIGHT_MAX_RANK)
        return error_set(e, ERROR_UNSUPPORTED, "%s: '%s' has %zu dimensions; at most %d are supported", s->path, w->name,
                         yyjson_arr_size(shape), WEIGHT_MAX_RANK);
    *elements = 1;
    size_t at, count;
    yyjson_arr_foreach(shape, at, count, item) {
        if (!yyjson_is_uint(item) || yyjson_get_uint(item) > INT64_MAX)
            return bad(s, e, "dimension %zu of '%s' is not a whole number from 0 up", at, w->name);
        w->shape[at] = (int64_t)yyjson_get_uint(item);
        if (!checked_mul(*elements, (size_t)w->shape[at], elements)) return bad(s, e, "the shape of '%s' is impossibly large", w->name);
    }
    w->rank = (int)yyjson_arr_size(shape);
    return true;
}

static bool read_place(const safetensors *s, weight *w, yyjson_val *entry, size_t elements, size_t data, error *e) {
    yyjson_val *offsets = yyjson_obj_get(entry, "data_offsets");
    yyjson_val *first = yyjson_arr_get(offsets, 0), *last = yyjson_arr_get(offsets, 1);
    if (yyjson_arr_size(offsets) != 2 || !yyjson_is_uint(first) || !yyjson_is_uint(last))
        return bad(s, e, "data_offsets of '%s' are not two whole numbers", w->name);
    uint64_t begin = yyjson_get_uint(first), end = yyjson_get_uint(last);
    if (begin > end || end > s->length - data)
        return bad(s, e, "'%s' claims bytes %llu to %llu of %zu: the file is truncated or its header wrong", w->name,
                   (unsigned long long)begin, (unsigned long long)end, s->length - data);
    size_t element = weight_type_size(w->type), size = 0;
    if (w->type != WEIGHT_OTHER && (!checked_mul(elements, element, &size) || size != end - begin))
        return bad(s, e, "'%s' claims %llu bytes, which its shape and type do not fill", w->name, (unsigned long long)(end - begin));
    w->data = s->mapping + data + begin;
    w->size = (size_t)(end - begin);
    return true;
}

static bool read_entry(safetensors *s, yyjson_val *key, yyjson_val *entry, size_t data, error *e) {
    weight *w = &s->weights[s->count];
    const char *name = yyjson_get_str(key);
    size_t length = yyjson_get_len(key), elements = 0;
    if (strlen(name) != length) return bad(s, e, "a name in its header has a NUL inside");
    if ((w->name = arena_text(&s->names, name, length)) == NULL) return error_no_memory(e, "the header of weights", length);
    if (!yyjson_is_obj(entry)) return bad(s, e, "the header's entry '%s' is not an object", w->name);
    if (!read_type(s, w, entry, e) || !read_shape(s, w, entry, &elements, e) || !read_place(s, w, entry, elements, data, e)) return false;
    s->count++;
    return true;
}

static int by_place(const void *a, const void *b) {
    const weight *x = *(const weight *const *)a, *y = *(const weight *const *)b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

static int by_name(const void *a, const void *b) { return strcmp(((const weight *)a)->name, ((const weight *)b)->name); }

/* The format wants the arrays to fill the data section exactly. Then a cut or grown file is noticed whatever its header says. */
static bool check_cover(const safetensors *s, size_t data, error *e) {
    const weight **order = calloc(s->count + 1, sizeof *order);
    if (order == NULL) return error_no_memory(e, "the header of weights", (s->count + 1) * sizeof *order);
    for (size_t i = 0; i < s->count; i++) order[i] = &s->weights[i];
    qsort(order, s->count, sizeof *order, by_place);
    const unsigned char *end = s->mapping + data;
    bool ok = true;
    for (size_t i = 0; ok && i < s->count; i++) {
        if ((const unsigned char *)order[i]->data < end) ok = bad(s, e, "'%s' overlaps another array", order[i]->name);
        else if ((const unsigned char *)order[i]->data > end) ok = bad(s, e, "there are bytes of no array before '%s'", order[i]->name);
        else end += order[i]->size;
    }
    if (ok && end != s->mapping + s->length) ok = bad(s, e, "%zu bytes follow the last array", (size_t)(s->mapping + s->length - end));
    free(order);
    return ok;
}

static bool read_entries(safetensors *s, yyjson_val *root, size_t data, error *e) {
    if (!yyjson_is_obj(root)) return bad(s, e, "its header is not a JSON object");
    size_t at, count;
    yyjson_val *key, *entry;
    s->weights = calloc(yyjson_obj_size(root) + 1, sizeof *s->weights);
    if (s->weights == NULL) return error_no_memory(e, "the header of weights", yyjson_obj_size(root) * sizeof *s->weights);
    yyjson_obj_foreach(root, at, count, key, entry) {
        if (strcmp(yyjson_get_str(key), "__metadata__") == 0) continue;
        if (!read_entry(s, key, entry, data, e)) return false;
    }
    if (s->count > 0) qsort(s->weights, s->count, sizeof *s->weights, by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->weights[i - 1].name, s->weights[i].name) == 0)
            return bad(s, e, "'%s' stands in its header twice", s->weights[i].name);
    return check_cover(s, data, e);
}

static bool read_header(safetensors *s, error *e) {
    uint64_t length;
    memcpy(&length, s->mapping, sizeof length);
    if (length > s->length - LENGTH_BYTES)
        return bad(s, e, "is truncated or not a safetensors file: its header claims %llu bytes of %zu", (unsigned long long)length,
                   s->length - LENGTH_BYTES);
    if (length > SAFETENSORS_MAX_HEADER_BYTES) return bad(s, e, "its header has more than %d bytes", SAFETENSORS_MAX_HEADER_BYTES);
    yyjson_read_err fault;
    yyjson_doc *doc = yyjson_read_opts((char *)s->mapping + LENGTH_BYTES, (size_t)length, YYJSON_READ_NOFLAG, NULL, &fault);
    if (doc == NULL && fault.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return error_no_memory(e, "the header of weights", length);
    if (doc == NULL) return bad(s, e, "its header is not JSON: %s at byte %zu", fault.msg, fault.pos);
    bool ok = read_entries(s, yyjson_doc_get_root(doc), LENGTH_BYTES + (size_t)length, e);
    yyjson_doc_free(doc);
    return ok;
}

static bool open_file(const char *path, const tensor_reading *how, safetensors **out, error *e) {
    *out = NULL;
    safetensors *s = calloc(1, sizeof *s);
    if (s == NULL || (s->path = strdup(path)) == NULL) {
        safetensors_free(s);
        return error_no_memory(e, "a file of weights", sizeof *s);
    }
    if (!load_file(s, how, e) || !read_header(s, e)) {
        safetensors_free(s);
        return false;
    }
    *out = s;
    return true;
}

bool safetensors_open(const char *path, safetensors **out, error *e) { return open_file(path, NULL, out, e); }
bool safetensors_read(const char *path, const tensor_reading *how, safetensors **out, error *e) { return open_file(path, how, out, e); }

void safetensors_free(safetensors *s) {
    if (s == NULL) return;
    if (s->mapping != NULL) munmap(s->mapping, s->length);
    free(s->weights);
    free(s->path);
    arena_free(&s->names);
    free(s);
}

const char *safetensors_path(const safetensors *s) { return s->path; }
size_t safetensors_count(const safetensors *s) { return s->count; }
const weight *safetensors_at(const safetensors *s, size_t index) { return index < s->count ? &s->weights[index] : NULL; }

bool safetensors_is_private(const safetensors *s) { return s->is_private; }

void safetensors_mapping(const safetensors *s, const void **address, size_t *length) {
    *address = s->mapping;
    *length = s->length;
}
