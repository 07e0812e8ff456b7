#include "server/http/answer.h"

#include <stdlib.h>

void answer_empty(http_exchange *x, int status) {
    http_body none = {0};
    http_respond(x, status, NULL, &none);
}

void answer_text(http_exchange *x, int status, const char *type, const char *text) {
    http_body body = {0};
    if (!http_body_add_text(&body, text, NULL)) status = 503;
    http_respond(x, status, type, &body);
}

void answer_json(http_exchange *x, int status, const char *type, yyjson_mut_doc *doc) {
    size_t size = 0;
    /* Names of files need not be UTF-8; a reader that minds gets its complaint there, not a dead connection here. */
    char *text = doc != NULL ? yyjson_mut_write(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &size) : NULL;
    yyjson_mut_doc_free(doc);
    http_body body = {0};
    buffer b = {.data = text, .size = size, .capacity = size + 1};
    if (text == NULL || !http_body_add(&body, &b, NULL)) {
        answer_empty(x, 503);
        return;
    }
    http_respond(x, status, type != NULL ? type : "application/json", &body);
}
