/* Tasks, measured profiles and settings on disk, without ever making the event loop wait for it.
 *
 * The loop's thread hands over copies of what changed; one writer thread puts everything that waits into one transaction, so that a single
 * sync of the disk serves them all; what came of it goes back to the loop's thread, in the order in which it was handed over: watch
 * task_store_fd, call task_store_service when it is readable.
 *
 * Two kinds of changes. An *addition* (a task nobody has been promised yet) fails at once when it cannot be written. Everything else was
 * promised: it is kept and tried again each second until the disk takes it. While anything cannot be written the store is in trouble, and
 * says so: that is the time to begin no new work. */
#ifndef IMAGINED_QUEUE_TASK_STORE_H
#define IMAGINED_QUEUE_TASK_STORE_H

#include "queue/task_database.h"

typedef struct task_store task_store;

/* A change is on disk (fault NULL), or was refused. On the loop's thread. */
typedef void (*task_store_done)(void *context, const char *id, const error *fault);

typedef struct task_store_options {
    const char *path; /* of the database */
    void *context;
    /* The disk takes nothing any more, or (NULL) takes it again. On the loop's thread. May be NULL. */
    void (*trouble)(void *context, const error *why);
    /* Removes what a task that is to be deleted has on disk, before its row goes. On the writer's thread. May be NULL. */
    void (*remove_files)(void *context, const char *id, int images);
} task_store_options;

/* Opens the database (task_database.h says how it can fail) and reads it through these, tasks first (what follows them may be NULL); then
 * the writer starts. */
typedef struct task_store_readers {
    task_database_reader tasks;
    void *context;
    void (*profile)(void *context, const stored_profile *p);
    void (*setting)(void *context, const char *key, const char *value);
    void (*webhook)(void *context, const stored_webhook *w);
    void (*gone_webhook)(void *context, const char *url);
} task_store_readers;
bool task_store_open(const task_store_options *options, const task_store_readers *readers, task_database_report *report, task_store **out,
                     error *e);
/* Writes what still waits, as far as the disk takes it, and closes; nobody is called any more. NULL is fine. */
void task_store_free(task_store *s);

int task_store_fd(const task_store *s);
void task_store_service(task_store *s);

/* An addition. False, and no call, only without memory. `done` may be NULL here and below. */
bool task_store_add_task(task_store *s, const task *t, task_store_done done, void *context, error *e);
/* A change that was promised. One that is closing is written with its end. */
bool task_store_put_task(task_store *s, const task *t, task_store_done done, void *context, error *e);
/* The same, and in one transaction with it a message that tells of it. */
bool task_store_put_task_and_webhook(task_store *s, const task *t, const stored_webhook *w, task_store_done done, void *context, error *e);
/* A change that nobody waits for: it goes with the next that somebody does, or soon. */
bool task_store_note_task(task_store *s, const task *t, error *e);
void task_store_hurry(task_store *s); /* notes that wait go now */
bool task_store_delete_task(task_store *s, const char *id, int images, error *e);
bool task_store_put_profile(task_store *s, const stored_profile *p, error *e);
bool task_store_put_setting(task_store *s, const char *key, const char *value, error *e); /* value NULL: none */
bool task_store_put_webhook(task_store *s, const stored_webhook *w, error *e);
bool task_store_delete_webhook(task_store *s, const char *id, error *e);
bool task_store_put_gone_webhook(task_store *s, const char *url, error *e);

#endif
