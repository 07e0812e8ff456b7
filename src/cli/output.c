#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static image_format format_by_ending(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path, *dot = strrchr(name, '.');
    image_format format = IMAGE_PNG;
    if (dot != NULL) image_format_parse(dot + 1, &format);
    return format;
}

static bool check_folder_of(const char *path, error *e) {
    char folder[PATH_MAX];
    struct stat info;
    if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
        return error_field(e, ERROR_INVALID, "output", "the path of --output is too long");
    char *slash = strrchr(folder, '/');
    if (slash == NULL) strcpy(folder, ".");
    else slash[slash == folder ? 1 : 0] = '\0';
    if (access(folder, W_OK | X_OK) == 0) return true;
    if (errno == ENOENT)
        return error_field(e, ERROR_IO, "output", "cannot write %s: there is no folder %s: make it first (mkdir -p)", path, folder);
    if (stat(folder, &info) == 0 && !S_ISDIR(info.st_mode))
        return error_field(e, ERROR_IO, "output", "cannot write %s: %s is no folder", path, folder);
    error_system(e, "write into the folder", folder);
    e->code = ERROR_IO;
    return false;
}

bool output_standard_is_open(void) {
    int mode = fcntl(STDOUT_FILENO, F_GETFL);
    return mode >= 0 && (mode & O_ACCMODE) != O_RDONLY;
}

/* By one of its names, or because it is the very file: what `-o a.png > a.png` has opened must not be replaced behind the shell's back. */
static bool is_standard(const char *path) {
    static const char *const names[] = {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"};
    struct stat named, standard;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(path, names[i]) == 0) return true;
    return output_standard_is_open() && stat(path, &named) == 0 && fstat(STDOUT_FILENO, &standard) == 0 && named.st_dev == standard.st_dev &&
           named.st_ino == standard.st_ino;
}

bool output_choose(const char *path, output *out, error *e) {
    struct stat info;
    *out = (output){.path = path, .format = format_by_ending(path)};
    if (path[0] == '\0') return error_field(e, ERROR_INVALID, "output", "--output is empty: name a file");
    out->standard = is_standard(path);
    if (out->standard) {
        if (isatty(STDOUT_FILENO))
            return error_field(e, ERROR_INVALID, "output", "a picture is nothing for a terminal: name a file, or send it on with > or |");
        return output_standard_is_open() || error_field(e, ERROR_IO, "output", "the standard output is closed: open it, or name a file");
    }
    bool exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode)) return error_field(e, ERROR_INVALID, "output", "%s is a folder: name a file in it", path);
    out->through = exists && !S_ISREG(info.st_mode);
    if (out->through) return access(path, W_OK) == 0 || error_system(e, "write to", path);
    return file_follow(path, out->target, e) && check_folder_of(out->target, e);
}

bool output_write(const output *o, const buffer *bytes, error *e) {
    if (o->standard) return file_write_all(STDOUT_FILENO, "the standard output", bytes->data, bytes->size, e);
    if (!o->through) return file_replace(o->target, bytes->data, bytes->size, e);
    int fd = open(o->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return error_system(e, "open", o->path);
    bool ok = file_write_all(fd, o->path, bytes->data, bytes->size, e);
    return (close(fd) == 0 || !ok || error_system(e, "write to", o->path)) && ok;
}
