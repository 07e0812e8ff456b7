/* A task as a row of the database: which column holds what, and the JSON inside the columns that hold more than one value.
 *
 * Columns that no one fills yet (engine, lease_owner, lease_expires) are there so that several servers can share one database later. */
#ifndef IMAGINED_QUEUE_TASK_ROW_H
#define IMAGINED_QUEUE_TASK_ROW_H

#include <sqlite3.h>

#include "queue/task.h"

/* What makes the table, and the statements whose parameters and columns the two functions below fill and read. */
extern const char task_row_schema[], task_row_insert[],
    task_row_select[]; /* the schema of version 1; task_database.c adds the column "webhook" */

/* Binds all parameters of task_row_insert. Texts are copied. A task that is closing is written with its end. False without memory. */
bool task_row_bind(sqlite3_stmt *insert, const task *t);
/* Makes a task of the row that task_row_select stands on, as it was written; it is yours (calloc, with an arena of its own).
 * ERROR_BAD_FILE, the task's id named, where something in the row is not as task_row_bind writes it. */
bool task_row_read(sqlite3_stmt *select, task **out, error *e);

#endif
