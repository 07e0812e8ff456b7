#include "base/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"

static bool parse(char *text, size_t size, json_document *out, error *e) {
    yyjson_read_err fault;
    out->doc = yyjson_read_opts(text, size, YYJSON_READ_NOFLAG, NULL, &fault);
    if (out->doc != NULL) return true;
    if (fault.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return error_no_memory(e, out->source, size);
    return error_set(e, out->is_file ? ERROR_BAD_FILE : ERROR_INVALID, "%s is not valid JSON: %s at byte %zu", out->source, fault.msg,
                     fault.pos);
}

bool json_load(const char *path, size_t cap, json_document *out, error *e) {
    *out = (json_document){.is_file = true};
    snprintf(out->source, sizeof out->source, "%s", path);
    buffer text = {0};
    bool ok = file_read(path, cap, &text, e) && parse(text.data, text.size, out, e);
    buffer_free(&text);
    return ok;
}

bool json_parse(const char *text, size_t size, const char *source, json_document *out, error *e) {
    *out = (json_document){0};
    snprintf(out->source, sizeof out->source, "%s", source);
    return parse((char *)text, size, out, e); /* not in situ: the text is only read */
}

void json_document_free(json_document *d) {
    yyjson_doc_free(d->doc);
    d->doc = NULL;
}

json json_root(const json_document *d) { return (json){yyjson_doc_get_root(d->doc), d->source, d->is_file}; }

json json_get(json object, const char *key) {
    yyjson_val *v = yyjson_obj_get(object.value, key);
    return (json){yyjson_is_null(v) ? NULL : v, object.source, object.is_file};
}

bool json_complain(json object, const char *key, error *e, const char *format, ...) {
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return error_field(e, object.is_file ? ERROR_BAD_FILE : ERROR_INVALID, key, "%s: '%s' %s", object.source, key, what);
}

bool json_require(json object, const char *key, error *e) {
    return json_get(object, key).value != NULL || json_complain(object, key, e, "is missing");
}

bool json_int(json object, const char *key, int64_t low, int64_t high, int64_t *out, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL) return true;
    int64_t n;
    if (yyjson_is_uint(v) && yyjson_get_uint(v) <= INT64_MAX) n = (int64_t)yyjson_get_uint(v);
    else if (yyjson_is_sint(v)) n = yyjson_get_sint(v);
    else if (yyjson_is_real(v) && yyjson_get_real(v) == floor(yyjson_get_real(v)) && fabs(yyjson_get_real(v)) < 9e15)
        n = (int64_t)yyjson_get_real(v);
    else return json_complain(object, key, e, "must be a whole number from %lld to %lld", (long long)low, (long long)high);
    if (n < low || n > high)
        return json_complain(object, key, e, "is %lld: it must be from %lld to %lld", (long long)n, (long long)low, (long long)high);
    *out = n;
    return true;
}

bool json_number(json object, const char *key, double low, double high, double *out, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL) return true;
    if (!yyjson_is_num(v)) return json_complain(object, key, e, "must be a number from %g to %g", low, high);
    double n = yyjson_get_num(v);
    if (!(n >= low && n <= high)) return json_complain(object, key, e, "is %g: it must be from %g to %g", n, low, high);
    *out = n;
    return true;
}

bool json_bool(json object, const char *key, bool *out, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL) return true;
    if (!yyjson_is_bool(v)) return json_complain(object, key, e, "must be true or false");
    *out = yyjson_get_bool(v);
    return true;
}

bool json_text(json object, const char *key, size_t max_bytes, const char **out, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL) return true;
    if (!yyjson_is_str(v)) return json_complain(object, key, e, "must be a string");
    size_t size = yyjson_get_len(v);
    if (size > max_bytes) return json_complain(object, key, e, "has %zu bytes: at most %zu are allowed", size, max_bytes);
    if (strlen(yyjson_get_str(v)) != size) return json_complain(object, key, e, "has a NUL character");
    *out = yyjson_get_str(v);
    return true;
}

bool json_object(json object, const char *key, json *out, error *e) {
    json member = json_get(object, key);
    if (member.value == NULL) return true;
    if (!yyjson_is_obj(member.value)) return json_complain(object, key, e, "must be an object");
    *out = member;
    return true;
}

bool json_array(json object, const char *key, json *out, error *e) {
    json member = json_get(object, key);
    if (member.value == NULL) return true;
    if (!yyjson_is_arr(member.value)) return json_complain(object, key, e, "must be an array");
    *out = member;
    return true;
}

/* The text is its caller's to free, so it comes from our allocator. */
static void *text_malloc(void *context, size_t size) { return (void)context, malloc(size); }
static void *text_realloc(void *context, void *at, size_t old_size, size_t size) {
    return (void)context, (void)old_size, realloc(at, size);
}
static void text_free(void *context, void *at) { (void)context, free(at); }

char *json_write(yyjson_mut_doc *doc, size_t *size) {
    static const yyjson_alc memory = {text_malloc, text_realloc, text_free, NULL};
    char *text = doc != NULL ? yyjson_mut_write_opts(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &memory, size, NULL) : NULL;
    yyjson_mut_doc_free(doc);
    return text;
}
