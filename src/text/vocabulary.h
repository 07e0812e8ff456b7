/* Pieces of text and their ids: a hash table over bytes. Immutable once filled; readers may share it. */
#ifndef IMAGINED_TEXT_VOCABULARY_H
#define IMAGINED_TEXT_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Every loaded model keeps two of these tables: they are packed. */
typedef struct vocabulary_slot {
    uint32_t at; /* of the piece in `text`; 0: the slot is empty */
    uint32_t size, hash;
    int32_t id;
} vocabulary_slot;

typedef struct vocabulary {
    vocabulary_slot *slots;
    size_t mask;    /* slots − 1: a power of two minus one */
    size_t count;   /* pieces */
    size_t longest; /* bytes of the longest piece */
    int32_t ids;    /* largest id + 1 */
    buffer text;    /* a byte that is nobody's, then the pieces one behind the other */
} vocabulary;

/* Room for `pieces` of them; call once, on a zeroed struct. False when memory is short. */
bool vocabulary_init(vocabulary *v, size_t pieces);
void vocabulary_free(vocabulary *v);
/* Copies the piece. A piece that is there already keeps its first id. False when memory is short or the table is full. */
bool vocabulary_add(vocabulary *v, const char *piece, size_t size, int32_t id);
int32_t vocabulary_find(const vocabulary *v, const char *piece, size_t size); /* −1: none */

/* The hash can be carried along while a piece grows byte by byte. */
enum { VOCABULARY_HASH_START = 0x1B873593 };
static inline uint32_t vocabulary_hash_byte(uint32_t hash, char byte) { return (hash ^ (unsigned char)byte) * 16777619u; }
int32_t vocabulary_find_hashed(const vocabulary *v, const char *piece, size_t size, uint32_t hash);

#endif
