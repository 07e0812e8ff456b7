/* Preloaded into a server, a disk that is full while the file $FULL_DISK_FLAG exists: what would write below $FULL_DISK_FOLDER gets ENOSPC.
 * Works for whoever runs the tests, where a small file system of one's own needs the right to mount one. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int full(int fd) {
    const char *flag = getenv("FULL_DISK_FLAG"), *folder = getenv("FULL_DISK_FOLDER");
    char link[64], path[4096];
    if (flag == NULL || folder == NULL || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = '\0';
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* The function behind ours; ISO C has no cast from an object's address to a function's. */
#define FIND(pointer, name) (*(void **)(&(pointer)) = dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *bytes, size_t size) {
    ssize_t (*original)(int, const void *, size_t);
    if (full(fd)) return errno = ENOSPC, -1;
    FIND(original, "write");
    return original(fd, bytes, size);
}

static ssize_t write_at(int fd, const void *bytes, size_t size, off64_t at) {
    ssize_t (*original)(int, const void *, size_t, off64_t);
    if (full(fd)) return errno = ENOSPC, -1;
    FIND(original, "pwrite64");
    return original(fd, bytes, size, at);
}

/* With 64-bit offsets the headers make one name of the two. */
#undef pwrite
#undef pwrite64
ssize_t preloaded_pwrite(int fd, const void *bytes, size_t size, off64_t at) __asm__("pwrite");
ssize_t preloaded_pwrite64(int fd, const void *bytes, size_t size, off64_t at) __asm__("pwrite64");
ssize_t preloaded_pwrite(int fd, const void *bytes, size_t size, off64_t at) { return write_at(fd, bytes, size, at); }
ssize_t preloaded_pwrite64(int fd, const void *bytes, size_t size, off64_t at) { return write_at(fd, bytes, size, at); }
