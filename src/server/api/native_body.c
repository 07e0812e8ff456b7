#include "server/api/native_body.h"

#include "server/problem.h"

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
