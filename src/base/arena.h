/* Memory with one lifetime: many small allocations, one free. A zeroed struct is an empty arena. One thread at a time. */
#ifndef IMAGINED_BASE_ARENA_H
#define IMAGINED_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

typedef struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used, capacity;      /* of the newest block */
    size_t total;               /* bytes taken from the system */
} arena;

/* `size` zeroed bytes, 16-aligned, valid until arena_free; NULL when the system has no more. */
void *arena_alloc(arena *a, size_t size);
/* As arena_alloc for count × size bytes; NULL as well when the product overflows. */
void *arena_array(arena *a, size_t count, size_t size);
/* A copy of the first `size` bytes of text, NUL-terminated. NULL as above. */
char *arena_text(arena *a, const char *text, size_t size);
void arena_free(arena *a); /* frees everything; the arena is empty and usable */

#endif
