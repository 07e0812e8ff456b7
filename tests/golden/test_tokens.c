/* Token ids are the reference's, id by id: CLIP's own vocabulary, the demo's two tokenizers and a small one in each dialect found on disk,
 * over strings of many scripts (token_corpus.py), cut and padded to several lengths. */
#include "golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

enum { LONGEST = 512, PATH = 1024, SHOWN = 5 };

typedef struct texts {
    golden *g;
    const char *bytes;
    const int64_t *ends;
    size_t count;
} texts;

typedef bool (*loader)(const char *folder, tokenizer **out, error *e);

typedef struct subject {
    const char *name;
    tokenizer *tokenizer;
    int32_t pad;
    size_t faults;
} subject;

/* --- the recorded arrays --- */

static const int64_t *numbers(const texts *x, const char *name, const char *what, size_t *count) {
    golden_array a = golden_get(x->g, "%s.%s", name, what);
    if (count != NULL) *count = a.count;
    return golden_i64(&a);
}

static const uint16_t *ids_of(const texts *x, const char *name, const char *what) {
    golden_array a = golden_get(x->g, "%s.%s", name, what);
    assert_string_equal(a.type, "U16");
    assert_int_equal((uintptr_t)a.data % 2, 0);
    return a.data;
}

static const char *text_of(const texts *x, size_t i, size_t *size) {
    assert_true(i < x->count);
    size_t begin = i == 0 ? 0 : (size_t)x->ends[i - 1];
    *size = (size_t)x->ends[i] - begin;
    return x->bytes + begin;
}

static int open_texts(void **state) {
    texts *x = calloc(1, sizeof *x);
    assert_non_null(x);
    x->g = golden_open("tokens");
    golden_array bytes = golden_get(x->g, "text"), ends = golden_get(x->g, "text.ends");
    x->bytes = bytes.data;
    x->ends = golden_i64(&ends);
    x->count = ends.count;
    assert_true(x->count >= 2000 && (size_t)x->ends[x->count - 1] == bytes.size);
    *state = x;
    return 0;
}

static int close_texts(void **state) {
    texts *x = *state;
    if (x == NULL) return 0;
    golden_free(x->g);
    free(x);
    return 0;
}

/* --- comparing --- */

static void complain(subject *s, size_t i, const char *text, size_t size, size_t length, size_t at, long got, long expected) {
    if (s->faults++ >= SHOWN) return;
    print_error("%s: string %zu, '%.*s', cut to %zu: token %zu is %ld, not %ld; bytes:", s->name, i, size < 80 ? (int)size : 80, text,
                length, at, got, expected);
    for (size_t k = 0; k < size && k < 60; k++) print_error(" %02x", (unsigned char)text[k]);
    print_error("\n");
}

/* `expected` is what the reference gives without padding. */
static void compare(subject *s, const texts *x, size_t i, size_t length, const uint16_t *expected, size_t count) {
    int32_t ids[LONGEST];
    size_t size, used = 0;
    const char *text = text_of(x, i, &size);
    error e = {0};
    if (!tokenizer_encode(s->tokenizer, text, size, length, ids, &used, &e))
        fail_msg("%s: string %zu, cut to %zu: %s", s->name, i, length, e.text);
    for (size_t k = 0; k < length; k++) {
        int32_t want = k < count ? expected[k] : s->pad;
        if (ids[k] == want) continue;
        complain(s, i, text, size, length, k, ids[k], want);
        return;
    }
    if (used != count) complain(s, i, text, size, length, used, (long)used, (long)count);
}

static void compare_all(subject *s, const texts *x) {
    size_t count, every = (size_t)numbers(x, s->name, "every", NULL)[0];
    const int64_t *ends = numbers(x, s->name, "ends", &count);
    const uint16_t *ids = ids_of(x, s->name, "ids");
    assert_int_equal(count, (x->count + every - 1) / every);
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : (size_t)ends[i - 1], used = (size_t)ends[i] - begin;
        compare(s, x, i * every, LONGEST, ids + begin, used);
        /* What fits is the same at any length. */
        if (used <= 77) compare(s, x, i * every, 77, ids + begin, used);
        if (used >= 2 && used < LONGEST) compare(s, x, i * every, used, ids + begin, used);
    }
}

