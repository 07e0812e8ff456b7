#include "server/api/native_queue.h"

#include "server/api/native_body.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/request_fields.h"
#include "server/requests/services.h"

enum { REASON_BYTES = 159 }; /* what the queue keeps */

static void answer_queue(services *s, http_exchange *x) {
    char reason[REASON_BYTES + 1];
    queue_stats q = queue_manager_get_queue_stats(s->queue);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    bool paused = queue_manager_paused(s->queue);
    yyjson_mut_obj_add_bool(doc, root, "paused", paused);
    if (paused)
        yyjson_mut_obj_add_strcpy(doc, root, "pause_reason", problem_text(queue_manager_pause_reason(s->queue), reason, sizeof reason));
    else yyjson_mut_obj_add_null(doc, root, "pause_reason");
    yyjson_mut_obj_add_uint(doc, root, "queued", q.queued);
    yyjson_mut_obj_add_uint(doc, root, "active", q.active);
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, 200, NULL, doc);
}

/* The optional body: with a "reason" where `reason` is not NULL, else empty. Answers and returns false when something is wrong; *doc is to
 * be freed otherwise. */
static bool read_body(http_exchange *x, json_document *doc, const char **reason) {
    static const char *const fields[] = {"reason", NULL};
    error why = {0};
    if (http_request_body(x)->size == 0) return true;
    if (!native_read_body(x, doc)) return false;
    if (request_fields_only(json_root(doc), reason != NULL ? fields : fields + 1, &why) &&
        (reason == NULL || json_text(json_root(doc), "reason", REASON_BYTES, reason, &why)))
        return true;
    json_document_free(doc);
    problem_answer(x, 0, &why);
    return false;
}

void native_pause_queue(services *s, http_exchange *x, const char *id) {
    const char *reason = "an operator paused it";
    json_document doc = {0};
    (void)id;
    if (!read_body(x, &doc, &reason)) return;
    dispatch_pause(s->dispatch, reason);
    json_document_free(&doc);
    answer_queue(s, x);
}

void native_resume_queue(services *s, http_exchange *x, const char *id) {
    json_document doc = {0};
    (void)id;
    if (!read_body(x, &doc, NULL)) return;
    dispatch_resume(s->dispatch);
    json_document_free(&doc);
    answer_queue(s, x);
}
