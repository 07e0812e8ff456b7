#include "server/api/native_system.h"

#include <string.h>

#include "build_config.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/requests/services.h"

static void answer_health(services *s, http_exchange *x, int status) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    queue_stats q = queue_manager_get_queue_stats(s->queue);
    yyjson_mut_obj_add_str(doc, root, "status", dispatch_draining(s->dispatch) ? "draining" : "ok");
    yyjson_mut_obj_add_str(doc, root, "engine", dispatch_engine_state(s->dispatch));
    char trouble[ERROR_TEXT_BYTES];
    if (dispatch_trouble(s->dispatch)[0] == '\0') yyjson_mut_obj_add_null(doc, root, "engine_error");
    else yyjson_mut_obj_add_strcpy(doc, root, "engine_error", problem_text(dispatch_trouble(s->dispatch), trouble, sizeof trouble));
    yyjson_mut_obj_add_strcpy(doc, root, "device", dispatch_device(s->dispatch));
    yyjson_mut_obj_add_str(doc, root, "version", IMAGINED_VERSION);
    yyjson_mut_obj_add_uint(doc, root, "queued", q.queued);
    yyjson_mut_obj_add_uint(doc, root, "active", q.active);
    if (!queue_manager_paused(s->queue)) yyjson_mut_obj_add_null(doc, root, "paused");
    else yyjson_mut_obj_add_strcpy(doc, root, "paused", problem_text(queue_manager_pause_reason(s->queue), trouble, sizeof trouble));
    yyjson_mut_doc_set_root(doc, root);
    answer_json(x, status, NULL, doc);
}

void native_get_health(services *s, http_exchange *x, const char *id) {
    (void)id;
    answer_health(s, x, 200);
}

void native_get_ready(services *s, http_exchange *x, const char *id) {
    (void)id;
    answer_health(s, x, dispatch_ready(s->dispatch) && !dispatch_draining(s->dispatch) ? 200 : 503);
}
