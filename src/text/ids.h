/* A growing list of token ids. A zeroed struct is empty. */
#ifndef IMAGINED_TEXT_IDS_H
#define IMAGINED_TEXT_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct id_list {
    int32_t *ids;
    size_t count, capacity;
} id_list;

static inline bool id_list_add(id_list *l, int32_t id) {
    if (l->count == l->capacity) {
        size_t capacity = l->capacity < 64 ? 64 : 2 * l->capacity;
        int32_t *grown = realloc(l->ids, capacity * sizeof *grown);
        if (grown == NULL) return false;
        l->ids = grown;
        l->capacity = capacity;
    }
    l->ids[l->count++] = id;
    return true;
}

static inline void id_list_free(id_list *l) {
    free(l->ids);
    *l = (id_list){0};
}

#endif
