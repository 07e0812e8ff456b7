#include "server/tasks/input_holds.h"

#include <stdlib.h>
#include <string.h>

static void add(input_holds *h, const char *id) {
    if (id == NULL || h->failed) return;
    if (h->count == h->capacity) {
        size_t capacity = h->capacity > 0 ? 2 * h->capacity : 16;
        const char **grown = realloc(h->ids, capacity * sizeof *grown); /* of tasks in memory: no product overflows */
        h->failed = grown == NULL;
        if (h->failed) return;
        h->ids = grown;
        h->capacity = capacity;
    }
    h->ids[h->count++] = id;
}

static void add_task(void *context, const task *t) {
    add(context, t->request.image);
    add(context, t->request.mask);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

void input_holds_collect(const task_keeper *k, input_holds *out) {
    *out = (input_holds){0};
    if (k == NULL) return;
    task_keeper_each_unfinished(k, add_task, out);
    if (out->count > 0) qsort(out->ids, out->count, sizeof *out->ids, by_text);
}

void input_holds_free(input_holds *h) {
    free(h->ids);
    *h = (input_holds){0};
}

bool input_holds_has(const void *context, const char *id) {
    const input_holds *h = context;
    return h->failed || (h->count > 0 && bsearch(&id, h->ids, h->count, sizeof *h->ids, by_text) != NULL);
}

bool input_is_held(const task_keeper *k, const char *id) {
    input_holds h;
    input_holds_collect(k, &h);
    bool held = input_holds_has(&h, id);
    input_holds_free(&h);
    return held;
}
