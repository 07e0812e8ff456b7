#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_join(char *out, size_t capacity, const char *folder, const char *name, error *e) {
    int n = snprintf(out, capacity, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= capacity) return error_set(e, ERROR_TOO_LARGE, "the path %s/%s is too long", folder, name);
    return true;
}

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

static bool read_all(int fd, const char *path, size_t cap, buffer *out, error *e) {
    struct stat info;
    if (fstat(fd, &info) != 0) return error_system(e, "read", path);
    if (!S_ISREG(info.st_mode)) return error_set(e, ERROR_BAD_FILE, "%s is not a regular file", path);
    if ((unsigned long long)info.st_size > cap)
        return error_set(e, ERROR_TOO_LARGE, "%s is too large: %lld bytes, at most %zu are read", path, (long long)info.st_size, cap);
    size_t left = (size_t)info.st_size;
    char *to = buffer_reserve(out, left);
    if (to == NULL) return error_no_memory(e, path, left);
    while (left > 0) {
        ssize_t n = read(fd, to, left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_system(e, "read", path);
        if (n == 0) return error_set(e, ERROR_BAD_FILE, "%s shrank while it was read", path);
        to += n;
        left -= (size_t)n;
        out->size += (size_t)n;
    }
    *to = '\0';
    return true;
}

bool file_read(const char *path, size_t cap, buffer *out, error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_system(e, "open", path);
    bool ok = read_all(fd, path, cap, out, e);
    close(fd);
    return ok;
}

/* Node and ssh, say, hand on pipes that do not block. False, with errno, where there is no waiting. */
static bool wait_for_room(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, -1) > 0 || errno == EINTR;
}

bool file_write_all(int fd, const char *name, const void *bytes, size_t size, error *e) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && wait_for_room(fd)))) continue;
        if (n < 0) return error_system(e, "write", name);
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* `path` is shorter than PATH_MAX. */
static void folder_of(const char *path, char folder[PATH_MAX]) {
    snprintf(folder, PATH_MAX, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) snprintf(folder, PATH_MAX, ".");
    else slash[slash == folder ? 1 : 0] = '\0';
}

/* --- links --- */

/* What a link holds is said from the folder that it stands in. `at` is the link's path, and then that of what it leads to. */
static bool follow_one(char at[PATH_MAX]) {
    char held[PATH_MAX], folder[PATH_MAX];
    ssize_t size = readlink(at, held, sizeof held - 1);
    if (size < 0) return false;
    held[size] = '\0';
    folder_of(at, folder);
    int n = held[0] == '/' ? snprintf(at, PATH_MAX, "%s", held) : snprintf(at, PATH_MAX, "%s/%s", folder, held);
    if (n >= 0 && n < PATH_MAX) return true;
    errno = ENAMETOOLONG;
    return false;
}

bool file_follow(const char *path, char out[PATH_MAX], error *e) {
    enum { LINKS = 40 }; /* as many as Linux follows */
    char folder[PATH_MAX];
    struct stat end, info;
    int links = 0;
    if (strlen(path) >= PATH_MAX) return error_set(e, ERROR_TOO_LARGE, "the path %s is too long", path);
    snprintf(out, PATH_MAX, "%s", path);
    /* The system's own word for it comes first: it may refuse to follow a link that another user has set out in /tmp. */
    bool exists = stat(path, &end) == 0, broken = !exists && errno != ENOENT;
    for (; !broken && lstat(out, &info) == 0 && S_ISLNK(info.st_mode); links++) {
        if (links == LINKS) errno = ELOOP;
        broken = links == LINKS || !follow_one(out);
    }
    int number = errno;
    if (lstat(path, &info) != 0 || !S_ISLNK(info.st_mode)) return true; /* no link: whoever opens it says what is wrong with it */
    if (broken) return error_set(e, ERROR_IO, "the link %s cannot be followed (%s): mend it, or name another file", path, strerror(number));
    if (exists && (lstat(out, &info) != 0 || info.st_dev != end.st_dev || info.st_ino != end.st_ino))
        return error_set(e, ERROR_IO, "the link %s leads to a file that has no name any more: name another file", path);
    folder_of(out, folder);
    if (!exists && access(folder, F_OK) != 0)
        return error_set(e, ERROR_IO, "the link %s leads into %s (%s): make that folder, or name another file", path, folder, strerror(errno));
    return true;
}

