#include "server/api/openai_error.h"

#include <string.h>

#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/services.h"

enum { RETRY_SECONDS = 5 }; /* where nothing better is known */

static int status_of(int status, const error *why) {
    if (status == 0) status = problem_status(why->code);
    return status == 422 ? 400 : status; /* the one that OpenAI's clients know */
}

static const char *type_of(int status) {
    return status == 429 ? "rate_limit_error" : status >= 500 ? "server_error" : "invalid_request_error";
}

static const char *code_of(int status, const error *why) {
    if (status == 404 && strcmp(why->field, "model") == 0) return "model_not_found";
    return status == 429 ? "rate_limit_exceeded" : status == 401 ? "invalid_api_key" : error_code_name(why->code);
}

yyjson_mut_val *openai_error_document(yyjson_mut_doc *doc, int status, const error *why) {
    char text[ERROR_TEXT_BYTES], field[ERROR_FIELD_BYTES];
    yyjson_mut_val *root = yyjson_mut_obj(doc), *o = yyjson_mut_obj_add_obj(doc, root, "error");
    status = status_of(status, why);
    yyjson_mut_obj_add_strcpy(doc, o, "message", problem_text(why->text, text, sizeof text));
    yyjson_mut_obj_add_str(doc, o, "type", type_of(status));
    if (why->field[0] != '\0') yyjson_mut_obj_add_strcpy(doc, o, "param", problem_text(why->field, field, sizeof field));
    else yyjson_mut_obj_add_null(doc, o, "param");
    yyjson_mut_obj_add_str(doc, o, "code", code_of(status, why));
    return root;
}

static void answer(http_exchange *x, int status, const error *why, int retry_seconds) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    status = status_of(status, why);
    yyjson_mut_doc_set_root(doc, openai_error_document(doc, status, why));
    if (status == 429) problem_retry_after(x, retry_seconds);
    answer_json(x, status, NULL, doc);
}

void openai_answer_error(http_exchange *x, int status, const error *why) { answer(x, status, why, RETRY_SECONDS); }

void openai_answer_refusal(services *s, http_exchange *x, const error *why) {
    int seconds, status = submission_refusal(s, why, &seconds);
    answer(x, status, why, seconds);
}

int openai_failure(const task *t, error *why) {
    *why = t->failure;
    if (t->status == TASK_FAILED) return 0;
    if (t->status == TASK_CANCELLED) {
        error_set(why, ERROR_CANCELLED, "the task was cancelled");
        return 0;
    }
    error_set(why, ERROR_BUSY, "the server is about to stop and starts no further tasks");
    return 503;
}
