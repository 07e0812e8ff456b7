#include "golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <yyjson.h>

struct golden {
    char name[256];
    yyjson_doc *header;
    unsigned char *bytes; /* the data section, aligned by malloc */
    size_t size;
};

void golden_path(char *path, size_t capacity, const char *name) {
    const char *folder = getenv("IMAGINED_TEST_DATA");
    if (folder == NULL) fail_msg("IMAGINED_TEST_DATA is not set: run through `meson test`");
    if ((size_t)snprintf(path, capacity, "%s/%s", folder, name) >= capacity) fail_msg("%s: path too long", name);
}

static void *read_bytes(FILE *f, size_t size, const char *path) {
    void *bytes = malloc(size + 1);
    if (bytes == NULL || fread(bytes, 1, size, f) != size) fail_msg("%s is truncated", path);
    return bytes;
}

golden *golden_open(const char *name) {
    char file[256], path[1024];
    snprintf(file, sizeof file, "%s.safetensors", name);
    golden_path(path, sizeof path, file);
    FILE *f = fopen(path, "rb");
    if (f == NULL) fail_msg("cannot open %s", path);
    golden *g = calloc(1, sizeof *g);
    assert_non_null(g);
    snprintf(g->name, sizeof g->name, "%s", name);
    uint64_t header_size = 0;
    if (fread(&header_size, 1, 8, f) != 8 || header_size > (64u << 20)) fail_msg("%s is not safetensors", path);
    char *header = read_bytes(f, header_size, path);
    g->header = yyjson_read(header, header_size, 0);
    if (g->header == NULL) fail_msg("%s: its header is not JSON", path);
    free(header);
    long begin = ftell(f);
    fseek(f, 0, SEEK_END);
    g->size = (size_t)(ftell(f) - begin);
    fseek(f, begin, SEEK_SET);
    g->bytes = read_bytes(f, g->size, path);
    fclose(f);
    return g;
}

void golden_free(golden *g) {
    if (g == NULL) return;
    yyjson_doc_free(g->header);
    free(g->bytes);
    free(g);
}

static bool find(const golden *g, golden_array *out, const char *format, va_list args) {
    *out = (golden_array){.count = 1};
    vsnprintf(out->name, sizeof out->name, format, args);
    yyjson_val *entry = yyjson_obj_get(yyjson_doc_get_root(g->header), out->name), *item;
    if (entry == NULL) return false;
    snprintf(out->type, sizeof out->type, "%s", yyjson_get_str(yyjson_obj_get(entry, "dtype")));
    size_t at, rank;
    yyjson_arr_foreach(yyjson_obj_get(entry, "shape"), at, rank, item) {
        if (rank > 8) fail_msg("%s: %s has too many dimensions", g->name, out->name);
        out->shape[at] = yyjson_get_sint(item);
        out->count *= (size_t)out->shape[at];
        out->rank = (int)rank;
    }
    yyjson_val *offsets = yyjson_obj_get(entry, "data_offsets");
    size_t begin = yyjson_get_uint(yyjson_arr_get(offsets, 0)), end = yyjson_get_uint(yyjson_arr_get(offsets, 1));
    if (begin > end || end > g->size) fail_msg("%s: %s lies outside the file", g->name, out->name);
    out->size = end - begin;
    out->data = g->bytes + begin;
    return true;
}

bool golden_has(const golden *g, const char *format, ...) {
    golden_array a;
    va_list args;
    va_start(args, format);
    bool found = find(g, &a, format, args);
    va_end(args);
    return found;
}

golden_array golden_get(const golden *g, const char *format, ...) {
    golden_array a;
    va_list args;
    va_start(args, format);
    bool found = find(g, &a, format, args);
    va_end(args);
    if (!found) fail_msg("%s.safetensors has no '%s'", g->name, a.name);
    return a;
}

static const void *typed(const golden_array *a, const char *type, size_t element) {
    if (strcmp(a->type, type) != 0) fail_msg("'%s' is %s, not %s", a->name, a->type, type);
    if ((uintptr_t)a->data % element != 0 || a->size != a->count * element) fail_msg("'%s' is unaligned or has the wrong size", a->name);
    return a->data;
}

const float *golden_f32(const golden_array *a) { return typed(a, "F32", 4); }
const int64_t *golden_i64(const golden_array *a) { return typed(a, "I64", 8); }

double golden_distance(const float *actual, const float *expected, size_t count) {
    double difference = 0, scale = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(actual[i])) return INFINITY;
        difference = fmax(difference, fabs((double)actual[i] - (double)expected[i]));
        scale = fmax(scale, fabs((double)expected[i]));
    }
    return scale > 0 ? difference / scale : difference;
}

void golden_assert_near(const float *actual, const golden_array *expected, double tolerance) {
    double distance = golden_distance(actual, golden_f32(expected), expected->count);
    print_message("    %-40s %.2e (at most %.0e)\n", expected->name, distance, tolerance);
    if (!(distance <= tolerance)) fail_msg("'%s' differs by %g of its largest value, over %g", expected->name, distance, tolerance);
}
