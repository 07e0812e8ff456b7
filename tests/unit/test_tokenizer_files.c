/* Tokenizer files that are missing, damaged or at odds with each other are refused, and the complaint names the file and what is wrong with it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "text/tokenizer.h"

enum { PATH = 512 };

typedef bool (*loader)(const char *folder, tokenizer **out, error *e);

typedef struct file {
    const char *name, *text;
} file;

static int make_folder(void **state) {
    static char folder[64];
    strcpy(folder, "/tmp/imagined_tokenizer_XXXXXX");
    *state = mkdtemp(folder);
    return *state == NULL;
}

static void remove_files(const char *folder) {
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model"};
    char path[PATH];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
}

static int remove_folder(void **state) {
    remove_files(*state);
    return rmdir(*state);
}

static void put(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void put_files(const char *folder, const file *files, size_t count) {
    remove_files(folder);
    for (size_t i = 0; i < count && files[i].name != NULL; i++) put(folder, files[i].name, files[i].text, strlen(files[i].text));
}

/* --- two tokenizers as small as can be --- */

#define MARKS "\"<|startoftext|>\":0,\"<|endoftext|>\":1"
#define VOCAB "{" MARKS ",\"a\":2,\"b\":3,\"b</w>\":4,\"ab</w>\":5}"
#define MERGES "#version: 0.2\na b</w>\n"
#define PIECES "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"\u2581\",-2],[\"a\",-3]]"
#define UNIGRAM(pieces, rest) "{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":" pieces "}" rest "}"
#define BPE(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}}"

typedef struct encoding {
    const char *title;
    loader load;
    file files[3];
    const char *text;
    int32_t ids[6];
    size_t max_length, vocabulary;
} encoding;

static void well_formed_files(void **state) {
    static const encoding cases[] = {
        {"a pair of files", tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}}, "AB b", {0, 5, 4, 1, 1, 1}, 0, 6},
        {"merges with CR, no heading, no end of line", tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", "\r\na b</w>\r"}}, "ab", {0, 5, 1, 1, 1, 1}, 0, 6},
        {"merges as pairs", tokenizer_load_clip, {{"tokenizer.json", BPE(VOCAB, "[[\"a\",\"b</w>\"]]")}}, "ab", {0, 5, 1, 1, 1, 1}, 0, 6},
        {"merges as texts", tokenizer_load_clip, {{"tokenizer.json", BPE(VOCAB, "[\"a b</w>\"]")}}, "ab", {0, 5, 1, 1, 1, 1}, 0, 6},
        {"no merges", tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", ""}}, "ab", {0, 2, 4, 1, 1, 1}, 0, 6},
        {"a word cut at 6", tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}}, "b b b b b b", {0, 4, 4, 4, 4, 1}, 0, 6},
        {"a length in the config", tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"tokenizer_config.json", "{\"model_max_length\":77}"}},
         "", {0, 1, 1, 1, 1, 1}, 77, 6},
        {"another pad token", tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"special_tokens_map.json", "{\"pad_token\":\"a\"}"}},
         "b", {0, 4, 1, 2, 2, 2}, 0, 6},
        {"no limit as a float", tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, "")}, {"tokenizer_config.json", "{\"extra_ids\":0,\"model_max_length\":1e30}"}},
         "a", {3, 4, 1, 0, 0, 0}, 0, 5},
        {"no limit as an integer", tokenizer_load_t5,
         {{"tokenizer.json", UNIGRAM(PIECES, "")}, {"tokenizer_config.json", "{\"extra_ids\":0,\"model_max_length\":1000000000000000019884624838656}"}},
         "aa", {3, 4, 4, 1, 0, 0}, 0, 5},
        {"a negative length", tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, "")}, {"tokenizer_config.json", "{\"extra_ids\":2,\"model_max_length\":-1}"}},
         "a<extra_id_1>", {3, 4, 6, 1, 0, 0}, 0, 7},
        {"unknown characters, as one", tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"normalizer\":null,\"added_tokens\":[]")}, {"tokenizer_config.json", "{\"extra_ids\":0}"}},
         "axyza", {3, 4, 2, 4, 1, 0}, 0, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const encoding *c = &cases[i];
        put_files(*state, c->files, 3);
        tokenizer *t;
        error e = {0};
        int32_t ids[6];
        if (!c->load(*state, &t, &e)) fail_msg("%s: %s", c->title, e.text);
        if (!tokenizer_encode(t, c->text, strlen(c->text), 6, ids, NULL, &e)) fail_msg("%s: %s", c->title, e.text);
        for (size_t k = 0; k < 6; k++)
            if (ids[k] != c->ids[k]) fail_msg("%s: id %zu is %d, not %d", c->title, k, (int)ids[k], (int)c->ids[k]);
        assert_int_equal(tokenizer_max_length(t), c->max_length);
        assert_int_equal(tokenizer_vocabulary(t), c->vocabulary);
        tokenizer_free(t);
    }
}

