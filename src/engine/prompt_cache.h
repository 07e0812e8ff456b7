/* What prompts were encoded to: a prompt that comes again skips its text encoders.
 *
 * An entry is known by the model's folder and precision, the files its encoders were loaded from, the number of tokens and the prompt. It
 * may outlive its model in memory, but is not found any more when the model's files were changed. Bounded by bytes, least recently used
 * first to go. One thread. */
#ifndef IMAGINED_ENGINE_PROMPT_CACHE_H
#define IMAGINED_ENGINE_PROMPT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "models/flux_pipeline.h"

#define PROMPT_CACHE_BYTES ((size_t)64 << 20) /* the default of IMAGINED_PROMPT_CACHE_MB */

typedef struct prompt_cache prompt_cache;

typedef struct prompt_key {
    const char *folder, *precision, *prompt;
    uint64_t encoders; /* flux_pipeline_encoders_stamp */
    int tokens;
} prompt_key;

typedef struct prompt_cache_figures {
    uint64_t hits, misses; /* since it was made */
    uint64_t entries, bytes, max_bytes;
} prompt_cache_figures;

bool prompt_cache_new(size_t max_bytes, prompt_cache **out, error *e); /* 0: nothing is kept */
void prompt_cache_free(prompt_cache *c);                               /* NULL is fine */

/* A copy of what the prompt was encoded to, yours. False when it is not there (or there is no memory for the copy): a miss. */
bool prompt_cache_find(prompt_cache *c, const prompt_key *key, conditioning *out);
/* Keeps a copy, if it fits: what is larger than the cache, or finds no memory, is not kept. */
void prompt_cache_keep(prompt_cache *c, const prompt_key *key, const conditioning *encoded);
/* Drops all entries. Returns their bytes. */
size_t prompt_cache_clear(prompt_cache *c);
prompt_cache_figures prompt_cache_get_figures(const prompt_cache *c);

#endif
