#include "text/unigram.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"

enum { MAX_PIECES = 1 << 21, MAX_PIECE_BYTES = 1024 };
static const double unknown_penalty = 10.0; /* below the lowest score */

bool unigram_init(unigram *u, size_t pieces, int32_t unknown, error *e) {
    *u = (unigram){.unknown = unknown, .lowest = INFINITY, .capacity = pieces};
    if (pieces == 0 || pieces > MAX_PIECES)
        return error_set(e, ERROR_BAD_FILE, "a Unigram vocabulary of %zu pieces cannot be used", pieces);
    u->scores = calloc(pieces, sizeof *u->scores);
    if (u->scores == NULL || !vocabulary_init(&u->pieces, pieces)) return error_no_memory(e, "the vocabulary", pieces * sizeof *u->scores);
    return true;
}

bool unigram_add(unigram *u, const char *piece, size_t size, double score, const char *source, error *e) {
    if (u->count == u->capacity) return error_set(e, ERROR_BAD_FILE, "%s: more pieces than announced", source);
    if (size > MAX_PIECE_BYTES || !isfinite(score))
        return error_set(e, ERROR_BAD_FILE, "%s: piece %zu is over %d bytes or its score is not finite", source, u->count, MAX_PIECE_BYTES);
    if (!vocabulary_add(&u->pieces, piece, size, (int32_t)u->count)) return error_no_memory(e, "the vocabulary", size);
    u->scores[u->count++] = score;
    if (score < u->lowest) u->lowest = score;
    return true;
}

void unigram_free(unigram *u) {
    vocabulary_free(&u->pieces);
    free(u->scores);
    *u = (unigram){0};
}

/* The best way to reach a byte: its last piece and where that began. */
typedef struct node {
    double score;
    size_t from;
    int32_t id;
    bool reached;
} node;

static void relax(node *n, double score, size_t from, int32_t id) {
    if (n->reached && score <= n->score) return;
    *n = (node){score, from, id, true};
}

static void extend(const unigram *u, const char *text, size_t size, size_t from, node *nodes) {
    size_t first = from; /* end of the first character */
    utf8_next(text, size, &first);
    double base = nodes[from].score;
    bool single = false; /* a piece is exactly the first character */
    uint32_t hash = VOCABULARY_HASH_START;
    for (size_t end = from; end < size && end - from < u->pieces.longest;) {
        size_t next = end;
        utf8_next(text, size, &next);
        for (; end < next; end++) hash = vocabulary_hash_byte(hash, text[end]);
        int32_t id = vocabulary_find_hashed(&u->pieces, text + from, end - from, hash);
        if (id < 0) continue;
        relax(&nodes[end], base + u->scores[id], from, id);
        if (end == first) single = true;
    }
    if (!single) relax(&nodes[first], base + u->lowest - unknown_penalty, from, u->unknown);
}

bool unigram_encode(const unigram *u, const char *text, size_t size, id_list *out) {
    if (size == 0) return true;
    node *nodes = calloc(size + 1, sizeof *nodes);
    if (nodes == NULL) return false;
    nodes[0].reached = true;
    for (size_t at = 0; at < size; utf8_next(text, size, &at)) extend(u, text, size, at, nodes);
    /* From the end to the beginning; a run of unknowns is one token. */
    size_t start = out->count;
    bool ok = true, in_unknown = false;
    for (size_t end = size; ok && end > 0; end = nodes[end].from) {
        bool unknown = nodes[end].id == u->unknown;
        if (!unknown || !in_unknown) ok = id_list_add(out, nodes[end].id);
        in_unknown = unknown;
    }
    for (size_t i = start, j = out->count; ok && i + 1 < j; i++) {
        int32_t id = out->ids[i];
        out->ids[i] = out->ids[--j];
        out->ids[j] = id;
    }
    free(nodes);
    return ok;
}
