/* The API keys: a file of names and hashes.
 *
 * Lines `name:hash`; hash is the SHA-256 of the key as 64 hexadecimal digits (printf %s KEY | sha256sum). Blank lines and lines that begin
 * with # mean nothing. The hash has no salt and is not slow: keys are 32 random bytes, which no table holds and nobody guesses, and a
 * request must be checked in microseconds. A key that a person made up would need both, so let `imagined keys add` make them. */
#ifndef IMAGINED_SERVER_ACCESS_API_KEYS_H
#define IMAGINED_SERVER_ACCESS_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum {
    API_KEY_NAME_BYTES = 64,   /* letters, digits, '.', '_' and '-' */
    API_KEY_TEXT_BYTES = 80,   /* "imagined_" and 64 digits */
    API_KEYS_MAX = 4096,
    API_KEYS_FILE_BYTES = 1 << 20,
};

typedef struct api_keys api_keys;

/* ERROR_BAD_FILE with file and line for what is no such line, a name twice or too many; else as file_read. *out is yours. */
bool api_keys_read(const char *path, api_keys **out, error *e);
/* The same from memory; `name` is what errors call it. */
bool api_keys_parse(const char *text, size_t size, const char *name, api_keys **out, error *e);
void api_keys_free(api_keys *k); /* NULL is fine */
size_t api_keys_count(const api_keys *k);
/* The name of the key, NULL when it is none of them. Takes the same time whichever it is: all hashes are compared, each to its end.
 * Borrowed. */
const char *api_keys_find(const api_keys *k, const char *key);

/* Makes a key and adds its hash to the file, which is made where it is missing: temporary file, fsync, rename, fsync of the folder; mode
 * 0600, in the old file's owner's hands. Others that add at the same time wait. ERROR_INVALID for a name that is taken or none. The key is
 * nowhere but in `key`. */
bool api_keys_add(const char *path, const char *name, char key[API_KEY_TEXT_BYTES], error *e);

#endif
