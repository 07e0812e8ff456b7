#include "weights/tensor_store.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "weights/safetensors.h"

enum { MAX_SHARDS = 4096, MAX_INDEX_BYTES = 64 << 20 };

struct tensor_store {
    char *folder;
    const tensor_reading *how; /* while opening; NULL: mapped */
    safetensors **files;
    size_t file_count;
    weight *weights; /* of all files, in order of name; names and data belong to the files */
    size_t count;
};

static bool add_file(tensor_store *s, const char *name, error *e) {
    char path[PATH_MAX];
    if (!file_join(path, sizeof path, s->folder, name, e)) return false;
    if (s->file_count >= MAX_SHARDS) return error_set(e, ERROR_UNSUPPORTED, "%s: more than %d shards", s->folder, MAX_SHARDS);
    safetensors **grown = realloc(s->files, (s->file_count + 1) * sizeof *grown);
    if (grown == NULL) return error_no_memory(e, "the list of weight files", (s->file_count + 1) * sizeof *grown);
    s->files = grown;
    safetensors **file = &s->files[s->file_count];
    if (s->how != NULL ? !safetensors_read(path, s->how, file, e) : !safetensors_open(path, file, e)) return false;
    s->file_count++;
    return true;
}

static int by_name(const void *a, const void *b) { return strcmp(((const weight *)a)->name, ((const weight *)b)->name); }

static bool merge_files(tensor_store *s, error *e) {
    size_t total = 0;
    for (size_t i = 0; i < s->file_count; i++) total += safetensors_count(s->files[i]);
    s->weights = calloc(total + 1, sizeof *s->weights);
    if (s->weights == NULL) return error_no_memory(e, "the list of weights", total * sizeof *s->weights);
    for (size_t i = 0; i < s->file_count; i++) {
        size_t count = safetensors_count(s->files[i]);
        if (count > 0) memcpy(s->weights + s->count, safetensors_at(s->files[i], 0), count * sizeof *s->weights);
        s->count += count;
    }
    if (s->file_count > 1 && s->count > 0) qsort(s->weights, s->count, sizeof *s->weights, by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->weights[i - 1].name, s->weights[i].name) == 0)
            return error_set(e, ERROR_BAD_FILE, "%s: '%s' stands in two shards", s->folder, s->weights[i].name);
    return true;
}

/* A shard is a plain file name: an index must not lead out of its folder. */
static bool plain_name(const char *name) { return name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL; }

static bool in_file(const tensor_store *s, const weight *w, const char *file) {
    for (size_t i = 0; i < s->file_count; i++) {
        const void *address;
        size_t length;
        safetensors_mapping(s->files[i], &address, &length);
        const char *begin = address, *data = w->data, *path = safetensors_path(s->files[i]);
        if (data >= begin && data <= begin + length && strcmp(strrchr(path, '/') + 1, file) == 0) return true;
    }
    return false;
}

static bool has_file(const tensor_store *s, const char *file) {
    for (size_t i = 0; i < s->file_count; i++)
        if (strcmp(strrchr(safetensors_path(s->files[i]), '/') + 1, file) == 0) return true;
    return false;
}

static bool open_shards(tensor_store *s, json map, error *e) {
    size_t at, count;
    yyjson_val *key, *file;
    yyjson_obj_foreach(map.value, at, count, key, file) {
        const char *name = yyjson_get_str(file);
        if (!plain_name(name) || strlen(name) != yyjson_get_len(file))
            return error_set(e, ERROR_BAD_FILE, "%s: the shard of '%s' is not the name of a file beside it", map.source,
                             yyjson_get_str(key));
        if (!has_file(s, name) && !add_file(s, name, e)) return false;
    }
    if (!merge_files(s, e)) return false;
    yyjson_obj_foreach(map.value, at, count, key, file) {
        const weight *w = tensor_store_find(s, yyjson_get_str(key));
        if (w == NULL || !in_file(s, w, yyjson_get_str(file)))
            return error_set(e, ERROR_BAD_FILE, "%s: '%s' is not in %s", map.source, yyjson_get_str(key), yyjson_get_str(file));
    }
    return true;
}

