/* The database file itself: STATE/imagined.db (SQLite 3, WAL, synchronous=FULL), held by one process at a time.
 *
 * Synchronous; any one thread at a time. task_store.h is the way to it that does not wait.
 *
 * Errors: ERROR_DISK_FULL, ERROR_BUSY (another process holds the file), ERROR_OUT_OF_MEMORY, ERROR_BAD_FILE (damaged), else ERROR_IO or,
 * for a fault of ours, ERROR_INTERNAL; each names the file. */
#ifndef IMAGINED_QUEUE_TASK_DATABASE_H
#define IMAGINED_QUEUE_TASK_DATABASE_H

#include <limits.h>

#include "queue/task.h"

enum { STORED_MODEL_BYTES = 128, STORED_SHAPE_BYTES = 96, STORED_GONE = 1000 };

/* What a model took for a shape and batch size, measured (models, precisions and shapes are whatever texts the caller distinguishes them
 * by). */
typedef struct stored_profile {
    char model[STORED_MODEL_BYTES], precision[16], shape[STORED_SHAPE_BYTES];
    int batch;                            /* images in a step */
    uint64_t peak_bytes, reserve_bytes;   /* 0 not known, as below */
    double step_seconds, load_seconds, encode_seconds, decode_seconds;
    int64_t measured_ms; /* Unix milliseconds */
} stored_profile;

/* A message to somebody's server that has not got through yet (server/tasks/webhooks.h). Texts are borrowed. */
typedef struct stored_webhook {
    const char *id;   /* of the message; a later put of the same id replaces it */
    const char *task; /* it tells of */
    const char *url, *body;
    int attempts;   /* made so far */
    int64_t due_ms; /* Unix milliseconds: when it is to be tried (again) */
} stored_webhook;

typedef struct task_database task_database;

/* What the opening found; all zero: nothing to tell. */
typedef struct task_database_report {
    char moved_to[PATH_MAX]; /* a damaged database was moved there, and a new one made; "" otherwise */
    error damage;            /* why */
} task_database_report;

/* Opens or makes the file and brings its tables up to date. ERROR_UNSUPPORTED for one that a newer version made. */
bool task_database_open(const char *path, task_database_report *report, task_database **out, error *e);
void task_database_close(task_database *db); /* NULL is fine */

/* Hands out all tasks as they were written, oldest submission first; `take` owns each (calloc, arena). Rows that cannot be read stay where
 * they are and are told to `skip`. */
typedef struct task_database_reader {
    void *context;
    void (*take)(void *context, task *t);
    void (*skip)(void *context, const error *why);
} task_database_reader;
bool task_database_read_tasks(task_database *db, const task_database_reader *reader, error *e);
bool task_database_read_profiles(task_database *db, void (*take)(void *context, const stored_profile *p), void *context, error *e);
bool task_database_read_settings(task_database *db, void (*take)(void *context, const char *key, const char *value), void *context,
                                 error *e);

/* Messages, the one that is due first first; and the addresses that want none any more, oldest refusal first. */
bool task_database_read_webhooks(task_database *db, void (*take)(void *context, const stored_webhook *w), void *context, error *e);
bool task_database_read_gone_webhooks(task_database *db, void (*take)(void *context, const char *url), void *context, error *e);

/* Changes are on disk after commit; rollback undoes those since begin. */
bool task_database_begin(task_database *db, error *e);
bool task_database_commit(task_database *db, error *e);
void task_database_rollback(task_database *db);
bool task_database_put_task(task_database *db, const task *t, error *e); /* new or changed */
bool task_database_delete_task(task_database *db, const char *id, error *e);
bool task_database_put_profile(task_database *db, const stored_profile *p, error *e);
bool task_database_put_setting(task_database *db, const char *key, const char *value, error *e); /* value NULL: none */
bool task_database_put_webhook(task_database *db, const stored_webhook *w, error *e); /* new or changed */
bool task_database_delete_webhook(task_database *db, const char *id, error *e);
/* An address that wants no messages any more; the oldest are forgotten beyond STORED_GONE. */
bool task_database_put_gone_webhook(task_database *db, const char *url, error *e);

#endif
