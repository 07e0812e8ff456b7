#include "mutate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ULL;
}

static unsigned pick_kind(unsigned kinds, uint64_t *random) {
    for (uint64_t left = next_random(random) % (unsigned)__builtin_popcount(kinds); left > 0; left--) kinds &= kinds - 1;
    return kinds & -kinds; /* the lowest that is left */
}

static size_t change(const mutator *m, uint64_t *random, char *text, size_t size) {
    const char *piece = m->pieces[next_random(random) % m->piece_count];
    size_t at = next_random(random) % size, n = strlen(piece);
    switch (pick_kind(m->kinds, random)) {
    case MUTATE_BYTE: text[at] = (char)next_random(random); break;
    case MUTATE_CHARACTER: text[at] = (char)(1 + next_random(random) % 255); break;
    case MUTATE_DOUBLE:
        n = size - at;
        if (size + n > m->capacity) break;
        memcpy(text + size, text + at, n);
        return size + n;
    case MUTATE_INSERT:
        if (size + n > m->capacity) break;
        memmove(text + at + n, text + at, size - at);
        memcpy(text + at, piece, n);
        return size + n;
    case MUTATE_DIGIT:
        while (at < size && (text[at] < '0' || text[at] > '9')) at++;
        if (at < size) text[at] = (char)('0' + next_random(random) % 10);
        break;
    case MUTATE_QUOTED:
        while (at < size && text[at] != '"') at++;
        if (at + n < size) memcpy(text + at, piece, n);
        break;
    case MUTATE_REMOVE:
        n = 1 + next_random(random) % 8;
        if (at + n > size) break;
        memmove(text + at, text + at + n, size - at - n);
        return size - n;
    }
    return size;
}

size_t mutate_pieces(const mutator *m, uint64_t *random, char *text, size_t size) {
    for (uint64_t left = next_random(random) % (uint64_t)(m->most + 1); left > 0 && size > 0; left--) size = change(m, random, text, size);
    return size;
}

size_t mutate_letters(const char *letters, uint64_t *random, char *text, size_t size, size_t capacity) {
    for (uint64_t left = next_random(random) % 4; left > 0 && size > 0; left--) {
        size_t at = next_random(random) % size;
        if (next_random(random) % 3 == 0 && size < capacity) memmove(text + at + 1, text + at, size++ - at);
        text[at] = next_random(random) % 4 == 0 ? (char)next_random(random) : letters[next_random(random) % strlen(letters)];
    }
    if (next_random(random) % 4 == 0) size = next_random(random) % (size + 1);
    return size;
}

void *exact_copy(const void *bytes, size_t size) {
    void *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}
