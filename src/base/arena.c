#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

struct arena_block {
    struct arena_block *next;
    _Alignas(16) unsigned char bytes[];
};

/* Blocks grow with the arena: a small one stays small, a large one asks the system seldom. */
enum { FIRST_BLOCK_BYTES = 1024, LARGEST_BLOCK_BYTES = 64 * 1024 };

void *arena_alloc(arena *a, size_t size) {
    size_t rounded;
    if (!checked_add(size, 15, &rounded)) return NULL;
    rounded &= ~(size_t)15;
    if (a->blocks == NULL || a->capacity - a->used < rounded) {
        size_t capacity = a->total < FIRST_BLOCK_BYTES ? FIRST_BLOCK_BYTES : a->total > LARGEST_BLOCK_BYTES ? LARGEST_BLOCK_BYTES : a->total, bytes;
        if (capacity < rounded) capacity = rounded;
        if (!checked_add(capacity, sizeof(struct arena_block), &bytes)) return NULL;
        struct arena_block *block = calloc(1, bytes);
        if (block == NULL) return NULL;
        block->next = a->blocks;
        a->blocks = block;
        a->used = 0;
        a->capacity = capacity;
        a->total += bytes;
    }
    void *result = a->blocks->bytes + a->used;
    a->used += rounded;
    return result;
}

void *arena_array(arena *a, size_t count, size_t size) {
    size_t bytes;
    return checked_mul(count, size, &bytes) ? arena_alloc(a, bytes) : NULL;
}

char *arena_text(arena *a, const char *text, size_t size) {
    size_t bytes;
    char *copy = checked_add(size, 1, &bytes) ? arena_alloc(a, bytes) : NULL;
    if (copy != NULL && size > 0) memcpy(copy, text, size);
    return copy;
}

void arena_free(arena *a) {
    while (a->blocks != NULL) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
    *a = (arena){0};
}
