/* Requests that were sent with an Idempotency-Key, so that one sent again makes no second task. The newest IDEMPOTENCY_KEYS of
 * them, in memory; they are kept on disk with their tasks, and added again from there. */
#ifndef IMAGINED_SERVER_TASKS_IDEMPOTENCY_H
#define IMAGINED_SERVER_TASKS_IDEMPOTENCY_H

#include "base/buffer.h"
#include "base/error.h"
#include "queue/task.h"

enum { IDEMPOTENCY_KEYS = 1024, IDEMPOTENCY_KEY_BYTES = 256, IDEMPOTENCY_OWNER_BYTES = 64 };

typedef struct idempotency idempotency;

bool idempotency_new(idempotency **out, error *e);
void idempotency_free(idempotency *i); /* NULL is fine */
/* Each owner (task_request.owner; NULL is one, too) has keys of its own.
 * *task_id: the task that this key made, NULL for a new key (borrowed until the next add). ERROR_INVALID when the key came with another
 * body, or is too long. */
bool idempotency_find(const idempotency *i, const char *owner, const char *key, const buffer *body, const char **task_id, error *e);
uint64_t idempotency_hash(const buffer *body);
/* A key that is there already (its task was forgotten) stands for the new task from now on. `key` is one that idempotency_find took; hash
 * and size are the body's. */
void idempotency_add(idempotency *i, const char *owner, const char *key, uint64_t hash, uint64_t size, const char *task_id);
/* Its key is a new one again. */
void idempotency_forget(idempotency *i, const char *task_id);

#endif
