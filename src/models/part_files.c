#include "models/part_files.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/component.h"

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_INDEX_BYTES = 64 << 20 };

/* One weight file; a shard is named once for each of its weights. */
static bool add_weights(part_files *f, const char *folder, const char *name, error *e) {
    char path[PATH_MAX];
    if (!file_join(path, sizeof path, folder, name, e)) return false;
    for (size_t i = 0; i < f->watch.count; i++)
        if (strcmp(f->watch.files[i].path, path) == 0) return true;
    if (!file_watch_add(&f->watch, path, e)) return false;
    f->weight_bytes += f->watch.files[f->watch.count - 1].stamp.size;
    return true;
}

static bool add_shards(part_files *f, const char *folder, const char *index, error *e) {
    char path[PATH_MAX];
    json_document d = {0};
    json map = {0};
    bool ok = file_join(path, sizeof path, folder, index, e) && file_watch_add(&f->watch, path, e) &&
              json_load(path, MAX_INDEX_BYTES, &d, e) && json_object(json_root(&d), "weight_map", &map, e);
    size_t i, count;
    yyjson_val *key, *file;
    if (ok && map.value != NULL)
        yyjson_obj_foreach(map.value, i, count, key, file)
            ok = ok && (!yyjson_is_str(file) || add_weights(f, folder, yyjson_get_str(file), e));
    json_document_free(&d);
    return ok;
}

/* As tensor_store_open looks for them: for each stem the one file, else the index. */
static bool find_weights(part_files *f, const char *folder, error *e) {
    for (const char *const *stem = component_stems; *stem != NULL; stem++) {
        char name[NAME_MAX + 1], path[PATH_MAX];
        snprintf(name, sizeof name, "%s.safetensors", *stem);
        if (!file_join(path, sizeof path, folder, name, e)) return false;
        if (file_exists(path)) return add_weights(f, folder, name, e);
        snprintf(name, sizeof name, "%s.safetensors.index.json", *stem);
        if (!file_join(path, sizeof path, folder, name, e)) return false;
        if (file_exists(path)) return add_shards(f, folder, name, e);
    }
    return true;
}

static int by_inode(const void *a, const void *b) {
    const watched_file *x = a, *y = b;
    if (x->stamp.inode != y->stamp.inode) return x->stamp.inode < y->stamp.inode ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* In an order that does not depend on what the links are called. */
static bool describe(part_files *f, const char *folder, error *e) {
    char path[PATH_MAX];
    qsort(f->watch.files, f->watch.count, sizeof *f->watch.files, by_inode);
    for (size_t i = 0; i < f->watch.count; i++) {
        const char *file = f->watch.files[i].path;
        const file_stamp *s = &f->watch.files[i].stamp;
        size_t n = strlen(file);
        if (n < 12 || strcmp(file + n - 12, ".safetensors") != 0) continue;
        buffer_printf(&f->identity, "%" PRIx64 " %" PRIx64 " %" PRIu64 " %" PRId64 "\n", s->device, s->inode, s->size, s->modified_ns);
    }
    if (!file_join(path, sizeof path, folder, "config.json", e)) return false;
    error missing = {0};
    if (file_exists(path) && !file_read(path, MAX_CONFIG_BYTES, &f->identity, &missing)) buffer_append_byte(&f->identity, '\0');
    return buffer_ok(&f->identity) || error_no_memory(e, "the names of a model's files", f->identity.size);
}

bool part_files_read(const char *folder, part_files *out, error *e) {
    *out = (part_files){0};
    return file_watch_add_in(&out->watch, folder, "config.json", e) && find_weights(out, folder, e) && describe(out, folder, e);
}

void part_files_free(part_files *f) {
    file_watch_free(&f->watch);
    buffer_free(&f->identity);
    *f = (part_files){0};
}

bool part_files_same(const part_files *a, const part_files *b) {
    return a->identity.size == b->identity.size && memcmp(buffer_text(&a->identity), buffer_text(&b->identity), a->identity.size) == 0;
}
