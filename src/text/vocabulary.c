#include "text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

bool vocabulary_init(vocabulary *v, size_t pieces) {
    size_t slots = 16;
    *v = (vocabulary){0};
    /* At most four fifths full, so that a search ends soon. */
    while (slots / 5 * 4 < pieces) {
        if (slots > SIZE_MAX / 4) return false;
        slots *= 2;
    }
    v->slots = calloc(slots, sizeof *v->slots);
    v->mask = slots - 1;
    buffer_append_byte(&v->text, '\0');
    return v->slots != NULL && buffer_ok(&v->text);
}

void vocabulary_free(vocabulary *v) {
    free(v->slots);
    buffer_free(&v->text);
    *v = (vocabulary){0};
}

static uint32_t hash_of(const char *piece, size_t size) {
    uint32_t hash = VOCABULARY_HASH_START;
    for (size_t i = 0; i < size; i++) hash = vocabulary_hash_byte(hash, piece[i]);
    return hash;
}

/* The product's high bits are the well-mixed ones. */
static size_t first_slot(const vocabulary *v, uint32_t hash) { return (size_t)(hash ^ hash >> 15) * 0x9E3779B1u >> 7 & v->mask; }

static vocabulary_slot *slot_of(const vocabulary *v, const char *piece, size_t size, uint32_t hash) {
    size_t i = first_slot(v, hash);
    for (;; i = (i + 1) & v->mask) {
        vocabulary_slot *s = &v->slots[i];
        if (s->at == 0 || (s->hash == hash && s->size == size && memcmp(v->text.data + s->at, piece, size) == 0)) return s;
    }
}

bool vocabulary_add(vocabulary *v, const char *piece, size_t size, int32_t id) {
    uint32_t hash = hash_of(piece, size);
    if (size > UINT32_MAX - v->text.size) return false;
    vocabulary_slot *s = slot_of(v, piece, size, hash);
    if (s->at != 0) return true;
    if (v->count >= v->mask) return false; /* one slot stays empty: searches end there */
    uint32_t at = (uint32_t)v->text.size;
    buffer_append(&v->text, piece, size);
    if (!buffer_ok(&v->text)) return false;
    *s = (vocabulary_slot){at, (uint32_t)size, hash, id};
    v->count++;
    if (size > v->longest) v->longest = size;
    if (id >= v->ids) v->ids = id + 1;
    return true;
}

int32_t vocabulary_find_hashed(const vocabulary *v, const char *piece, size_t size, uint32_t hash) {
    const vocabulary_slot *s = slot_of(v, piece, size, hash);
    return s->at != 0 ? s->id : -1;
}

int32_t vocabulary_find(const vocabulary *v, const char *piece, size_t size) {
    return vocabulary_find_hashed(v, piece, size, hash_of(piece, size));
}
