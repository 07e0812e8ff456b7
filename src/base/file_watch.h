/* Files as they were when they were looked at: which file each path named, and whether one was changed, replaced, made or removed since. */
#ifndef IMAGINED_BASE_FILE_WATCH_H
#define IMAGINED_BASE_FILE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Two paths with equal stamps name one file with one content: hard and symbolic links are followed. Zeroed: there is no such file. */
typedef struct file_stamp {
    uint64_t device, inode, size;
    int64_t modified_ns;
} file_stamp;

file_stamp file_stamp_of(const char *path);
bool file_stamp_equal(const file_stamp *a, const file_stamp *b);

typedef struct watched_file {
    char *path;
    file_stamp stamp;
} watched_file;

typedef struct file_watch {
    watched_file *files;
    size_t count;
} file_watch;

/* Looks at the path now; a missing file is watched for its coming. False when memory is short. */
bool file_watch_add(file_watch *w, const char *path, error *e);
/* folder/name, as above; ERROR_TOO_LARGE when the path is too long. */
bool file_watch_add_in(file_watch *w, const char *folder, const char *name, error *e);
/* The first path that is not as it was; NULL when all are. One stat a file. */
const char *file_watch_changed(const file_watch *w);
void file_watch_free(file_watch *w); /* takes a zeroed one */

#endif
