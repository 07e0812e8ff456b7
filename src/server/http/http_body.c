#include "server/http/http_body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/checked.h"

/* Makes room for one more part and returns it, zeroed; it counts only once commit_part was called. */
static http_body_part *next_part(http_body *b, error *e) {
    if (b->count == b->capacity) {
        size_t capacity = b->capacity == 0 ? 4 : b->capacity * 2, bytes;
        http_body_part *grown = checked_mul(capacity, sizeof *b->parts, &bytes) ? realloc(b->parts, bytes) : NULL;
        if (grown == NULL) {
            error_no_memory(e, "an answer's parts", capacity);
            return NULL;
        }
        b->parts = grown;
        b->capacity = capacity;
    }
    http_body_part *p = &b->parts[b->count];
    *p = (http_body_part){.file = -1};
    return p;
}

static void commit_part(http_body *b, uint64_t raw_size, bool base64) {
    http_body_part *p = &b->parts[b->count];
    p->raw_size = raw_size;
    p->base64 = base64;
    p->size = base64 ? BASE64_SIZE(raw_size) : raw_size;
    b->size += p->size;
    b->count++;
}

static bool add_memory(http_body *b, buffer *text, bool base64, error *e) {
    http_body_part *p = buffer_ok(text) ? next_part(b, e) : NULL;
    if (p == NULL) {
        if (!buffer_ok(text)) error_no_memory(e, "an answer", text->size);
        buffer_free(text);
        return false;
    }
    p->text = *text;
    *text = (buffer){0};
    commit_part(b, p->text.size, base64);
    return true;
}

bool http_body_add(http_body *b, buffer *text, error *e) { return add_memory(b, text, false, e); }
bool http_body_add_base64(http_body *b, buffer *bytes, error *e) { return add_memory(b, bytes, true, e); }

bool http_body_add_text(http_body *b, const char *text, error *e) {
    buffer copy = {0};
    buffer_append_text(&copy, text);
    return http_body_add(b, &copy, e);
}

bool http_body_add_file(http_body *b, const char *path, bool base64, error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_system(e, "open", path);
    struct stat info;
    http_body_part *p = NULL;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) error_set(e, ERROR_BAD_FILE, "%s is not a regular file", path);
    else p = next_part(b, e);
    if (p == NULL) {
        close(fd);
        return false;
    }
    p->file = fd;
    commit_part(b, (uint64_t)info.st_size, base64);
    return true;
}

static bool read_file(int fd, uint64_t offset, uint8_t *out, size_t size, error *e) {
    while (size > 0) {
        ssize_t n = pread(fd, out, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_system(e, "read", "a stored picture");
        if (n == 0) return error_set(e, ERROR_BAD_FILE, "a stored picture shrank while it was read");
        out += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

static bool read_raw(const http_body_part *p, uint64_t offset, uint8_t *out, size_t size, error *e) {
    if (p->file >= 0) return read_file(p->file, offset, out, size, e);
    if (size > 0) memcpy(out, p->text.data + offset, size);
    return true;
}

/* Positions in a base64 part are always multiples of 4: it gives whole groups only. */
static bool read_base64(const http_body_part *p, uint64_t position, char *out, size_t capacity, size_t *got, error *e) {
    uint8_t raw[3 * 1024];
    uint64_t offset = position / 4 * 3, left = p->raw_size - offset;
    size_t take = capacity / 4 * 3;
    if (take > sizeof raw) take = sizeof raw;
    if (take > left) take = (size_t)left;
    if (!read_raw(p, offset, raw, take, e)) return false;
    base64_encode(raw, take, out);
    *got = BASE64_SIZE(take);
    return true;
}

static bool read_part(const http_body_part *p, uint64_t position, char *out, size_t capacity, size_t *got, error *e) {
    if (p->base64) return read_base64(p, position, out, capacity, got, e);
    *got = p->size - position < capacity ? (size_t)(p->size - position) : capacity;
    return read_raw(p, position, (uint8_t *)out, *got, e);
}

bool http_body_read(http_body *b, void *out, size_t capacity, size_t *got, error *e) {
    *got = 0;
    while (b->reading < b->count) {
        const http_body_part *p = &b->parts[b->reading];
        if (b->position == p->size) {
            b->reading++;
            b->position = 0;
            continue;
        }
        /* Base64 comes in groups of four: what is left may be too little for one. */
        if (capacity - *got < 4) break;
        size_t n;
        if (!read_part(p, b->position, (char *)out + *got, capacity - *got, &n, e)) return false;
        b->position += n;
        *got += n;
    }
    return true;
}

void http_body_free(http_body *b) {
    for (size_t i = 0; i < b->count; i++) {
        buffer_free(&b->parts[i].text);
        if (b->parts[i].file >= 0) close(b->parts[i].file);
    }
    free(b->parts);
    *b = (http_body){0};
}
