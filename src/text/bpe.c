#include "text/bpe.h"

#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

enum { MAX_PIECES = 1 << 21, MAX_PIECE_BYTES = 4096 };

/* --- loading --- */

/* GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for the characters from U+0100 on, in order. */
static uint32_t visible(int byte) {
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF)) return (uint32_t)byte;
    uint32_t rank = 0;
    for (int i = 0; i < byte; i++) rank += !((i >= '!' && i <= '~') || (i >= 0xA1 && i <= 0xAC) || (i >= 0xAE && i <= 0xFF));
    return 0x100 + rank;
}

static void find_alphabet(bpe *b) {
    for (int byte = 0; byte < 256; byte++) {
        char piece[8];
        size_t n = utf8_encode(visible(byte), piece);
        b->alphabet[byte] = vocabulary_find(&b->pieces, piece, n);
        memcpy(piece + n, "</w>", 4);
        b->last[byte] = vocabulary_find(&b->pieces, piece, n + 4);
    }
}

bool bpe_init(bpe *b, json pieces, error *e) {
    *b = (bpe){.unknown = -1};
    size_t count = yyjson_obj_size(pieces.value);
    if (!yyjson_is_obj(pieces.value) || count == 0 || count > MAX_PIECES)
        return error_set(e, ERROR_BAD_FILE, "%s: the vocabulary must be an object of 1 to %d pieces", pieces.source, MAX_PIECES);
    if (!vocabulary_init(&b->pieces, count)) return error_no_memory(e, "the vocabulary", count * sizeof(vocabulary_slot));
    yyjson_obj_iter i = yyjson_obj_iter_with(pieces.value);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&i)) != NULL;) {
        yyjson_val *id = yyjson_obj_iter_get_val(key);
        if (!yyjson_is_uint(id) || yyjson_get_uint(id) >= MAX_PIECES || yyjson_get_len(key) > MAX_PIECE_BYTES)
            return error_set(e, ERROR_BAD_FILE, "%s: the id of '%.40s' must be a whole number below %d", pieces.source, yyjson_get_str(key),
                             MAX_PIECES);
        if (!vocabulary_add(&b->pieces, yyjson_get_str(key), yyjson_get_len(key), (int32_t)yyjson_get_uint(id)))
            return error_no_memory(e, "the vocabulary", count * sizeof(vocabulary_slot));
    }
    find_alphabet(b);
    return true;
}

void bpe_free(bpe *b) {
    vocabulary_free(&b->pieces);
    free(b->merges);
    *b = (bpe){0};
}

static size_t merge_slot(const bpe *b, uint64_t pair) {
    size_t i = (size_t)((pair * 0x9E3779B97F4A7C15u) >> 20) & b->merge_mask;
    while (b->merges[i].pair != UINT64_MAX && b->merges[i].pair != pair) i = (i + 1) & b->merge_mask;
    return i;
}

static bool reserve_merges(bpe *b, size_t count, const char *source, error *e) {
    size_t slots = 16;
    if (count > MAX_PIECES) return error_set(e, ERROR_BAD_FILE, "%s: more than %d merges", source, MAX_PIECES);
    while (slots / 5 * 4 < count) slots *= 2; /* a slot at least stays empty: searches end there */
    b->merges = malloc(slots * sizeof *b->merges);
    if (b->merges == NULL) return error_no_memory(e, "the merges", slots * sizeof *b->merges);
    b->merge_mask = slots - 1;
    for (size_t i = 0; i < slots; i++) b->merges[i].pair = UINT64_MAX;
    return true;
}

static bool add_merge(bpe *b, int rank, const char *left, size_t nl, const char *right, size_t nr, const char *source, error *e) {
    char whole[2 * MAX_PIECE_BYTES];
    if (nl > MAX_PIECE_BYTES || nr > MAX_PIECE_BYTES) return error_set(e, ERROR_BAD_FILE, "%s: merge %d is too long", source, rank + 1);
    memcpy(whole, left, nl);
    memcpy(whole + nl, right, nr);
    int32_t l = vocabulary_find(&b->pieces, left, nl), r = vocabulary_find(&b->pieces, right, nr);
    int32_t id = vocabulary_find(&b->pieces, whole, nl + nr);
    if (l < 0 || r < 0 || id < 0)
        return error_set(e, ERROR_BAD_FILE, "%s: merge %d, '%.*s %.*s', names a piece that is not in the vocabulary", source, rank + 1,
                         (int)nl, left, (int)nr, right);
    bpe_merge *m = &b->merges[merge_slot(b, (uint64_t)(uint32_t)l << 32 | (uint32_t)r)];
    *m = (bpe_merge){(uint64_t)(uint32_t)l << 32 | (uint32_t)r, rank,
                     id}; /* a pair given twice keeps its last rank, as in the reference's map */
    return true;
}