static bool open_index(tensor_store *s, const char *path, error *e) {
    json_document d = {0};
    json map = {0};
    bool ok = json_load(path, MAX_INDEX_BYTES, &d, e);
    if (ok)
        ok = json_require(json_root(&d), "weight_map", e) && json_object(json_root(&d), "weight_map", &map, e) && open_shards(s, map, e);
    json_document_free(&d);
    return ok;
}

/* Opens what there is of one stem; *found tells whether there is anything. */
static bool open_stem(tensor_store *s, const char *stem, bool *found, error *e) {
    char path[PATH_MAX], name[NAME_MAX + 1];
    if (strlen(stem) > NAME_MAX - strlen(".safetensors.index.json")) return error_set(e, ERROR_INTERNAL, "the stem '%s' is too long", stem);
    stpcpy(stpcpy(name, stem), ".safetensors");
    if (!file_join(path, sizeof path, s->folder, name, e)) return false;
    if ((*found = file_exists(path))) return add_file(s, name, e) && merge_files(s, e);
    stpcpy(stpcpy(name, stem), ".safetensors.index.json");
    if (!file_join(path, sizeof path, s->folder, name, e)) return false;
    if ((*found = file_exists(path))) return open_index(s, path, e);
    return true;
}

static bool open_stems(tensor_store *s, const char *const *stems, error *e) {
    bool found = false;
    for (const char *const *stem = stems; *stem != NULL && !found; stem++)
        if (!open_stem(s, *stem, &found, e)) return false;
    if (!found) return error_set(e, ERROR_NOT_FOUND, "%s holds no weights: neither %s.safetensors nor its index", s->folder, stems[0]);
    return true;
}

static bool open_store(const char *folder, const char *const *stems, const tensor_reading *how, tensor_store **out, error *e) {
    *out = NULL;
    tensor_store *s = calloc(1, sizeof *s);
    if (s == NULL || (s->folder = strdup(folder)) == NULL) {
        tensor_store_free(s);
        return error_no_memory(e, "a folder of weights", sizeof *s);
    }
    s->how = how;
    if (!open_stems(s, stems, e)) {
        tensor_store_free(s);
        return false;
    }
    s->how = NULL;
    *out = s;
    return true;
}

bool tensor_store_open(const char *folder, const char *const *stems, tensor_store **out, error *e) {
    return open_store(folder, stems, NULL, out, e);
}

bool tensor_store_read(const char *folder, const char *const *stems, const tensor_reading *how, tensor_store **out, error *e) {
    return open_store(folder, stems, how, out, e);
}

void tensor_store_free(tensor_store *s) {
    if (s == NULL) return;
    for (size_t i = 0; i < s->file_count; i++) safetensors_free(s->files[i]);
    free(s->files);
    free(s->weights);
    free(s->folder);
    free(s);
}

const weight *tensor_store_find(const tensor_store *s, const char *name) {
    weight key = {.name = name};
    return s->count > 0 ? bsearch(&key, s->weights, s->count, sizeof *s->weights, by_name) : NULL;
}

size_t tensor_store_count(const tensor_store *s) { return s->count; }
const weight *tensor_store_at(const tensor_store *s, size_t index) { return index < s->count ? &s->weights[index] : NULL; }
const char *tensor_store_folder(const tensor_store *s) { return s->folder; }

static size_t file_bytes(const tensor_store *s, bool are_private) {
    size_t total = 0;
    for (size_t i = 0; i < s->file_count; i++) {
        const void *address;
        size_t length;
        safetensors_mapping(s->files[i], &address, &length);
        if (safetensors_is_private(s->files[i]) == are_private) total += length;
    }
    return total;
}

size_t tensor_store_mapped_bytes(const tensor_store *s) { return file_bytes(s, false); }
size_t tensor_store_private_bytes(const tensor_store *s) { return file_bytes(s, true); }
size_t tensor_store_bytes(const tensor_store *s) { return file_bytes(s, false) + file_bytes(s, true); }

size_t tensor_store_file_count(const tensor_store *s) { return s->file_count; }

void tensor_store_file(const tensor_store *s, size_t index, const void **address, size_t *length) {
    *address = NULL;
    *length = 0;
    if (index < s->file_count) safetensors_mapping(s->files[index], address, length);
}
