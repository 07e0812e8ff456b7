#include "server/pictures/input_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/file.h"

enum { NAME_BYTES = INPUT_ID_BYTES + INPUT_OWNER_BYTES + 32 };

struct input_store {
    char folder[PATH_MAX];
    input *items; /* the oldest first */
    size_t count, capacity;
    uint64_t bytes;
};

bool input_id_valid(const char *id) { return strlen(id) == INPUT_ID_BYTES - 1 && strspn(id, "0123456789abcdef") == INPUT_ID_BYTES - 1; }

/* --- whose --- */

/* Names of keys may hold what a file's name may not, so a digest stands for them. */
static void owner_tag(const char *key, char out[INPUT_OWNER_BYTES]) {
    char digest[SHA256_TEXT_BYTES] = "";
    if (key != NULL && key[0] != '\0') sha256_text(key, strlen(key), digest);
    snprintf(out, INPUT_OWNER_BYTES, "%.*s", INPUT_OWNER_BYTES - 1, digest);
}

bool input_is_of(const input *i, const char *key) {
    char tag[INPUT_OWNER_BYTES];
    owner_tag(key, tag);
    return tag[0] == '\0' || strcmp(i->owner, tag) == 0;
}

/* --- names --- */

static void format_name(const input *i, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "%.64s.%dx%d%s%.16s.%s", i->id, i->info.width, i->info.height, i->owner[0] != '\0' ? "." : "", i->owner,
             image_format_extension(i->info.format));
}

/* Only what format_name makes. */
static bool parse_name(const char *name, input *out) {
    char extension[8], again[NAME_BYTES];
    *out = (input){0};
    if (strlen(name) < INPUT_ID_BYTES) return false;
    memcpy(out->id, name, INPUT_ID_BYTES - 1);
    const char *rest = name + INPUT_ID_BYTES - 1;
    bool owned = sscanf(rest, ".%5dx%5d.%16[0-9a-f].%7s", &out->info.width, &out->info.height, out->owner, extension) == 4 &&
                 strlen(out->owner) == INPUT_OWNER_BYTES - 1;
    if (!owned) out->owner[0] = '\0';
    if (!input_id_valid(out->id) || (!owned && sscanf(rest, ".%5dx%5d.%7s", &out->info.width, &out->info.height, extension) != 3) ||
        out->info.width < 1 || out->info.height < 1 || !image_format_parse(extension, &out->info.format))
        return false;
    format_name(out, again);
    return strcmp(name, again) == 0;
}

/* What file_replace left behind when its process was killed. */
static bool is_half_written(const char *name) {
    size_t size = strlen(name);
    return size > INPUT_ID_BYTES + 4 && name[INPUT_ID_BYTES - 1] == '.' && strcmp(name + size - 4, ".tmp") == 0;
}

/* --- the index --- */

static bool reserve(input_store *s, error *e) {
    size_t capacity = s->capacity == 0 ? 16 : s->capacity * 2, bytes;
    if (s->count < s->capacity) return true;
    input *grown = checked_mul(capacity, sizeof *grown, &bytes) ? realloc(s->items, bytes) : NULL;
    if (grown == NULL) return error_no_memory(e, "the list of inputs", capacity * sizeof *grown);
    s->items = grown;
    s->capacity = capacity;
    return true;
}

static void drop(input_store *s, size_t index) {
    s->bytes -= s->items[index].bytes;
    s->count--;
    memmove(s->items + index, s->items + index + 1, (s->count - index) * sizeof *s->items);
}

/* SIZE_MAX: nowhere. `owner` NULL: anybody's. The newest are asked for most. */
static size_t index_of(const input_store *s, const char *id, const char *owner) {
    for (size_t i = s->count; i > 0; i--)
        if (strcmp(s->items[i - 1].id, id) == 0 && (owner == NULL || strcmp(s->items[i - 1].owner, owner) == 0)) return i - 1;
    return SIZE_MAX;
}

static int by_age(const void *a, const void *b) {
    const input *x = a, *y = b;
    return x->created_ms != y->created_ms ? (x->created_ms > y->created_ms) - (x->created_ms < y->created_ms) : strcmp(x->id, y->id);
}

