/* A task as the native API shows it (the document of DESIGN: id, status, position, progress, images, …). */
#ifndef IMAGINED_SERVER_TASKS_TASK_DOCUMENT_H
#define IMAGINED_SERVER_TASKS_TASK_DOCUMENT_H

#include <yyjson.h>

#include "queue/queue_manager.h"

struct previews;

/* NULL without memory. The document borrows nothing from the task. `p` NULL: there are no previews. */
yyjson_mut_val *task_document(yyjson_mut_doc *doc, const queue_manager *q, const struct previews *p, const task *t, int64_t now_ms);
/* How far the task is, alone: {"phase", "step", "steps", "image", "n"}, and "bytes", "bytes_total" while its model is loaded. */
yyjson_mut_val *task_progress_document(yyjson_mut_doc *doc, const task *t);
/* Where the task's preview is, and of what: {"url", "image", "step", "width", "height"}; NULL: there is none. */
yyjson_mut_val *task_preview_document(yyjson_mut_doc *doc, const struct previews *p, const task *t);
/* Seconds until it is done. False where that is not known. */
bool task_eta(const queue_manager *q, const task *t, int64_t now_ms, double *seconds);
/* A number where every JSON reader keeps it exact (below 2^53), else text. */
yyjson_mut_val *seed_document(yyjson_mut_doc *doc, uint64_t seed);

#endif
