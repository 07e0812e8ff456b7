#include "server/pictures/picture_store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

struct picture_store {
    char folder[PATH_MAX];
};

bool picture_store_new(const char *state_folder, picture_store **out, error *e) {
    picture_store *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "the picture store", sizeof *s);
    bool ok = file_join(s->folder, sizeof s->folder, state_folder, "images", e) && file_make_folder(s->folder, e);
    if (ok && access(s->folder, W_OK | X_OK) != 0) ok = error_system(e, "write in", s->folder);
    if (!ok) {
        error_prefix(e, "the state folder cannot be used (--state names another): ");
        picture_store_free(s);
        return false;
    }
    *out = s;
    return true;
}

/* "<picture id>.png.<process>.tmp", as file_replace names what it has not finished. Nobody else writes here: two servers cannot share a
 * folder. */
static bool is_half_written(const char *name) {
    const char *end = strstr(name, ".png.");
    size_t digits = end != NULL ? strspn(end + 5, "0123456789") : 0;
    return end != NULL && end - name > TASK_ID_BYTES - 1 && end - name < PICTURE_ID_BYTES && digits > 0 &&
           strcmp(end + 5 + digits, ".tmp") == 0;
}

void picture_store_clean(const picture_store *s) {
    DIR *d = opendir(s->folder);
    if (d == NULL) return;
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (is_half_written(entry->d_name)) unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
}

void picture_store_remove_one(const picture_store *s, const char *task_id, int index) {
    char id[PICTURE_ID_BYTES], path[PATH_MAX];
    picture_id_format(task_id, index, id);
    if (picture_store_path(s, id, path, NULL)) unlink(path);
}

void picture_store_remove(const picture_store *s, const char *task_id, int count) {
    for (int i = 0; i < count; i++) picture_store_remove_one(s, task_id, i);
}

void picture_store_free(picture_store *s) { free(s); }

void picture_id_format(const char *task_id, int index, char out[PICTURE_ID_BYTES]) {
    snprintf(out, PICTURE_ID_BYTES, "%.*s-%u", TASK_ID_BYTES - 1, task_id, (unsigned)index % 100);
}

/* Nothing but what picture_id_format makes: 26 digits, '-', an index without leading zeros. */
static bool id_valid(const char *id) {
    char task_id[TASK_ID_BYTES];
    if (strlen(id) <= TASK_ID_BYTES - 1 || strlen(id) >= PICTURE_ID_BYTES || id[TASK_ID_BYTES - 1] != '-') return false;
    memcpy(task_id, id, TASK_ID_BYTES - 1);
    task_id[TASK_ID_BYTES - 1] = '\0';
    const char *index = id + TASK_ID_BYTES;
    return task_id_valid(task_id) && index[0] != '\0' && strspn(index, "0123456789") == strlen(index) &&
           (index[0] != '0' || index[1] == '\0');
}

bool picture_store_path(const picture_store *s, const char *id, char out[PATH_MAX], error *e) {
    if (!id_valid(id)) return error_set(e, ERROR_NOT_FOUND, "there is no image '%.64s'", id);
    char name[PICTURE_ID_BYTES + 4];
    snprintf(name, sizeof name, "%s.png", id);
    return file_join(out, PATH_MAX, s->folder, name, e);
}

bool picture_store_write(const picture_store *s, const char *id, const buffer *png, error *e) {
    char path[PATH_MAX];
    return picture_store_path(s, id, path, e) && file_replace(path, png->data, png->size, e);
}