/* --- replacing --- */

/* A rename is only as durable as the folder that records it. */
static bool sync_folder_of(const char *path, error *e) {
    char folder[PATH_MAX];
    folder_of(path, folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_system(e, "open the folder", folder);
    /* Some file systems cannot sync a folder and say so with EINVAL: there is nothing more to do there. */
    bool ok = fsync(fd) == 0 || errno == EINVAL;
    if (!ok) error_system(e, "sync the folder", folder);
    close(fd);
    return ok;
}

static bool keep_owner(int fd, const struct stat *old) {
    struct stat made;
    if (fstat(fd, &made) != 0) return false;
    return (made.st_uid == old->st_uid && made.st_gid == old->st_gid) || fchown(fd, old->st_uid, old->st_gid) == 0;
}

/* Nobody but the old file's owner, or who makes the first, may read it. */
static bool make_private(int fd, const struct stat *old) { return fchmod(fd, 0600) == 0 && (old == NULL || keep_owner(fd, old)); }

/* Whoever could not read the old file does not read the new: a group that it cannot be left to may do what everybody may. A file system
 * that knows no modes is no reason to lose what is written: the file is its maker's alone, then. */
static void keep_mode(int fd, const struct stat *old) {
    mode_t mode = old->st_mode & 0777;
    if (!keep_owner(fd, old) && fchown(fd, (uid_t)-1, old->st_gid) != 0) mode &= ~(mode_t)070 | (mode & 07) << 3;
    (void)fchmod(fd, mode);
}

/* A file that nobody had before: in /tmp a link to another may have been laid there. One of this name was left by a process that died. */
static int make_temporary(const char *temporary, mode_t mode, const char *named, error *e) {
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST) error_set(e, ERROR_IO, "cannot write %s: %s is in the way: remove it", named, temporary);
    else if (fd < 0) error_system(e, "write", named);
    return fd;
}

static bool replace(const char *named, const void *bytes, size_t size, bool private, error *e) {
    char temporary[PATH_MAX], path[PATH_MAX];
    struct stat info;
    bool exists = stat(named, &info) == 0;
    if (exists && S_ISDIR(info.st_mode)) return error_set(e, ERROR_INVALID, "%s is a folder: name a file in it", named);
    if (exists && !S_ISREG(info.st_mode))
        return error_set(e, ERROR_INVALID, "%s is no regular file: it is not replaced; name another", named);
    if (!file_follow(named, path, e)) return false;
    int n = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof temporary) return error_set(e, ERROR_TOO_LARGE, "the path %s is too long", named);
    int fd = make_temporary(temporary, private || exists ? 0600 : 0644, named, e);
    if (fd < 0) return false;
    bool ok = !private || make_private(fd, exists ? &info : NULL) || error_system(e, "write", named);
    if (ok && !private && exists) keep_mode(fd, &info);
    ok = ok && file_write_all(fd, named, bytes, size, e) && (fsync(fd) == 0 || error_system(e, "write", named));
    if (close(fd) != 0 && ok) ok = error_system(e, "write", named);
    if (ok && rename(temporary, path) != 0) ok = error_system(e, "replace", named);
    if (!ok) {
        unlink(temporary);
        return false;
    }
    return sync_folder_of(path, e);
}

bool file_replace(const char *path, const void *bytes, size_t size, error *e) { return replace(path, bytes, size, false, e); }
bool file_replace_private(const char *path, const void *bytes, size_t size, error *e) { return replace(path, bytes, size, true, e); }

bool file_make_folder(const char *path, error *e) {
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return error_set(e, ERROR_INVALID, "'%s' is not a usable folder path", path);
    memcpy(part, path, n + 1);
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0') continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) return error_system(e, "make the folder", part);
        *p = kept;
        if (kept == '\0') break;
    }
    struct stat info;
    if (stat(path, &info) != 0) return error_system(e, "use the folder", path);
    if (!S_ISDIR(info.st_mode)) return error_set(e, ERROR_IO, "%s is not a folder", path);
    return true;
}