static void prompts_that_are_refused(void **state) {
    static const file files[] = {{"vocab.json", VOCAB}, {"merges.txt", MERGES}};
    put_files(*state, files, 2);
    tokenizer *t;
    error e = {0};
    int32_t ids[2] = {0};
    assert_true(tokenizer_load_clip(*state, &t, &e));
    assert_false(tokenizer_encode(t, "ab\xFFz", 4, 2, ids, NULL, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_non_null(strstr(e.text, "byte 2"));
    assert_false(tokenizer_encode(t, "ab", 2, 1, ids, NULL, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    tokenizer_free(t);
    tokenizer_free(NULL);
}

/* --- bad files --- */

typedef struct fault {
    loader load;
    file files[3];
    error_code code;
    const char *names, *says; /* both are in the complaint */
} fault;

static void refuse(const char *folder, const fault *f) {
    tokenizer *t = NULL;
    error e = {0};
    if (f->load(folder, &t, &e)) fail_msg("taken, though '%s' in %s was expected", f->says, f->names);
    assert_null(t);
    if (e.code != f->code || strstr(e.text, f->names) == NULL || strstr(e.text, f->says) == NULL)
        fail_msg("'%s' (%s) should be %s and have '%s' and '%s'", e.text, error_code_name(e.code), error_code_name(f->code), f->names, f->says);
}

static void bad_clip_files(void **state) {
    static const fault faults[] = {
        {tokenizer_load_clip, {{NULL}}, ERROR_NOT_FOUND, "imagined_tokenizer", "no tokenizer"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}}, ERROR_NOT_FOUND, "merges.txt", "open"},
        {tokenizer_load_clip, {{"merges.txt", MERGES}}, ERROR_NOT_FOUND, "imagined_tokenizer", "vocab.json"},
        {tokenizer_load_clip, {{"vocab.json", ""}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "not valid JSON"},
        {tokenizer_load_clip, {{"vocab.json", "{\"a\":1"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "not valid JSON"},
        {tokenizer_load_clip, {{"vocab.json", "[1,2]"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "object"},
        {tokenizer_load_clip, {{"vocab.json", "{}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "1 to"},
        {tokenizer_load_clip, {{"vocab.json", "{\"piece\":\"2\"}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "'piece'"},
        {tokenizer_load_clip, {{"vocab.json", "{\"piece\":-1}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "'piece'"},
        {tokenizer_load_clip, {{"vocab.json", "{\"piece\":1.5}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "'piece'"},
        {tokenizer_load_clip, {{"vocab.json", "{\"piece\":2147483648}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "'piece'"},
        {tokenizer_load_clip, {{"vocab.json", "{\"piece\":18446744073709551615}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "vocab.json", "'piece'"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", "a b</w>\nab\n"}}, ERROR_BAD_FILE, "merges.txt", "merge 2"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", "a c\n"}}, ERROR_BAD_FILE, "merges.txt", "'a c'"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", "b a\n"}}, ERROR_BAD_FILE, "merges.txt", "not in the vocabulary"},
        {tokenizer_load_clip, {{"vocab.json", "{\"a\":0,\"b</w>\":1,\"ab</w>\":2}"}, {"merges.txt", MERGES}}, ERROR_BAD_FILE, "imagined_tokenizer", "<|startoftext|>"},
        {tokenizer_load_clip, {{"vocab.json", "{\"<|startoftext|>\":0}"}, {"merges.txt", ""}}, ERROR_BAD_FILE, "imagined_tokenizer", "<|endoftext|>"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"tokenizer_config.json", "{\"pad_token\":\"<p>\"}"}}, ERROR_BAD_FILE, "pad_token", "<p>"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"tokenizer_config.json", "{"}}, ERROR_BAD_FILE, "tokenizer_config.json", "JSON"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"special_tokens_map.json", "x"}}, ERROR_BAD_FILE, "special_tokens_map.json", "JSON"},
        {tokenizer_load_clip,
         {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}"}},
         ERROR_BAD_FILE, "tokenizer_config.json", "id below"},
        {tokenizer_load_clip,
         {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"y\"}}}"}},
         ERROR_BAD_FILE, "tokenizer_config.json", "id below"},
        {tokenizer_load_clip, {{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"5\":{\"content\":7}}}"}},
         ERROR_BAD_FILE, "tokenizer_config.json", "'content'"},
        {tokenizer_load_clip, {{"tokenizer.json", "{}"}}, ERROR_BAD_FILE, "tokenizer.json", "'model'"},
        {tokenizer_load_clip, {{"tokenizer.json", "{\"model\":3}"}}, ERROR_BAD_FILE, "tokenizer.json", "'model'"},
        {tokenizer_load_clip, {{"tokenizer.json", "{\"model\":{\"vocab\":" VOCAB "}}"}}, ERROR_BAD_FILE, "tokenizer.json", "'merges'"},
        {tokenizer_load_clip, {{"tokenizer.json", UNIGRAM(PIECES, "")}}, ERROR_BAD_FILE, "tokenizer.json", "'vocab'"},
        {tokenizer_load_clip, {{"tokenizer.json", BPE(VOCAB, "{}")}}, ERROR_BAD_FILE, "tokenizer.json", "'merges'"},
        {tokenizer_load_clip, {{"tokenizer.json", BPE(VOCAB, "[[\"a\"]]")}}, ERROR_BAD_FILE, "tokenizer.json", "merge 1"},
        {tokenizer_load_clip, {{"tokenizer.json", BPE(VOCAB, "[\"a b</w>\",7]")}}, ERROR_BAD_FILE, "tokenizer.json", "merge 2"},
        {tokenizer_load_clip, {{"tokenizer.json", BPE(VOCAB, "[[\"a\",\"z\"]]")}}, ERROR_BAD_FILE, "tokenizer.json", "'a z'"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        put_files(*state, faults[i].files, 3);
        refuse(*state, &faults[i]);
    }
}

static void bad_t5_files(void **state) {
    static const fault faults[] = {
        {tokenizer_load_t5, {{NULL}}, ERROR_NOT_FOUND, "imagined_tokenizer", "spiece.model"},
        {tokenizer_load_t5, {{"tokenizer.json", "nonsense"}}, ERROR_BAD_FILE, "tokenizer.json", "JSON"},
        {tokenizer_load_t5, {{"tokenizer.json", "[]"}}, ERROR_BAD_FILE, "tokenizer.json", "'model'"},
        {tokenizer_load_t5, {{"tokenizer.json", "{\"model\":{}}"}}, ERROR_BAD_FILE, "tokenizer.json", "'vocab'"},
        {tokenizer_load_t5, {{"tokenizer.json", BPE(VOCAB, "[]")}}, ERROR_BAD_FILE, "tokenizer.json", "'vocab'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[]", "")}}, ERROR_BAD_FILE, "tokenizer.json", "0 pieces"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[[\"<pad>\",0]]", "")}}, ERROR_BAD_FILE, "imagined_tokenizer", "unknown token"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[[\"a\",0],[\"b\",0],[\"c\",0]]", "")}}, ERROR_BAD_FILE, "imagined_tokenizer", "<pad>"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[[\"<pad>\"]]", "")}}, ERROR_BAD_FILE, "tokenizer.json", "score"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[[\"<pad>\",\"0\"]]", "")}}, ERROR_BAD_FILE, "tokenizer.json", "score"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[\"<pad>\"]", "")}}, ERROR_BAD_FILE, "tokenizer.json", "score"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[[\"<pad>\",NaN]]", "")}}, ERROR_BAD_FILE, "tokenizer.json", "JSON"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM("[[\"<pad>\",1e999]]", "")}}, ERROR_BAD_FILE, "tokenizer.json", "JSON"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"added_tokens\":{}")}}, ERROR_BAD_FILE, "tokenizer.json", "'added_tokens'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"added_tokens\":[7]")}}, ERROR_BAD_FILE, "tokenizer.json", "'content'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"added_tokens\":[{\"content\":\"x\",\"id\":-1}]")}}, ERROR_BAD_FILE, "tokenizer.json", "id below"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"added_tokens\":[{\"content\":\"x\",\"id\":4294967296}]")}}, ERROR_BAD_FILE, "tokenizer.json", "id below"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"normalizer\":[]")}}, ERROR_BAD_FILE, "tokenizer.json", "'normalizer'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":5}")}}, ERROR_BAD_FILE, "tokenizer.json",
         "'precompiled_charsmap'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA!\"}")}}, ERROR_BAD_FILE,
         "tokenizer.json", "base64 at character 3"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"QUFBQUFBQUFBQUFB\"}")}}, ERROR_BAD_FILE,
         "tokenizer.json", "charsmap is damaged"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":{}}")}}, ERROR_BAD_FILE, "tokenizer.json",
         "'normalizers'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, "")}, {"tokenizer_config.json", "{\"extra_ids\":-1}"}}, ERROR_BAD_FILE, "tokenizer_config.json", "'extra_ids'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, "")}, {"tokenizer_config.json", "{\"extra_ids\":1000000}"}}, ERROR_BAD_FILE, "tokenizer_config.json",
         "'extra_ids'"},
        {tokenizer_load_t5, {{"tokenizer.json", UNIGRAM(PIECES, "")}, {"tokenizer_config.json", "{\"eos_token\":\"<end>\"}"}}, ERROR_BAD_FILE, "eos_token", "<end>"},
        {tokenizer_load_t5, {{"spiece.model", ""}}, ERROR_BAD_FILE, "spiece.model", "0 pieces"},
        {tokenizer_load_t5, {{"spiece.model", "\n"}}, ERROR_BAD_FILE, "spiece.model", "damaged"},
        {tokenizer_load_t5, {{"spiece.model", "version https://git-lfs.github.com/spec/v1\n"}}, ERROR_BAD_FILE, "spiece.model", "damaged"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        put_files(*state, faults[i].files, 3);
        refuse(*state, &faults[i]);
    }
}

