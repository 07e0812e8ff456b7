#include "server/access/api_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"

enum { KEY_RANDOM_BYTES = 32 };
#define KEY_PREFIX "imagined_" /* so that people and scanners for secrets know what it is */

typedef struct api_key {
    char name[API_KEY_NAME_BYTES];
    uint8_t hash[SHA256_BYTES];
} api_key;

struct api_keys {
    size_t count;
    api_key keys[];
};

/* --- lines --- */

static bool name_valid(const char *name, size_t size) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (size == 0 || size >= API_KEY_NAME_BYTES) return false;
    for (size_t i = 0; i < size; i++)
        if (name[i] == '\0' || strchr(allowed, name[i]) == NULL) return false;
    return true;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hash(const char *text, size_t size, uint8_t hash[SHA256_BYTES]) {
    if (size != 2 * SHA256_BYTES) return false;
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        hash[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static bool add_line(api_keys *k, const char *line, size_t size, error *e) {
    while (size > 0 && is_blank(line[size - 1])) size--;
    while (size > 0 && is_blank(*line)) line++, size--;
    if (size == 0 || *line == '#') return true;
    api_key *key = &k->keys[k->count];
    const char *colon = memchr(line, ':', size);
    size_t name = colon != NULL ? (size_t)(colon - line) : 0;
    if (!name_valid(line, name) || !read_hash(colon + 1, size - name - 1, key->hash))
        return error_set(e, ERROR_BAD_FILE,
                         "it must be a name (letters, digits, '.', '_', '-'), ':' and the 64 hexadecimal digits of the key's SHA-256");
    memcpy(key->name, line, name);
    key->name[name] = '\0';
    for (size_t i = 0; i < k->count; i++)
        if (strcmp(k->keys[i].name, key->name) == 0) return error_set(e, ERROR_BAD_FILE, "the name '%s' was there before", key->name);
    k->count++;
    return true;
}

bool api_keys_parse(const char *text, size_t size, const char *name, api_keys **out, error *e) {
    size_t lines = 1;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    /* Far more lines than keys may be comments; they have no more room than the most keys need, and one to look at. */
    size_t room = (lines < API_KEYS_MAX ? lines : API_KEYS_MAX) + 1;
    api_keys *k = calloc(1, sizeof *k + room * sizeof *k->keys);
    if (k == NULL) return error_no_memory(e, "the API keys", sizeof *k + room * sizeof *k->keys);
    int number = 1;
    for (const char *at = text, *end = text + size; at < end; number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        bool ok = add_line(k, at, (size_t)(stop - at), e);
        if (ok && k->count > API_KEYS_MAX) ok = error_set(e, ERROR_BAD_FILE, "more than %d keys", API_KEYS_MAX);
        if (!ok) {
            api_keys_free(k);
            return error_prefix(e, "%s:%d: ", name, number);
        }
        at = stop < end ? stop + 1 : end;
    }
    *out = k;
    return true;
}

bool api_keys_read(const char *path, api_keys **out, error *e) {
    buffer text = {0};
    bool ok = file_read(path, API_KEYS_FILE_BYTES, &text, e) && api_keys_parse(buffer_text(&text), text.size, path, out, e);
    buffer_free(&text);
    return ok;
}

void api_keys_free(api_keys *k) { free(k); }
size_t api_keys_count(const api_keys *k) { return k->count; }

/* --- finding --- */

const char *api_keys_find(const api_keys *k, const char *key) {
    uint8_t hash[SHA256_BYTES];
    const char *found = NULL;
    sha256(key, strlen(key), hash);
    for (size_t i = 0; i < k->count; i++) {
        unsigned difference = 0;
        for (size_t b = 0; b < SHA256_BYTES; b++) difference |= (unsigned)(hash[b] ^ k->keys[i].hash[b]);
        if (difference == 0) found = k->keys[i].name;
    }
    return found;
}

/* --- adding --- */

static bool make_key(char key[API_KEY_TEXT_BYTES], error *e) {
    uint8_t random[KEY_RANDOM_BYTES];
    ssize_t n;
    do n = getrandom(random, sizeof random, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof random) return error_set(e, ERROR_INTERNAL, "the system gives no random numbers");
    strcpy(key, KEY_PREFIX);
    for (size_t i = 0; i < sizeof random; i++) sprintf(key + strlen(KEY_PREFIX) + 2 * i, "%02x", random[i]);
    return true;
}

/* A lock on the folder: one on the file would be on the old one once that is replaced. Closing gives it back; −1: *e is set. */
static int lock_folder(const char *path, error *e) {
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder) {
        error_set(e, ERROR_TOO_LARGE, "the path %s is too long", path);
        return -1;
    }
    char *slash = strrchr(folder, '/');
    if (slash == NULL) strcpy(folder, ".");
    else slash[slash == folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), locked;
    if (fd < 0) {
        error_system(e, "open the folder", folder);
        return -1;
    }
    do locked = flock(fd, LOCK_EX);
    while (locked != 0 && errno == EINTR);
    if (locked == 0) return fd;
    error_system(e, "lock the folder", folder);
    close(fd);
    return -1;
}

static bool add_key(const char *path, const char *name, char key[API_KEY_TEXT_BYTES], buffer *text, error *e) {
    char hash[SHA256_TEXT_BYTES];
    error missing = {0};
    api_keys *k = NULL;
    if (!file_read(path, API_KEYS_FILE_BYTES, text, &missing) && missing.code != ERROR_NOT_FOUND) {
        *e = missing;
        return false;
    }
    if (text->size > 0 && text->data[text->size - 1] != '\n') buffer_append_byte(text, '\n');
    if (!make_key(key, e)) return false;
    sha256_text(key, strlen(key), hash);
    /* A server would refuse the whole file for one bad line, so that is told here. */
    if (!buffer_ok(text)) return error_no_memory(e, path, text->size);
    if (!api_keys_parse(buffer_text(text), text->size, path, &k, e)) return false;
    bool taken = false;
    for (size_t i = 0; i < k->count; i++) taken |= strcmp(k->keys[i].name, name) == 0;
    bool full = k->count >= API_KEYS_MAX;
    api_keys_free(k);
    if (taken) return error_set(e, ERROR_INVALID, "%s has a key of the name '%s': take another name, or remove its line first", path, name);
    if (full || text->size + 2 * API_KEY_NAME_BYTES + SHA256_TEXT_BYTES > API_KEYS_FILE_BYTES)
        return error_set(e, ERROR_TOO_LARGE, "%s is full: it may have %d keys and 1 MiB", path, API_KEYS_MAX);
    buffer_printf(text, "%s:%s\n", name, hash);
    if (!buffer_ok(text)) return error_no_memory(e, path, text->size);
    return file_replace_private(path, text->data, text->size, e);
}

bool api_keys_add(const char *path, const char *name, char key[API_KEY_TEXT_BYTES], error *e) {
    key[0] = '\0';
    if (!name_valid(name, strlen(name)))
        return error_set(e, ERROR_INVALID, "'%.80s' is no name of a key: it must be 1 to %d letters, digits, '.', '_' or '-'", name,
                         API_KEY_NAME_BYTES - 1);
    int lock = lock_folder(path, e);
    if (lock < 0) return false;
    buffer text = {0};
    bool ok = add_key(path, name, key, &text, e);
    if (!ok) key[0] = '\0';
    buffer_free(&text);
    close(lock);
    return ok;
}