static void compare_cut(subject *s, const texts *x, size_t length) {
    char key[32];
    size_t count, listed;
    snprintf(key, sizeof key, "cut.%zu.ends", length);
    const int64_t *ends = numbers(x, s->name, key, &count);
    snprintf(key, sizeof key, "cut.%zu.texts", length);
    const int64_t *which = numbers(x, s->name, key, &listed);
    snprintf(key, sizeof key, "cut.%zu.ids", length);
    const uint16_t *ids = ids_of(x, s->name, key);
    assert_int_equal(count, listed);
    assert_true(count >= 10);
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : (size_t)ends[i - 1];
        compare(s, x, (size_t)which[i], length, ids + begin, (size_t)ends[i] - begin);
    }
}

static void check(const texts *x, const char *name, const char *folder, loader load) {
    subject s = {.name = name, .pad = (int32_t)numbers(x, name, "pad", NULL)[0]};
    error e = {0};
    if (!load(folder, &s.tokenizer, &e)) fail_msg("%s: %s", name, e.text);
    compare_all(&s, x);
    compare_cut(&s, x, 32);
    compare_cut(&s, x, 77);
    size_t vocabulary = tokenizer_vocabulary(s.tokenizer), expected = (size_t)numbers(x, name, "size", NULL)[0];
    tokenizer_free(s.tokenizer);
    if (s.faults > 0) fail_msg("%s: %zu strings differ from the reference", name, s.faults);
    if (vocabulary != expected) fail_msg("%s: a vocabulary of %zu ids, not %zu", name, vocabulary, expected);
}

/* --- where they lie --- */

static void check_stored(const texts *x, const char *name, loader load) {
    char folder[PATH], part[256];
    snprintf(part, sizeof part, "tokenizers/%s", name);
    golden_path(folder, sizeof folder, part);
    check(x, name, folder, load);
}

static void source_path(char *path, const char *name) {
    const char *source = getenv("IMAGINED_SOURCE");
    if (source == NULL) fail_msg("IMAGINED_SOURCE is not set: run through `meson test`");
    snprintf(path, PATH, "%s/%s", source, name);
}