static bool read_folder(input_store *s, error *e) {
    DIR *d = opendir(s->folder);
    if (d == NULL) return error_system(e, "read", s->folder);
    bool ok = true;
    for (const struct dirent *entry; ok && (entry = readdir(d)) != NULL;) {
        input i;
        struct stat info;
        if (is_half_written(entry->d_name)) unlinkat(dirfd(d), entry->d_name, 0);
        if (!parse_name(entry->d_name, &i) || fstatat(dirfd(d), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode))
            continue;
        i.bytes = (uint64_t)info.st_size;
        i.created_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
        if (!(ok = reserve(s, e))) break;
        s->items[s->count++] = i;
        s->bytes += i.bytes;
    }
    closedir(d);
    if (ok && s->count > 0) qsort(s->items, s->count, sizeof *s->items, by_age);
    return ok;
}

bool input_store_new(const char *state_folder, input_store **out, error *e) {
    input_store *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "the store of inputs", sizeof *s);
    bool ok = file_join(s->folder, sizeof s->folder, state_folder, "inputs", e) && file_make_folder(s->folder, e) && read_folder(s, e);
    if (!ok) {
        error_prefix(e, "the state folder cannot be used (--state names another): ");
        input_store_free(s);
        return false;
    }
    *out = s;
    return true;
}

void input_store_free(input_store *s) {
    if (s == NULL) return;
    free(s->items);
    free(s);
}

bool input_store_write(const input_store *s, const char *key, const void *bytes, size_t size, input *out, error *e) {
    image picture;
    char path[PATH_MAX];
    *out = (input){.bytes = size};
    owner_tag(key, out->owner);
    if (!image_probe(bytes, size, &out->info, e) || !image_decode(bytes, size, &picture, e)) return false;
    image_free(&picture);
    sha256_text(bytes, size, out->id);
    return input_store_path(s, out, path, e) && file_replace(path, bytes, size, e);
}

bool input_store_path(const input_store *s, const input *i, char out[PATH_MAX], error *e) {
    char name[NAME_BYTES];
    format_name(i, name);
    return file_join(out, PATH_MAX, s->folder, name, e);
}

bool input_store_add(input_store *s, const input *i, error *e) {
    char path[PATH_MAX];
    size_t had = index_of(s, i->id, i->owner);
    if (!input_store_path(s, i, path, e)) return false;
    if (!file_exists(path)) return error_set(e, ERROR_NOT_FOUND, "the picture was deleted while it was stored");
    if (had != SIZE_MAX) drop(s, had);
    if (!reserve(s, e)) return false; /* the file stays, and is found at the next start */
    input *added = &s->items[s->count++];
    *added = *i;
    added->created_ms = clock_unix_ms();
    /* Should the clock have been set back, the order still holds. */
    if (s->count > 1 && added->created_ms < added[-1].created_ms) added->created_ms = added[-1].created_ms;
    s->bytes += i->bytes;
    return true;
}

static size_t index_for(const input_store *s, const char *key, const char *id) {
    char tag[INPUT_OWNER_BYTES];
    owner_tag(key, tag);
    return index_of(s, id, tag[0] != '\0' ? tag : NULL);
}

const input *input_store_find(const input_store *s, const char *key, const char *id) {
    size_t i = index_for(s, key, id);
    return i != SIZE_MAX ? &s->items[i] : NULL;
}

static void remove_at(input_store *s, size_t index) {
    char path[PATH_MAX];
    if (input_store_path(s, &s->items[index], path, NULL)) unlink(path);
    drop(s, index);
}

bool input_store_remove(input_store *s, const char *key, const char *id) {
    bool found = false;
    for (size_t i; (i = index_for(s, key, id)) != SIZE_MAX; found = true) remove_at(s, i);
    return found;
}

void input_store_trim(input_store *s, const input_limits *limits, int64_t now_ms, bool (*held)(const void *context, const char *id),
                      const void *context) {
    size_t at = 0; /* those before it are held */
    while (at < s->count) {
        bool too_old = limits->age_ms > 0 && now_ms - s->items[at].created_ms > limits->age_ms;
        if (!too_old && s->count <= INPUTS_MAX && (limits->bytes == 0 || s->bytes <= limits->bytes)) return;
        if (held != NULL && held(context, s->items[at].id)) at++;
        else remove_at(s, at);
    }
}

size_t input_store_count(const input_store *s) { return s->count; }
const input *input_store_at(const input_store *s, size_t index) { return &s->items[s->count - 1 - index]; }
