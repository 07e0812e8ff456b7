/* Finished pictures on disk: STATE/images/<task id>-<index>.png. A file is there completely or not at all.
 *
 * Nothing in it changes after its making: any thread may use it. */
#ifndef IMAGINED_SERVER_PICTURES_PICTURE_STORE_H
#define IMAGINED_SERVER_PICTURES_PICTURE_STORE_H

#include <limits.h>

#include "base/buffer.h"
#include "base/error.h"
#include "queue/task.h"

enum { PICTURE_ID_BYTES = TASK_ID_BYTES + 3 }; /* a task's id, '-', up to two digits */

typedef struct picture_store picture_store;

/* Makes the folder where it is missing, and fails where nothing can be written. */
bool picture_store_new(const char *state_folder, picture_store **out, error *e);
void picture_store_free(picture_store *s); /* NULL is fine */
void picture_id_format(const char *task_id, int index, char out[PICTURE_ID_BYTES]);
/* The file's path. ERROR_NOT_FOUND for what has not the form of an id: no other file can be named. */
bool picture_store_path(const picture_store *s, const char *id, char out[PATH_MAX], error *e);
/* Removes what a server that was killed left half-written. To be called before the first write; reads the whole folder. */
void picture_store_clean(const picture_store *s);
/* Removes the pictures 0 … count − 1 of a task; what is not there is fine. */
void picture_store_remove(const picture_store *s, const char *task_id, int count);
void picture_store_remove_one(const picture_store *s, const char *task_id, int index);
bool picture_store_write(const picture_store *s, const char *id, const buffer *png, error *e);

#endif