bool bpe_add_merges_text(bpe *b, const char *text, size_t size, const char *source, error *e) {
    size_t lines = 1;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    if (!reserve_merges(b, lines, source, e)) return false;
    int rank = 0;
    for (const char *p = text, *end = text + size; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (stop == NULL) stop = end;
        size_t n = (size_t)(stop - p);
        if (n > 0 && p[n - 1] == '\r') n--;
        const char *space = memchr(p, ' ', n);
        if (n > 0 && !(n >= 8 && memcmp(p, "#version", 8) == 0)) {
            if (space == NULL) return error_set(e, ERROR_BAD_FILE, "%s: merge %d is not two pieces with a space between", source, rank + 1);
            if (!add_merge(b, rank, p, (size_t)(space - p), space + 1, n - (size_t)(space - p) - 1, source, e)) return false;
            rank++;
        }
        p = stop + 1;
    }
    return true;
}

/* "left right" or ["left", "right"]. */
bool bpe_add_merges_json(bpe *b, json merges, error *e) {
    if (!yyjson_is_arr(merges.value)) return error_set(e, ERROR_BAD_FILE, "%s: 'merges' must be an array", merges.source);
    if (!reserve_merges(b, yyjson_arr_size(merges.value), merges.source, e)) return false;
    int rank = 0;
    yyjson_arr_iter i = yyjson_arr_iter_with(merges.value);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&i)) != NULL; rank++) {
        yyjson_val *l = yyjson_arr_get(v, 0), *r = yyjson_arr_get(v, 1);
        const char *text = yyjson_get_str(v), *space = text != NULL ? strchr(text, ' ') : NULL;
        bool ok;
        if (space != NULL) {
            ok = add_merge(b, rank, text, (size_t)(space - text), space + 1, strlen(space + 1), merges.source, e);
        } else if (yyjson_is_str(l) && yyjson_is_str(r)) {
            ok = add_merge(b, rank, yyjson_get_str(l), yyjson_get_len(l), yyjson_get_str(r), yyjson_get_len(r), merges.source, e);
        } else {
            ok = error_set(e, ERROR_BAD_FILE, "%s: merge %d is not two pieces", merges.source, rank + 1);
        }
        if (!ok) return false;
    }
    return true;
}

/* --- merging one word --- */

typedef struct symbol {
    int32_t id, before, after; /* neighbours' indices; −1 none. A symbol merged into its left neighbour has id −1 */
} symbol;

typedef struct candidate {
    int32_t rank, at, left, right, id; /* the pair as it was when found: a stale candidate is skipped */
} candidate;

/* Smallest rank first, then leftmost. */
static bool comes_first(const candidate *a, const candidate *b) { return a->rank != b->rank ? a->rank < b->rank : a->at < b->at; }

typedef struct heap {
    candidate *items;
    size_t count;
} heap;

static void heap_push(heap *h, candidate c) {
    size_t i = h->count++;
    for (; i > 0 && comes_first(&c, &h->items[(i - 1) / 2]); i = (i - 1) / 2) h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = c;
}

static candidate heap_pop(heap *h) {
    candidate top = h->items[0], last = h->items[--h->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && comes_first(&h->items[child + 1], &h->items[child])) child++;
        if (!comes_first(&h->items[child], &last)) break;
        h->items[i] = h->items[child];
    }
    h->items[i] = last;
    return top;
}