/* --- spiece.model --- */

static void read_spiece(buffer *b) {
    const char *data = getenv("IMAGINED_TEST_DATA");
    assert_non_null(data);
    char path[PATH];
    snprintf(path, sizeof path, "%s/tokenizers/t5_spiece/spiece.model", data);
    error e = {0};
    if (!file_read(path, 1 << 20, b, &e)) fail_msg("%s", e.text);
    assert_true(b->size > 1000);
}

/* Whether a file that ends after `size` bytes ends between two fields of the message, where nothing tells it from a shorter one. */
static bool ends_a_field(const unsigned char *p, size_t size) {
    size_t at = 0;
    while (at < size) {
        size_t length = 0;
        if ((p[at++] & 7) != 2) return false;
        for (int shift = 0; at < size; shift += 7) {
            length |= (size_t)(p[at] & 0x7F) << shift;
            if (p[at++] < 0x80) break;
        }
        if (p[at - 1] >= 0x80) return false;
        at += length;
    }
    return at == size;
}

static void truncated_spiece(void **state) {
    buffer b = {0};
    read_spiece(&b);
    remove_files(*state);
    size_t whole = 0;
    for (size_t size = 0; size <= b.size; size = size == 200 ? b.size - 200 : size + 1) {
        put(*state, "spiece.model", b.data, size);
        tokenizer *t = NULL;
        error e = {0};
        bool ok = tokenizer_load_t5(*state, &t, &e), boundary = ends_a_field((const unsigned char *)b.data, size);
        tokenizer_free(t);
        if (ok && !boundary) fail_msg("%zu of %zu bytes are taken for a model", size, b.size);
        if (!ok && (e.code != ERROR_BAD_FILE || (strstr(e.text, "spiece.model") == NULL && !boundary))) fail_msg("%zu bytes: %s", size, e.text);
        whole += ok;
    }
    assert_true(whole >= 1); /* the whole file at least */
    buffer_free(&b);
}

