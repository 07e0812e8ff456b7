#include "queue/names.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

typedef struct entry {
    char *text; /* NULL: free */
    uint32_t holds;
    uint32_t next; /* in its bucket, or among the free */
} entry;

/* Invariants: there are as many buckets as there is room for entries, a power of two; each held entry is in the bucket of its hash, each
 * free one below `used` in the list of the free. */
struct names {
    entry *entries;
    uint32_t *buckets;
    uint32_t room, used, free;
};

bool names_new(names **out, error *e) {
    names *n = calloc(1, sizeof *n);
    if (n == NULL) return error_no_memory(e, "a table of names", sizeof *n);
    n->free = NONE;
    *out = n;
    return true;
}

void names_free(names *n) {
    if (n == NULL) return;
    for (uint32_t i = 0; i < n->used; i++) free(n->entries[i].text);
    free(n->entries);
    free(n->buckets);
    free(n);
}

static uint32_t bucket_of(const names *n, const char *text) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash & (n->room - 1);
}

bool names_find(const names *n, const char *text, uint32_t *number) {
    if (n->room == 0) return false;
    for (uint32_t i = n->buckets[bucket_of(n, text)]; i != NONE; i = n->entries[i].next) {
        if (strcmp(n->entries[i].text, text) != 0) continue;
        *number = i;
        return true;
    }
    return false;
}

static void put_in_bucket(names *n, uint32_t number) {
    uint32_t *bucket = &n->buckets[bucket_of(n, n->entries[number].text)];
    n->entries[number].next = *bucket;
    *bucket = number;
}

static bool grow(names *n, error *e) {
    uint32_t room = n->room > 0 ? n->room * 2 : 16;
    if (room > 1u << 24) return error_set(e, ERROR_BUSY, "too many names at once: %u", (unsigned)n->room);
    entry *entries = realloc(n->entries, room * sizeof *entries);
    if (entries != NULL) n->entries = entries;
    uint32_t *buckets = entries != NULL ? malloc(room * sizeof *buckets) : NULL;
    if (buckets == NULL) return error_no_memory(e, "a table of names", room * (sizeof *entries + sizeof *buckets));
    free(n->buckets);
    n->buckets = buckets;
    n->room = room;
    for (uint32_t i = 0; i < room; i++) buckets[i] = NONE;
    for (uint32_t i = 0; i < n->used; i++) put_in_bucket(n, i); /* it grows only when none is free */
    return true;
}

bool names_hold(names *n, const char *text, uint32_t *number, bool *fresh, error *e) {
    *fresh = !names_find(n, text, number);
    if (!*fresh) {
        n->entries[*number].holds++;
        return true;
    }
    if (n->free == NONE && n->used == n->room && !grow(n, e)) return false;
    char *copy = strdup(text);
    if (copy == NULL) return error_no_memory(e, "a name", strlen(text) + 1);
    if (n->free != NONE) {
        *number = n->free;
        n->free = n->entries[*number].next;
    } else {
        *number = n->used++;
    }
    n->entries[*number] = (entry){.text = copy, .holds = 1};
    put_in_bucket(n, *number);
    return true;
}

void names_release(names *n, uint32_t number) {
    entry *one = &n->entries[number];
    if (--one->holds > 0) return;
    uint32_t *link = &n->buckets[bucket_of(n, one->text)];
    while (*link != number) link = &n->entries[*link].next;
    *link = one->next;
    free(one->text);
    one->text = NULL;
    one->next = n->free;
    n->free = number;
}

uint32_t names_limit(const names *n) { return n->used; }
const char *names_text(const names *n, uint32_t number) { return number < n->used ? n->entries[number].text : NULL; }
