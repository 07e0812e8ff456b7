#include "server/http/problem.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "server/http/answer.h"

enum { RETRY_SECONDS = 5 }; /* where nothing better is known */

int problem_status(error_code code) {
    switch (code) {
    case ERROR_INVALID:
    case ERROR_UNSUPPORTED:
    case ERROR_TOO_LARGE: return 422; /* a picture that no plan makes fit; a body over its cap is 413, which HTTP says itself */
    case ERROR_NOT_FOUND: return 404;
    case ERROR_BUSY: return 429;
    case ERROR_CANCELLED: return 409;
    case ERROR_TIMEOUT: return 504;
    case ERROR_UNAUTHORIZED: return 401;
    case ERROR_FORBIDDEN: return 403;
    case ERROR_DISK_FULL: return 507;
    case ERROR_OUT_OF_MEMORY: return 503;
    case ERROR_NONE:
    case ERROR_BAD_FILE:
    case ERROR_DEVICE:
    case ERROR_IO:
    case ERROR_INTERNAL: break;
    }
    return 500;
}

const char *problem_text(const char *text, char *out, size_t capacity) {
    snprintf(out, capacity, "%s", text);
    for (size_t bad, from = 0; !utf8_valid(out + from, strlen(out + from), &bad); from += bad + 1) out[from + bad] = '?';
    return out;
}

yyjson_mut_val *problem_document(yyjson_mut_doc *doc, int status, const error *why) {
    char text[ERROR_TEXT_BYTES], field[ERROR_FIELD_BYTES];
    yyjson_mut_val *p = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, p, "type", "about:blank");
    yyjson_mut_obj_add_str(doc, p, "title", http_status_phrase(status));
    yyjson_mut_obj_add_int(doc, p, "status", status);
    yyjson_mut_obj_add_strcpy(doc, p, "detail", problem_text(why->text, text, sizeof text));
    yyjson_mut_obj_add_str(doc, p, "code", error_code_name(why->code));
    if (why->field[0] != '\0') yyjson_mut_obj_add_strcpy(doc, p, "field", problem_text(why->field, field, sizeof field));
    return p;
}

void problem_retry_after(http_exchange *x, int seconds) {
    char text[16];
    snprintf(text, sizeof text, "%d", seconds);
    http_add_header(x, "retry-after", text);
}

static void answer(http_exchange *x, int status, const error *why, int retry_seconds) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, problem_document(doc, status, why));
    if (status == 429) problem_retry_after(x, retry_seconds);
    answer_json(x, status, "application/problem+json", doc);
}

void problem_answer(http_exchange *x, int status, const error *why) {
    answer(x, status != 0 ? status : problem_status(why->code), why, RETRY_SECONDS);
}

void problem_answer_busy(http_exchange *x, const error *why, int seconds) { answer(x, 429, why, seconds); }