static void consider(const bpe *b, heap *h, const symbol *s, int32_t at) {
    if (at < 0 || s[at].after < 0) return;
    int32_t left = s[at].id, right = s[s[at].after].id;
    const bpe_merge *m = &b->merges[merge_slot(b, (uint64_t)(uint32_t)left << 32 | (uint32_t)right)];
    if (m->pair != UINT64_MAX) heap_push(h, (candidate){m->rank, at, left, right, m->id});
}

static void merge_all(const bpe *b, symbol *s, int32_t count, heap *h) {
    for (int32_t i = 0; i < count; i++) consider(b, h, s, i);
    while (h->count > 0) {
        candidate c = heap_pop(h);
        int32_t right = s[c.at].after;
        if (s[c.at].id != c.left || right < 0 || s[right].id != c.right) continue;
        s[c.at].id = c.id;
        s[c.at].after = s[right].after;
        if (s[right].after >= 0) s[s[right].after].before = c.at;
        s[right].id = -1;
        s[right].after = -1;
        consider(b, h, s, s[c.at].before);
        consider(b, h, s, c.at);
    }
}

static bool encode_word(const bpe *b, const char *word, size_t size, id_list *out) {
    if (size == 0) return true;
    /* Each merge removes a symbol and adds at most two candidates: 3 × size bounds the heap. */
    symbol *s = malloc(size * sizeof *s);
    heap h = {malloc(3 * size * sizeof *h.items), 0};
    bool ok = s != NULL && h.items != NULL;
    int32_t count = 0;
    for (size_t i = 0; ok && i < size; i++) {
        int32_t id = i + 1 == size ? b->last[(unsigned char)word[i]] : b->alphabet[(unsigned char)word[i]];
        if (id < 0) id = b->unknown;
        if (id < 0) continue;
        s[count] = (symbol){id, count - 1, -1};
        if (count > 0) s[count - 1].after = count;
        count++;
    }
    if (ok && count > 0) {
        merge_all(b, s, count, &h);
        for (int32_t i = 0; ok && i >= 0; i = s[i].after) ok = id_list_add(out, s[i].id);
    }
    free(s);
    free(h.items);
    return ok;
}

/* --- splitting into words --- */

/* The pattern is 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+ ; what matches nothing (space) is left out. */
static size_t contraction(const char *text, size_t size) {
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (n <= size && memcmp(text, endings[i], n) == 0) return n;
    }
    return 0;
}

typedef enum character_class { CLASS_SPACE, CLASS_LETTER, CLASS_NUMBER, CLASS_OTHER } character_class;

static character_class class_of(int32_t c) {
    if (c < 0) return CLASS_OTHER;
    return unicode_is_letter(c) ? CLASS_LETTER : unicode_is_number(c) ? CLASS_NUMBER : unicode_is_space(c) ? CLASS_SPACE : CLASS_OTHER;
}

static size_t word_end(const char *text, size_t size, size_t from, character_class *kind) {
    size_t at = from;
    *kind = class_of(utf8_next(text, size, &at));
    if (*kind == CLASS_NUMBER || *kind == CLASS_SPACE) return at;
    while (at < size) {
        size_t after = at;
        if (class_of(utf8_next(text, size, &after)) != *kind) break;
        at = after;
    }
    return at;
}

/* The names of the special tokens are words of the pattern too. They were taken out of the text before, but lower-casing can make new ones;
 * the byte-level step then cuts them where letters meet other characters. */
static size_t special_name(const char *text, size_t size) {
    static const char *const names[] = {"<|startoftext|>", "<|endoftext|>"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(names[i]);
        if (n <= size && memcmp(text, names[i], n) == 0) return n;
    }
    return 0;
}

bool bpe_encode(const bpe *b, const char *text, size_t size, id_list *out) {
    for (size_t at = 0; at < size;) {
        size_t n = special_name(text + at, size - at);
        if (n > 0) {
            if (!encode_word(b, text + at, 2, out) || !encode_word(b, text + at + 2, n - 4, out) ||
                !encode_word(b, text + at + n - 2, 2, out))
                return false;
            at += n;
            continue;
        }
        character_class kind = CLASS_OTHER;
        n = contraction(text + at, size - at);
        size_t end = n > 0 ? at + n : word_end(text, size, at, &kind);
        if (kind != CLASS_SPACE && !encode_word(b, text + at, end - at, out)) return false;
        at = end;
    }
    return true;
}
