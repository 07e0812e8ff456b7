#include "base/file_watch.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

file_stamp file_stamp_of(const char *path) {
    struct stat s;
    if (stat(path, &s) != 0) return (file_stamp){0};
    return (file_stamp){(uint64_t)s.st_dev, (uint64_t)s.st_ino, (uint64_t)s.st_size,
                        (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec};
}

bool file_stamp_equal(const file_stamp *a, const file_stamp *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified_ns == b->modified_ns;
}

bool file_watch_add(file_watch *w, const char *path, error *e) {
    watched_file *grown = realloc(w->files, (w->count + 1) * sizeof *grown);
    if (grown == NULL) return error_no_memory(e, "a list of files", (w->count + 1) * sizeof *grown);
    w->files = grown;
    char *copy = strdup(path);
    if (copy == NULL) return error_no_memory(e, "a list of files", strlen(path) + 1);
    w->files[w->count++] = (watched_file){copy, file_stamp_of(path)};
    return true;
}

bool file_watch_add_in(file_watch *w, const char *folder, const char *name, error *e) {
    char path[PATH_MAX];
    return file_join(path, sizeof path, folder, name, e) && file_watch_add(w, path, e);
}

const char *file_watch_changed(const file_watch *w) {
    for (size_t i = 0; i < w->count; i++) {
        file_stamp now = file_stamp_of(w->files[i].path);
        if (!file_stamp_equal(&now, &w->files[i].stamp)) return w->files[i].path;
    }
    return NULL;
}

void file_watch_free(file_watch *w) {
    for (size_t i = 0; i < w->count; i++) free(w->files[i].path);
    free(w->files);
    *w = (file_watch){0};
}
