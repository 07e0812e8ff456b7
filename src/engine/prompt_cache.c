#include "engine/prompt_cache.h"

#include <stdlib.h>
#include <string.h>

/* Embeddings are large, so entries are few: a list in the order of use, searched from its newest end. */
typedef struct entry {
    struct entry *newer, *older;
    uint64_t hash; /* of the text of the key: most others differ already here */
    uint64_t encoders;
    int tokens;
    size_t bytes;
    conditioning encoded;
    char *folder, *precision, *prompt; /* within `text` */
    char text[];
} entry;

struct prompt_cache {
    entry *newest, *oldest;
    prompt_cache_figures figures;
};

bool prompt_cache_new(size_t max_bytes, prompt_cache **out, error *e) {
    prompt_cache *c = calloc(1, sizeof *c);
    if (c == NULL) return error_no_memory(e, "the cache of prompts", sizeof *c);
    c->figures.max_bytes = max_bytes;
    *out = c;
    return true;
}

void prompt_cache_free(prompt_cache *c) {
    if (c == NULL) return;
    prompt_cache_clear(c);
    free(c);
}

/* FNV-1a, the texts' ends among what is hashed. */
static uint64_t hash_text(uint64_t hash, const char *text) {
    for (size_t i = 0, n = strlen(text) + 1; i < n; i++) hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash;
}

static uint64_t hash_key(const prompt_key *k) {
    return hash_text(hash_text(hash_text(14695981039346656037u, k->folder), k->precision), k->prompt);
}

static bool is_of(const entry *e, const prompt_key *k, uint64_t hash) {
    return e->hash == hash && e->encoders == k->encoders && e->tokens == k->tokens && strcmp(e->prompt, k->prompt) == 0 &&
           strcmp(e->folder, k->folder) == 0 && strcmp(e->precision, k->precision) == 0;
}

static void unlink_entry(prompt_cache *c, entry *e) {
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void link_newest(prompt_cache *c, entry *e) {
    e->older = c->newest;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static void drop(prompt_cache *c, entry *e) {
    unlink_entry(c, e);
    c->figures.entries--;
    c->figures.bytes -= e->bytes;
    conditioning_free(&e->encoded);
    free(e);
}

static entry *find(const prompt_cache *c, const prompt_key *k) {
    uint64_t hash = hash_key(k);
    entry *e = c->newest;
    while (e != NULL && !is_of(e, k, hash)) e = e->older;
    return e;
}

bool prompt_cache_find(prompt_cache *c, const prompt_key *key, conditioning *out) {
    entry *e = find(c, key);
    if (e == NULL || !conditioning_copy(&e->encoded, out, NULL)) {
        c->figures.misses++;
        return false;
    }
    unlink_entry(c, e);
    link_newest(c, e);
    c->figures.hits++;
    return true;
}

static entry *entry_new(const prompt_key *k, const conditioning *encoded, size_t bytes) {
    size_t folder = strlen(k->folder) + 1, how = strlen(k->precision) + 1, prompt = strlen(k->prompt) + 1;
    entry *e = calloc(1, sizeof *e + folder + how + prompt);
    if (e == NULL) return NULL;
    e->hash = hash_key(k);
    e->encoders = k->encoders;
    e->tokens = k->tokens;
    e->bytes = bytes;
    e->folder = memcpy(e->text, k->folder, folder);
    e->precision = memcpy(e->text + folder, k->precision, how);
    e->prompt = memcpy(e->text + folder + how, k->prompt, prompt);
    if (conditioning_copy(encoded, &e->encoded, NULL)) return e;
    free(e);
    return NULL;
}

void prompt_cache_keep(prompt_cache *c, const prompt_key *key, const conditioning *encoded) {
    size_t bytes = sizeof(entry) + strlen(key->folder) + strlen(key->precision) + strlen(key->prompt) + 3 + conditioning_bytes(encoded);
    if (bytes > c->figures.max_bytes) return;
    entry *there = find(c, key), *e = entry_new(key, encoded, bytes);
    if (there != NULL) drop(c, there);
    if (e == NULL) return;
    while (c->oldest != NULL && c->figures.bytes + bytes > c->figures.max_bytes) drop(c, c->oldest);
    link_newest(c, e);
    c->figures.entries++;
    c->figures.bytes += bytes;
}

size_t prompt_cache_clear(prompt_cache *c) {
    size_t bytes = c->figures.bytes;
    while (c->oldest != NULL) drop(c, c->oldest);
    return bytes;
}

prompt_cache_figures prompt_cache_get_figures(const prompt_cache *c) { return c->figures; }
