#include "server/api/comfy_inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

static const char setting[] = "comfy_inputs"; /* [[owner, name, image, mask], …] */

struct comfy_inputs {
    task_keeper *keeper;
    const input_store *store;
    comfy_input_name *names; /* the newest last */
    size_t count, capacity;
};

static bool append(comfy_inputs *n, const comfy_input_name *name) {
    if (n->count == COMFY_INPUTS_MAX) {
        memmove(n->names, n->names + 1, (n->count - 1) * sizeof *n->names);
        n->count--;
    }
    if (n->count == n->capacity) {
        size_t capacity = n->capacity > 0 ? 2 * n->capacity : 16;
        comfy_input_name *more = realloc(n->names, capacity * sizeof *more);
        if (more == NULL) return false;
        n->names = more;
        n->capacity = capacity;
    }
    n->names[n->count++] = *name;
    return true;
}

static void read_setting(comfy_inputs *n) {
    const char *text = task_keeper_setting(n->keeper, setting);
    yyjson_doc *doc = text != NULL ? yyjson_read(text, strlen(text), 0) : NULL;
    size_t i, max;
    yyjson_val *from;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, max, from) {
        comfy_input_name one;
        const char *part[4];
        bool ok = true;
        for (size_t j = 0; j < 4; j++) ok = (part[j] = yyjson_get_str(yyjson_arr_get(from, j))) != NULL && ok;
        if (!ok || !input_id_valid(part[2]) || !input_id_valid(part[3])) continue;
        snprintf(one.owner, sizeof one.owner, "%s", part[0]);
        snprintf(one.name, sizeof one.name, "%s", part[1]);
        snprintf(one.image, sizeof one.image, "%s", part[2]);
        snprintf(one.mask, sizeof one.mask, "%s", part[3]);
        append(n, &one);
    }
    yyjson_doc_free(doc);
}

static void write_setting(comfy_inputs *n) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (size_t i = 0; i < n->count; i++) {
        yyjson_mut_val *one = yyjson_mut_arr_add_arr(doc, list);
        yyjson_mut_arr_add_str(doc, one, n->names[i].owner);
        yyjson_mut_arr_add_str(doc, one, n->names[i].name);
        yyjson_mut_arr_add_str(doc, one, n->names[i].image);
        yyjson_mut_arr_add_str(doc, one, n->names[i].mask);
    }
    yyjson_mut_doc_set_root(doc, list);
    char *text = doc != NULL ? yyjson_mut_write(doc, 0, NULL) : NULL;
    yyjson_mut_doc_free(doc);
    if (text != NULL) task_keeper_set(n->keeper, setting, text);
    free(text);
}

bool comfy_inputs_new(task_keeper *k, const input_store *store, comfy_inputs **out, error *e) {
    comfy_inputs *n = calloc(1, sizeof *n);
    if (n == NULL) return error_no_memory(e, "the names of pictures", sizeof *n);
    *n = (comfy_inputs){.keeper = k, .store = store};
    read_setting(n);
    *out = n;
    return true;
}

void comfy_inputs_free(comfy_inputs *n) {
    if (n == NULL) return;
    free(n->names);
    free(n);
}

/* --- names --- */

static bool part_valid(const char *part, size_t size) {
    if (size == 0 || (size == 1 && part[0] == '.') || (size == 2 && memcmp(part, "..", 2) == 0)) return false;
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)part[i] < 0x20 || part[i] == '\\' || part[i] == 0x7F) return false;
    return true;
}

