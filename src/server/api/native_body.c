#include "server/api/native_body.h"

#include <stdlib.h>

#include "server/http/problem.h"

bool native_read_body(http_exchange *x, json_document *doc) {
    const buffer *body = http_request_body(x);
    error why = {0};
    if (!json_parse(buffer_text(body), body->size, "the request body", doc, &why)) {
        problem_answer(x, why.code == ERROR_INVALID ? 400 : 0, &why);
        return false;
    }
    if (yyjson_is_obj(json_root(doc).value)) return true;
    json_document_free(doc);
    error_set(&why, ERROR_INVALID, "the request body must be a JSON object");
    problem_answer(x, 422, &why);
    return false;
}

bool native_read_number(const http_exchange *x, const char *name, int most, int *out, error *e) {
    const char *text = http_query(x, name);
    char *end;
    if (text == NULL) return true;
    long n = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || n < 1 || n > most)
        return error_field(e, ERROR_INVALID, name, "'%.32s' is no %s: it must be from 1 to %d", text, name, most);
    *out = (int)n;
    return true;
}
