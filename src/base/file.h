/* Whole files, and replacing them so that a reader or a crash never meets half of one. */
#ifndef IMAGINED_BASE_FILE_H
#define IMAGINED_BASE_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

/* Appends the regular file's bytes to *out. ERROR_NOT_FOUND, ERROR_TOO_LARGE (over `cap` bytes), ERROR_IO, … */
bool file_read(const char *path, size_t cap, buffer *out, error *e);

/* The path of the file that `path` leads to over symbolic links, which need not be there yet; `path` itself where it is no link. A link
 * that cannot be followed, or leads into a folder that is not there, is ERROR_IO; what is at the end of one is not looked at. */
bool file_follow(const char *path, char out[PATH_MAX], error *e);

/* Replaces `path`: temporary file beside it, fsync, rename, fsync of the folder. On failure the old file stands and the
 * temporary is gone. Where `path` is a symbolic link, the file that it leads to (file_follow) is replaced or made, and the link stays.
 * What is there and no regular file (a device, a pipe) is left alone: ERROR_INVALID. The new file has the old one's mode, and its owner
 * and group where this process may give it away; where its group cannot be kept, that may do no more than everybody. */
bool file_replace(const char *path, const void *bytes, size_t size, error *e);

/* The same for secrets: mode 0600, and the file stays its old owner's (which only root can bring about for another). */
bool file_replace_private(const char *path, const void *bytes, size_t size, error *e);

/* Writes all of it to the descriptor, waiting for one that does not block; `name` is for the complaint. */
bool file_write_all(int fd, const char *name, const void *bytes, size_t size, error *e);

/* Makes the folder and its parents (mode 0700 for what it creates). True when it exists already. */
bool file_make_folder(const char *path, error *e);

bool file_exists(const char *path);

/* "folder/name" into out. False (ERROR_TOO_LARGE) when it does not fit in `capacity`. */
bool file_join(char *out, size_t capacity, const char *folder, const char *name, error *e);

#endif
