#include "server/api/a1111_errors.h"

#include "server/http/answer.h"
#include "server/http/problem.h"

enum { RETRY_SECONDS = 5 }; /* where nothing better is known */

static yyjson_mut_val *validation(yyjson_mut_doc *doc, const error *why) {
    char text[ERROR_TEXT_BYTES], field[ERROR_FIELD_BYTES];
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, yyjson_mut_obj_add_arr(doc, root, "detail"));
    yyjson_mut_val *place = yyjson_mut_obj_add_arr(doc, item, "loc");
    yyjson_mut_arr_add_str(doc, place, "body");
    if (why->field[0] != '\0') yyjson_mut_arr_add_strcpy(doc, place, problem_text(why->field, field, sizeof field));
    yyjson_mut_obj_add_strcpy(doc, item, "msg", problem_text(why->text, text, sizeof text));
    yyjson_mut_obj_add_str(doc, item, "type", "value_error");
    return root;
}

/* Clients know the name of PyTorch's exception and of Starlette's. */
static yyjson_mut_val *exception(yyjson_mut_doc *doc, const error *why) {
    char text[ERROR_TEXT_BYTES];
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    problem_text(why->text, text, sizeof text);
    yyjson_mut_obj_add_str(doc, root, "error", why->code == ERROR_OUT_OF_MEMORY ? "OutOfMemoryError" : "HTTPException");
    yyjson_mut_obj_add_strcpy(doc, root, "detail", text);
    yyjson_mut_obj_add_str(doc, root, "body", "");
    yyjson_mut_obj_add_strcpy(doc, root, "errors", text);
    return root;
}

static void answer(http_exchange *x, int status, const error *why, int retry_seconds) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, status == 422 ? validation(doc, why) : exception(doc, why));
    if (status == 429) problem_retry_after(x, retry_seconds);
    answer_json(x, status, NULL, doc);
}

void a1111_answer_error(http_exchange *x, int status, const error *why) {
    answer(x, status != 0 ? status : problem_status(why->code), why, RETRY_SECONDS);
}

void a1111_answer_busy(http_exchange *x, const error *why, int seconds) { answer(x, 429, why, seconds); }