/* A piece of the message, by hand: field 1 of 2 + n + 5 bytes: its text and its score. */
static void append_piece(buffer *b, const char *text, float score) {
    size_t n = strlen(text);
    assert_true(n < 100);
    buffer_append_byte(b, 0x0A);
    buffer_append_byte(b, (char)(2 + n + 5));
    buffer_append_byte(b, 0x0A);
    buffer_append_byte(b, (char)n);
    buffer_append_text(b, text);
    buffer_append_byte(b, 0x15);
    buffer_append(b, &score, 4);
}

static void scores_that_are_no_numbers(void **state) {
    static const float scores[] = {-1, NAN, INFINITY, -INFINITY};
    remove_files(*state);
    for (size_t i = 0; i < 4; i++) {
        buffer b = {0};
        append_piece(&b, "<pad>", 0);
        append_piece(&b, "</s>", 0);
        append_piece(&b, "<unk>", 0);
        append_piece(&b, "a", scores[i]);
        put(*state, "spiece.model", b.data, b.size);
        buffer_free(&b);
        if (i > 0) {
            refuse(*state, &(fault){.load = tokenizer_load_t5, .code = ERROR_BAD_FILE, .names = "spiece.model", .says = "piece 3"});
            continue;
        }
        tokenizer *t;
        error e = {0};
        if (!tokenizer_load_t5(*state, &t, &e)) fail_msg("%s", e.text);
        assert_int_equal(tokenizer_vocabulary(t), 104);
        tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(well_formed_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(prompts_that_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bad_clip_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bad_t5_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(truncated_spiece, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(scores_that_are_no_numbers, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
