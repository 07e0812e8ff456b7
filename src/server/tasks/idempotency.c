#include "server/tasks/idempotency.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char key[IDEMPOTENCY_KEY_BYTES]; /* "" unused */
    char owner[IDEMPOTENCY_OWNER_BYTES];
    char task[TASK_ID_BYTES];
    uint64_t size, hash; /* of the body */
} entry;

struct idempotency {
    entry entries[IDEMPOTENCY_KEYS]; /* a ring */
    size_t next;
};

/* FNV-1a. Only a client that wants to could make two of its own bodies collide. */
uint64_t idempotency_hash(const buffer *b) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < b->size; i++) h = (h ^ (unsigned char)b->data[i]) * 0x100000001b3u;
    return h;
}

bool idempotency_new(idempotency **out, error *e) {
    *out = calloc(1, sizeof **out);
    return *out != NULL || error_no_memory(e, "the idempotency keys", sizeof **out);
}

void idempotency_free(idempotency *i) { free(i); }

static bool is_of(const entry *at, const char *owner, const char *key) {
    return at->key[0] != '\0' && strcmp(at->key, key) == 0 && strcmp(at->owner, owner != NULL ? owner : "") == 0;
}

bool idempotency_find(const idempotency *i, const char *owner, const char *key, const buffer *body, const char **task_id, error *e) {
    *task_id = NULL;
    if (strlen(key) >= IDEMPOTENCY_KEY_BYTES)
        return error_field(e, ERROR_INVALID, "Idempotency-Key", "the Idempotency-Key is longer than %d bytes", IDEMPOTENCY_KEY_BYTES - 1);
    for (size_t n = 0; n < IDEMPOTENCY_KEYS; n++) {
        const entry *at = &i->entries[n];
        if (!is_of(at, owner, key)) continue;
        if (at->size != body->size || at->hash != idempotency_hash(body))
            return error_field(e, ERROR_INVALID, "Idempotency-Key", "this Idempotency-Key came before, with another body");
        *task_id = at->task;
        return true;
    }
    return true;
}

static entry *entry_of(idempotency *i, const char *owner, const char *key) {
    for (size_t n = 0; n < IDEMPOTENCY_KEYS; n++)
        if (is_of(&i->entries[n], owner, key)) return &i->entries[n];
    return NULL;
}

void idempotency_add(idempotency *i, const char *owner, const char *key, uint64_t hash, uint64_t size, const char *task_id) {
    entry *at = entry_of(i, owner, key);
    if (at == NULL) {
        at = &i->entries[i->next];
        i->next = (i->next + 1) % IDEMPOTENCY_KEYS;
    }
    snprintf(at->key, sizeof at->key, "%s", key);
    snprintf(at->owner, sizeof at->owner, "%s", owner != NULL ? owner : "");
    snprintf(at->task, sizeof at->task, "%s", task_id);
    at->size = size;
    at->hash = hash;
}

void idempotency_forget(idempotency *i, const char *task_id) {
    for (size_t n = 0; n < IDEMPOTENCY_KEYS; n++)
        if (i->entries[n].key[0] != '\0' && strcmp(i->entries[n].task, task_id) == 0) i->entries[n].key[0] = '\0';
}
