/* Pictures that clients brought, as they came: STATE/inputs/<SHA-256 of the bytes>.<width>x<height>[.<whose>].<extension>. The name says
 * everything, so the folder's list is the index; a file is there completely or not at all. The same bytes are one input of each API key
 * that brings them, and one of all who bring them without a key; a key sees its own alone, who needs none sees all.
 *
 * The index belongs to the loop's thread; input_store_write alone may be called from another. */
#ifndef IMAGINED_SERVER_PICTURES_INPUT_STORE_H
#define IMAGINED_SERVER_PICTURES_INPUT_STORE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"
#include "image/image.h"

enum { INPUT_ID_BYTES = SHA256_TEXT_BYTES, INPUT_OWNER_BYTES = 17, INPUTS_MAX = 10000 };

typedef struct input {
    char id[INPUT_ID_BYTES];
    char owner[INPUT_OWNER_BYTES]; /* stands for the API key's name; "": nobody's in particular */
    image_info info;
    uint64_t bytes;
    int64_t created_ms; /* Unix milliseconds: when it was brought last */
} input;

typedef struct input_limits {
    int64_t age_ms; /* 0: for ever */
    uint64_t bytes; /* of all inputs; 0: no limit */
} input_limits;

typedef struct input_store input_store;

/* Makes the folder where it is missing, reads the list, removes what was left half-written. */
bool input_store_new(const char *state_folder, input_store **out, error *e);
void input_store_free(input_store *s); /* NULL is fine */

bool input_id_valid(const char *id);
/* Below, `key` is the name of an API key, NULL or "" of who needs none. */
bool input_is_of(const input *i, const char *key); /* whether that key may see it */
/* Writes the file (temporary, fsync, rename) and fills what is known of it; bytes that do not decode are refused. Of the store, only the
 * folder's name is used. */
bool input_store_write(const input_store *s, const char *key, const void *bytes, size_t size, input *out, error *e);
/* Takes a written one into the index, as the newest. ERROR_NOT_FOUND: its file is gone again. */
bool input_store_add(input_store *s, const input *i, error *e);
/* Of those that the key may see; NULL when there is none. Borrowed until the next change. */
const input *input_store_find(const input_store *s, const char *key, const char *id);
bool input_store_path(const input_store *s, const input *i, char out[PATH_MAX], error *e);
/* Removes the file and the entry of this key's, with NULL of everybody's; true when there was one. */
bool input_store_remove(input_store *s, const char *key, const char *id);
/* Removes the oldest until the rest is within INPUTS_MAX and the limits; those stay of which `held` (NULL: none) says so. */
void input_store_trim(input_store *s, const input_limits *limits, int64_t now_ms, bool (*held)(const void *context, const char *id),
                      const void *context);
size_t input_store_count(const input_store *s);
/* 0: the newest. Borrowed. */
const input *input_store_at(const input_store *s, size_t index);

#endif
