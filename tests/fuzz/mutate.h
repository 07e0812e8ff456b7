/* What the fuzz tests share: numbers that look random, changes to texts, and memory that ends where its content does.
 * All of it follows from the state alone, so every run tries the same inputs. */
#ifndef IMAGINED_TESTS_MUTATE_H
#define IMAGINED_TESTS_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* xorshift64*; *state must not be 0. */
uint64_t next_random(uint64_t *state);

/* Kinds of changes, one bit each. */
enum {
    MUTATE_BYTE = 1,       /* a byte becomes any other */
    MUTATE_CHARACTER = 2,  /* a byte becomes any other but 0 */
    MUTATE_DOUBLE = 4,     /* the text from there to its end follows once more: long ones come about */
    MUTATE_INSERT = 8,     /* a piece is put in */
    MUTATE_DIGIT = 16,     /* the next digit becomes another */
    MUTATE_QUOTED = 32,    /* a piece is written over what begins with the next quotation mark */
    MUTATE_REMOVE = 64,    /* up to eight bytes are taken out */
};

typedef struct mutator {
    unsigned kinds; /* which kinds happen, all equally often */
    int most;       /* from none to so many changes a text */
    size_t capacity;
    const char *const *pieces;
    size_t piece_count;
} mutator;

/* Changes the `size` bytes of `text`, which has room for `capacity`; returns the new size. */
size_t mutate_pieces(const mutator *m, uint64_t *random, char *text, size_t size);

/* The same with single characters, from none to three: each takes a byte's place or is put in. One is `letters`' mostly, any byte now and
 * then. At last a quarter of the texts is cut. */
size_t mutate_letters(const char *letters, uint64_t *random, char *text, size_t size, size_t capacity);

/* The bytes again in a block of the heap of just their size, so that a sanitizer sees one byte too many; for free(). */
void *exact_copy(const void *bytes, size_t size);

#endif
