#include "engine/input_picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "image/resample.h"

enum { FILE_MAX_BYTES = 256 << 20 }; /* the most pixels there may be, not packed at all */

/* Read, and not mapped: a file may be cut short meanwhile. */
static bool read_all(int fd, uint8_t *bytes, size_t size, error *e) {
    for (size_t at = 0; at < size;) {
        ssize_t n = pread(fd, bytes + at, size - at, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_set(e, ERROR_IO, "its file cannot be read: %s", strerror(errno));
        if (n == 0) return error_set(e, ERROR_BAD_FILE, "its file was cut short");
        at += (size_t)n;
    }
    return true;
}

/* malloc'ed into *bytes. */
static bool read_file(int fd, uint8_t **bytes, size_t *size, error *e) {
    struct stat info;
    *bytes = NULL;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return error_set(e, ERROR_INVALID, "it is no regular file");
    if (info.st_size > FILE_MAX_BYTES)
        return error_set(e, ERROR_TOO_LARGE, "its file has %lld bytes: at most %d are taken", (long long)info.st_size, FILE_MAX_BYTES);
    *size = (size_t)info.st_size;
    *bytes = malloc(*size > 0 ? *size : 1);
    return *bytes == NULL ? error_no_memory(e, "its file", *size) : read_all(fd, *bytes, *size, e);
}

static bool decode(int fd, image *out, error *e) {
    uint8_t *bytes;
    size_t size;
    *out = (image){0};
    bool ok = read_file(fd, &bytes, &size, e) && image_decode(bytes, size, out, e);
    free(bytes);
    return ok;
}

/* The file's picture in this size. */
static bool read_in_size(int fd, int width, int height, image *out, error *e) {
    image whole;
    if (!decode(fd, &whole, e)) return false;
    if (whole.width == width && whole.height == height) {
        *out = whole;
        return true;
    }
    bool ok = image_resize(&whole, width, height, out, e);
    image_free(&whole);
    return ok;
}

static bool is_of(error *e, const char *field, const char *what) {
    if (e == NULL) return false;
    error_prefix(e, "%s: ", what);
    if (e->field[0] == '\0') memcpy(e->field, field, strlen(field) + 1);
    return false;
}

bool input_picture_size(int fd, int *width, int *height, error *e) {
    uint8_t *bytes;
    size_t size;
    image_info info = {0};
    bool ok = read_file(fd, &bytes, &size, e) && image_probe(bytes, size, &info, e);
    free(bytes);
    *width = info.width;
    *height = info.height;
    return ok || is_of(e, "image", "the picture to begin from");
}

bool input_picture_read(int fd, int width, int height, uint8_t **rgb, error *e) {
    image picture;
    *rgb = NULL;
    if (!read_in_size(fd, width, height, &picture, e)) return is_of(e, "image", "the picture to begin from");
    image_flatten(&picture, (const uint8_t[]){255, 255, 255});
    *rgb = picture.pixels;
    return true;
}

static float painted_share(const uint8_t *mask, int width, int left, int top, int factor) {
    int painted = 0;
    for (int y = 0; y < factor; y++)
        for (int x = 0; x < factor; x++) painted += mask[(size_t)(top + y) * (size_t)width + (size_t)(left + x)] >= 128;
    return (float)painted / (float)(factor * factor);
}

bool input_mask_read(int fd, bool alpha, int width, int height, int factor, float **mask, error *e) {
    image picture = {0};
    uint8_t *pixels = NULL;
    int columns = width / factor, rows = height / factor;
    size_t bytes = (size_t)columns * (size_t)rows * sizeof **mask;
    *mask = NULL;
    bool ok = read_in_size(fd, width, height, &picture, e) && image_mask(&picture, alpha ? MASK_FROM_ALPHA : MASK_FROM_LIGHT, &pixels, e) &&
              ((*mask = malloc(bytes)) != NULL || error_no_memory(e, "its cells", bytes));
    image_free(&picture);
    for (int y = 0; ok && y < rows; y++)
        for (int x = 0; x < columns; x++)
            (*mask)[(size_t)y * (size_t)columns + (size_t)x] = painted_share(pixels, width, x * factor, y * factor, factor);
    free(pixels);
    return ok || is_of(e, "mask", "the mask");
}