bool comfy_input_join(const char *folder, const char *name, char out[2 * COMFY_NAME_BYTES], error *e) {
    size_t size = strlen(folder);
    while (size > 0 && folder[size - 1] == '/') size--;
    bool ok = strlen(name) < COMFY_NAME_BYTES && size < COMFY_NAME_BYTES && utf8_valid(name, strlen(name), NULL) &&
              utf8_valid(folder, size, NULL) && strchr(name, '/') == NULL && part_valid(name, strlen(name));
    for (size_t at = 0; ok && at < size;) {
        size_t n = strcspn(folder + at, "/");
        if (n > size - at) n = size - at;
        ok = part_valid(folder + at, n);
        at += n + 1;
    }
    if (!ok) return error_set(e, ERROR_INVALID, "a file's name and its folder must be at most %d bytes each, without empty parts, '..' or backslashes", COMFY_NAME_BYTES - 1);
    snprintf(out, 2 * COMFY_NAME_BYTES, "%.*s%s%s", (int)size, folder, size > 0 ? "/" : "", name);
    return true;
}

static comfy_input_name *find(const comfy_inputs *n, const char *owner, const char *name) {
    for (size_t i = n->count; i-- > 0;)
        if (strcmp(n->names[i].name, name) == 0 && strcmp(n->names[i].owner, owner) == 0) return &n->names[i];
    return NULL;
}

const comfy_input_name *comfy_inputs_find(const comfy_inputs *n, const char *owner, const char *name) {
    const comfy_input_name *one = find(n, owner, name);
    return one != NULL && input_store_find(n->store, owner, one->image) != NULL ? one : NULL;
}

/* "a/fox.png", 2 → "a/fox (2).png". */
static void number_name(const char *name, int number, char out[2 * COMFY_NAME_BYTES]) {
    const char *slash = strrchr(name, '/'), *dot = strrchr(slash != NULL ? slash : name, '.');
    int stem = dot != NULL ? (int)(dot - name) : (int)strlen(name);
    snprintf(out, 2 * COMFY_NAME_BYTES, "%.*s (%d)%s", stem < 2 * COMFY_NAME_BYTES - 60 ? stem : 2 * COMFY_NAME_BYTES - 60, name, number,
             dot != NULL && strlen(dot) < 40 ? dot : "");
}

const comfy_input_name *comfy_inputs_add(comfy_inputs *n, const comfy_input_name *wanted, bool overwrite) {
    comfy_input_name one = *wanted;
    for (int i = 0; i <= COMFY_INPUTS_MAX; i++) {
        if (i > 0) number_name(wanted->name, i, one.name);
        comfy_input_name *there = find(n, one.owner, one.name);
        if (there == NULL) break;
        bool same = strcmp(there->image, one.image) == 0 && strcmp(there->mask, one.mask) == 0;
        if (!same && !overwrite && input_store_find(n->store, one.owner, there->image) != NULL) continue;
        /* It becomes the newest. */
        memmove(there, there + 1, (size_t)(n->names + n->count - there - 1) * sizeof *there);
        n->count--;
        break;
    }
    if (!append(n, &one)) return NULL;
    write_setting(n);
    return &n->names[n->count - 1];
}

static bool fill(const comfy_inputs *n, const char *owner, const char *id, const char *mask_id, comfy_picture *out) {
    const input *i = input_store_find(n->store, owner, id), *mask = input_store_find(n->store, owner, mask_id);
    if (i == NULL || mask == NULL) return false;
    memcpy(out->image, i->id, sizeof out->image);
    memcpy(out->mask, mask->id, sizeof out->mask);
    out->width = i->info.width;
    out->height = i->info.height;
    return true;
}

bool comfy_inputs_picture(const comfy_inputs *n, const char *owner, const char *said, comfy_picture *out) {
    static const char annotation[] = " [input]";
    char name[2 * COMFY_NAME_BYTES];
    size_t size = strlen(said), tail = strlen(annotation);
    if (size > tail && strcmp(said + size - tail, annotation) == 0) size -= tail;
    if (size >= sizeof name) return false;
    snprintf(name, sizeof name, "%.*s", (int)size, said);
    const comfy_input_name *one = find(n, owner, name);
    if (one != NULL) return fill(n, owner, one->image, one->mask, out);
    return input_id_valid(name) && fill(n, owner, name, name, out);
}

size_t comfy_inputs_count(const comfy_inputs *n) { return n->count; }
const comfy_input_name *comfy_inputs_at(const comfy_inputs *n, size_t index) { return &n->names[index]; }