/* A folder of links to files that exist, in which a tokenizer is put together. */
static void make_folder(char *folder) {
    snprintf(folder, PATH, "/tmp/imagined_tokens_XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void join(char *path, const char *folder, const char *name) { assert_true(snprintf(path, PATH, "%.900s/%s", folder, name) < PATH); }

static void link_file(const char *folder, const char *name, const char *target) {
    char path[PATH];
    join(path, folder, name);
    assert_int_equal(symlink(target, path), 0);
}

static void remove_files(const char *folder, const char *first, const char *second) {
    char path[PATH];
    join(path, folder, first);
    unlink(path);
    if (second != NULL) {
        join(path, folder, second);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* --- CLIP's own vocabulary: its bytes, the bytes that end a word, the merges, two marks --- */

static void write_piece(FILE *f, int id, const char *piece, size_t size, const char *suffix) {
    fprintf(f, "%s\"", id > 0 ? "," : "{");
    for (size_t i = 0; i < size; i++) {
        if (piece[i] == '"' || piece[i] == '\\') fputc('\\', f);
        if (piece[i] != ' ') fputc(piece[i], f);
    }
    fprintf(f, "%s\":%d", suffix, id);
}

static bool shown(int byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD); }

static int write_alphabet(FILE *f, int id, const char *suffix) {
    char c[4];
    for (int byte = 0; byte < 256; byte++)
        if (shown(byte)) write_piece(f, id++, c, utf8_encode((uint32_t)byte, c), suffix);
    for (uint32_t i = 0; i < 68; i++) write_piece(f, id++, c, utf8_encode(0x100 + i, c), suffix);
    return id;
}

static void write_vocabulary(const char *path, const char *merges) {
    FILE *in = fopen(merges, "r"), *out = fopen(path, "w");
    assert_non_null(in);
    assert_non_null(out);
    int id = write_alphabet(out, 0, "");
    id = write_alphabet(out, id, "</w>");
    char line[256];
    while (fgets(line, sizeof line, in) != NULL) write_piece(out, id++, line, strcspn(line, "\n"), "");
    fprintf(out, ",\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}", id, id + 1);
    assert_int_equal(id, 49406);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static void clips_own_vocabulary(void **state) {
    char folder[PATH], vocab[PATH], merges[PATH];
    golden_path(merges, sizeof merges, "tokenizers/clip/merges.txt");
    make_folder(folder);
    join(vocab, folder, "vocab.json");
    write_vocabulary(vocab, merges);
    link_file(folder, "merges.txt", merges);
    check(*state, "clip", folder, tokenizer_load_clip);
    remove_files(folder, "vocab.json", "merges.txt");
}

static void demo_clip(void **state) {
    char folder[PATH];
    source_path(folder, "demo/model/tokenizer");
    check(*state, "demo_clip", folder, tokenizer_load_clip);
}

static void demo_t5(void **state) {
    char folder[PATH];
    source_path(folder, "demo/model/tokenizer_2");
    check(*state, "demo_t5", folder, tokenizer_load_t5);
}

/* spiece.model with sentencepiece's nmt_nfkc rules, and nothing beside it */
static void demo_spiece(void **state) {
    char folder[PATH], model[PATH];
    source_path(model, "demo/model/tokenizer_2/spiece.model");
    make_folder(folder);
    link_file(folder, "spiece.model", model);
    check(*state, "demo_spiece", folder, tokenizer_load_t5);
    remove_files(folder, "spiece.model", NULL);
}

static void clip_small(void **state) { check_stored(*state, "clip_small", tokenizer_load_clip); }
static void clip_json(void **state) { check_stored(*state, "clip_json", tokenizer_load_clip); }
static void clip_published(void **state) { check_stored(*state, "clip_published", tokenizer_load_clip); }
static void clip_padded(void **state) { check_stored(*state, "clip_padded", tokenizer_load_clip); }
static void clip_old(void **state) { check_stored(*state, "clip_old", tokenizer_load_clip); }
static void clip_words(void **state) { check_stored(*state, "clip_words", tokenizer_load_clip); }
static void t5_spiece(void **state) { check_stored(*state, "t5_spiece", tokenizer_load_t5); }
static void t5_charsmap(void **state) { check_stored(*state, "t5_charsmap", tokenizer_load_t5); }
static void t5_plain(void **state) { check_stored(*state, "t5_plain", tokenizer_load_t5); }
static void t5_sequence(void **state) { check_stored(*state, "t5_sequence", tokenizer_load_t5); }
static void t5_extra(void **state) { check_stored(*state, "t5_extra", tokenizer_load_t5); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clips_own_vocabulary), cmocka_unit_test(demo_clip),      cmocka_unit_test(demo_t5),     cmocka_unit_test(demo_spiece),
        cmocka_unit_test(clip_small),           cmocka_unit_test(clip_json),      cmocka_unit_test(clip_published), cmocka_unit_test(clip_padded),
        cmocka_unit_test(t5_spiece),            cmocka_unit_test(t5_charsmap),    cmocka_unit_test(t5_plain),    cmocka_unit_test(t5_sequence),
        cmocka_unit_test(t5_extra),             cmocka_unit_test(clip_old),       cmocka_unit_test(clip_words),
    };
    return cmocka_run_group_tests(tests, open_texts, close_texts);
}
