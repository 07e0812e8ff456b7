/* Tells other people's servers what becomes of the tasks that name them (docs/webhooks.md has the messages).
 *
 * A message of a start or an end is kept with the tasks until it is delivered, refused for good (410) or given up after WEBHOOK_ATTEMPTS:
 * it goes out at least once, whatever happens to this process. An end and its message are one transaction. Progress is told as it is, at
 * most twice a second, and never again. Requests are made by server/webhooks/webhook_sender, on its thread; what is here runs on the
 * loop's. */
#ifndef IMAGINED_SERVER_TASKS_WEBHOOKS_H
#define IMAGINED_SERVER_TASKS_WEBHOOKS_H

#include "base/json.h"
#include "queue/queue_manager.h"
#include "queue/task_database.h"
#include "server/http/loop.h"
#include "server/tasks/dispatch.h"

enum { WEBHOOK_START = 1, WEBHOOK_PROGRESS = 2, WEBHOOK_COMPLETED = 4 }; /* of task_request.webhook_events; completed: over, however it ended */
enum { WEBHOOKS_PENDING = 10000 }; /* messages kept at once; then no task with a webhook is taken */

struct previews;
typedef struct webhooks webhooks;

typedef struct webhooks_options {
    loop *loop;
    queue_manager *queue;
    const struct previews *previews; /* NULL: there are none */
    const char *state_folder; /* of the file webhook_secret, where no secret is set */
    const char *secret;       /* as webhook_secrets_parse wants it; "": that of the file */
    const char *allowed;      /* as webhook_guard_new wants it */
    const char *authorities;  /* a file of certificates; "": the system's. Borrowed */
} webhooks_options;

typedef struct webhook_stats {
    uint64_t delivered, failed, given_up, gone; /* failed: attempts that another follows; gone: answered 410 */
    size_t pending;                             /* messages that are kept */
} webhook_stats;

bool webhooks_new(const webhooks_options *options, webhooks **out, error *e);
void webhooks_free(webhooks *w); /* what is under way is told again by the next process. NULL is fine */

/* What an earlier process left (called by the keeper as it opens); then, once there is one, the keeper. Nothing is sent before. */
void webhooks_restore(webhooks *w, const stored_webhook *kept);
void webhooks_restore_gone(webhooks *w, const char *url);
void webhooks_begin(webhooks *w, task_keeper *keeper);

/* Reads "webhook" and "webhook_events_filter" of a request; texts are borrowed from it. ERROR_BUSY while too many messages wait. */
bool webhooks_read(const webhooks *w, json body, task_request *io, error *e);

/* The message that is to be written with the end of a task that is closing; NULL: none. Borrowed until the next call of anything here. */
const stored_webhook *webhooks_ending(webhooks *w, const task *t);
void webhooks_changed(webhooks *w, const task *t, task_change what);

size_t webhooks_sending(const webhooks *w); /* requests under way */
webhook_stats webhooks_get_stats(const webhooks *w);

#endif
