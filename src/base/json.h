/* Reading JSON that strangers wrote (requests, configs of downloaded models): typed getters over yyjson that say, on a wrong
 * type or range, which key of which source is wrong.
 *
 * Getters leave *out alone and return true when the key is absent or null, so a default is what *out held before; use
 * json_require first where absence is an error. ERROR_INVALID with field = key for a request, ERROR_BAD_FILE for a file. */
#ifndef IMAGINED_BASE_JSON_H
#define IMAGINED_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "base/error.h"

/* A value and where it came from. Borrowed from its document. */
typedef struct json {
    yyjson_val *value;  /* NULL: absent */
    const char *source; /* file path, or "request" words: "the request body" */
    bool is_file;       /* chooses the error code */
} json;

typedef struct json_document {
    yyjson_doc *doc;
    char source[512];
    bool is_file;
} json_document;

/* Parses a file of at most `cap` bytes. The document is yours: json_document_free. */
bool json_load(const char *path, size_t cap, json_document *out, error *e);
/* Parses text that came with a request; `source` names it in errors. */
bool json_parse(const char *text, size_t size, const char *source, json_document *out, error *e);
void json_document_free(json_document *d); /* takes a zeroed one */
json json_root(const json_document *d);

/* The member, whatever its type; .value is NULL when absent, null, or when `object` is no object. */
json json_get(json object, const char *key);
/* False, naming the key, when it is absent or null. */
bool json_require(json object, const char *key, error *e);
bool json_int(json object, const char *key, int64_t low, int64_t high, int64_t *out, error *e);
bool json_number(json object, const char *key, double low, double high, double *out, error *e); /* integers welcome; finite */
bool json_bool(json object, const char *key, bool *out, error *e);
/* The text (borrowed, NUL-terminated; without NUL inside) of at most max_bytes. */
bool json_text(json object, const char *key, size_t max_bytes, const char **out, error *e);
/* The member, which must be an object / array. */
bool json_object(json object, const char *key, json *out, error *e);
bool json_array(json object, const char *key, json *out, error *e);
/* The document as text, yours to free; invalid UTF-8 (names of files) goes through as it is. Takes the document: NULL, or one without a
 * root, is one that found no memory, and gives NULL. */
char *json_write(yyjson_mut_doc *doc, size_t *size);
/* Complains about the value of `key`: what it should be. Returns false. */
bool json_complain(json object, const char *key, error *e, const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
