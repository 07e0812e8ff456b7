/* A task as the native API shows it (the document of DESIGN: id, status, position, progress, images, …). */
#ifndef IMAGINED_SERVER_TASK_DOCUMENT_H
#define IMAGINED_SERVER_TASK_DOCUMENT_H

#include <yyjson.h>

#include "queue/queue_manager.h"

/* NULL without memory. The document borrows nothing from the task. */
yyjson_mut_val *task_document(yyjson_mut_doc *doc, const queue_manager *q, const task *t, int64_t now_ms);
/* A number where every JSON reader keeps it exact (below 2^53), else text. */
yyjson_mut_val *seed_document(yyjson_mut_doc *doc, uint64_t seed);

#endif
