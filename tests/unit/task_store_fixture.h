/* A tasks' database in a new folder, and everything that it hands out. */
#ifndef IMAGINED_TESTS_TASK_STORE_FIXTURE_H
#define IMAGINED_TESTS_TASK_STORE_FIXTURE_H

#include "queue/task_store.h"

enum { KEPT = 600 };

/* Everything a store handed out, on opening and since. */
typedef struct fixture {
    char folder[64], path[96];
    task_store *store;
    task_database_report report;
    task *tasks[KEPT];
    int task_count, skipped, profiles;
    error skip;
    stored_profile profile;
    char settings[256];
    char webhooks[512], gone[64];
    int done, refused, order_broken;
    uint64_t next_sequence;
    error refusal;
    int troubles, recoveries;
    error trouble;
    int removed;
    char removed_id[TASK_ID_BYTES];
} fixture;

/* A fixture with a folder, and no store yet. */
int set_up(void **state);
int tear_down(void **state);

bool open_store(fixture *f, error *e);
void close_store(fixture *f); /* and forgets what it handed out */
void reopen(fixture *f);

task make_task(int number, const char *prompt); /* borrows the prompt */
void fill(fixture *f, int count); /* adds so many tasks */

/* For the store to call (context: the fixture): counts, and sees whether tasks are done in the order of their numbers. */
void done(void *context, const char *id, const error *fault);
void serve_until(fixture *f, const int *counter, int wanted); /* the store calls, until there are so many */

/* Beside the store: in the file itself. */
void execute(const char *path, const char *sql);

#endif
