/* Tokenizers from mutated files, and prompts of any bytes: never a crash; a complaint is one sentence of valid UTF-8; what loads gives ids
 * below its vocabulary for any valid prompt and refuses any other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/utf8.h"
#include "text/charsmap.h"
#include "text/spiece.h"
#include "text/tokenizer.h"
#include "mutate.h"

enum { PATH = 1024, LENGTH = 48, MAX_CHANGES = 8 };

typedef bool (*loader)(const char *folder, tokenizer **out, error *e);

static void join(char *path, const char *folder, const char *name) {
    if ((size_t)snprintf(path, PATH, "%.500s/%.500s", folder, name) >= PATH) fail_msg("%s/%s: path too long", folder, name);
}

static void data_folder(char *path, const char *name) {
    const char *data = getenv("IMAGINED_TEST_DATA");
    assert_non_null(data);
    char part[256];
    snprintf(part, sizeof part, "tokenizers/%s", name);
    join(path, data, part);
}

/* --- prompts --- */

static size_t random_prompt(uint64_t *random, char *text, size_t capacity) {
    static const char *const pieces[] = {"fox ", "<|endoftext|>", "<|STARTOFTEXT|>", "</s>", "<extra_id_7>", "<mark>", "\xE2\x96\x81", "caf\xC3\xA9", "e\xCC\x81",
                                         "\xEF\xAC\x81", "\xF0\x9F\x91\xA8\xE2\x80\x8D", "\xE7\x8B\x90", " ", "\t\n", "'s", "12", "\xE3\x80\x80", "\xFF", "\xC3", "\xED\xA0\x80"};
    size_t size = 0, parts = next_random(random) % 20, valid = sizeof pieces / sizeof pieces[0] - (next_random(random) % 2 == 0 ? 3 : 0);
    for (size_t i = 0; i < parts && size + 20 < capacity; i++) {
        if (next_random(random) % 4 == 0) {
            uint32_t c = (uint32_t)(next_random(random) % 0x110000) >> next_random(random) % 16;
            if (c < 0xD800 || c > 0xDFFF) size += utf8_encode(c, text + size);
        } else {
            const char *piece = pieces[next_random(random) % valid];
            memcpy(text + size, piece, strlen(piece));
            size += strlen(piece);
        }
    }
    if (size > 0 && next_random(random) % 8 == 0) text[next_random(random) % size] = (char)next_random(random);
    return size;
}

static void check_complaint(const error *e) {
    assert_int_not_equal(e->code, ERROR_NONE);
    if (e->text[0] == '\0' || !utf8_valid(e->text, strlen(e->text), NULL)) fail_msg("a complaint that is empty or no text");
}

/* Encodes a prompt. Returns whether it was taken. */
static bool check_prompt(const tokenizer *t, uint64_t *random) {
    char made[512];
    size_t size = random_prompt(random, made, sizeof made), used = 0, length = 2 + next_random(random) % (LENGTH - 1);
    char *text = exact_copy(made, size);
    int32_t ids[LENGTH + 1];
    for (size_t i = 0; i <= LENGTH; i++) ids[i] = -7;
    error e = {0};
    bool ok = tokenizer_encode(t, text, size, length, ids, &used, &e);
    assert_int_equal(ok, utf8_valid(text, size, NULL));
    free(text);
    if (!ok) {
        assert_int_equal(e.code, ERROR_INVALID);
        check_complaint(&e);
        return false;
    }
    assert_in_range(used, 1, length);
    for (size_t i = 0; i < length; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer_vocabulary(t))
            fail_msg("id %d of a vocabulary of %zu", (int)ids[i], tokenizer_vocabulary(t));
    assert_int_equal(ids[length], -7);
    return true;
}

static void prompts_of_any_bytes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        loader load;
    } subjects[] = {{"clip_published", tokenizer_load_clip}, {"t5_extra", tokenizer_load_t5}, {"t5_plain", tokenizer_load_t5}};
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        char folder[PATH];
        tokenizer *t;
        error e = {0};
        data_folder(folder, subjects[i].name);
        if (!subjects[i].load(folder, &t, &e)) fail_msg("%s", e.text);
        uint64_t random = 11;
        int taken = 0, prompts = 5000;
        for (int k = 0; k < prompts; k++) taken += check_prompt(t, &random);
        assert_true(taken > prompts / 4 && taken < prompts);
        tokenizer_free(t);
    }
}

/* --- files --- */

/* Changes bytes, digits and punctuation, cuts, repeats and removes pieces. Small changes keep most of the file's sense. */
static void mutate(uint64_t *random, buffer *b) {
    static const char marks[] = "{}[]\",:\\ \n0123456789-+.eEtfn\0\x7F\x80\xFF";
    size_t changes = next_random(random) % 2 == 0 ? 1 : 1 + next_random(random) % MAX_CHANGES; /* half of the files have one fault */
    for (size_t i = 0; i < changes && b->size > 0; i++) {
        size_t at = next_random(random) % b->size, run = 1 + next_random(random) % 16;
        if (next_random(random) % 3 == 0) at %= 64; /* heads matter most */
        if (at >= b->size) continue;
        if (run > b->size - at) run = b->size - at;
        switch (next_random(random) % 7) {
        case 0: b->data[at] = (char)next_random(random); break;
        case 1: b->data[at] = (char)(b->data[at] ^ 1 << next_random(random) % 8); break;
        case 2: b->data[at] = marks[next_random(random) % (sizeof marks - 1)]; break;
        case 3: memset(b->data + at, marks[next_random(random) % (sizeof marks - 1)], run); break;
        case 4:
            memmove(b->data + at, b->data + at + run, b->size - at - run);
            b->size -= run;
            break;
        case 5: memmove(b->data + at, b->data + next_random(random) % (b->size - run + 1), run); break;
        default:
            if (next_random(random) % 8 == 0) b->size = at;
        }
    }
}

static void write_file(const char *path, const buffer *b) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(b->data, 1, b->size, f), b->size);
    assert_int_equal(fclose(f), 0);
}

typedef struct dialect {
    const char *name;
    loader load;
    const char *files[3]; /* the first is mutated, the others stand as they are */
    int rounds;
} dialect;

static void check_loaded(const tokenizer *t, uint64_t *random) {
    assert_in_range(tokenizer_vocabulary(t), 1, 1 << 23);
    assert_in_range(tokenizer_max_length(t), 0, 1000000);
    for (int i = 0; i < 3; i++) check_prompt(t, random);
}

static void fuzz(const dialect *d) {
    char source[PATH], folder[64], from[PATH], to[PATH];
    buffer original = {0}, changed = {0};
    uint64_t random = 5;
    int loaded = 0;
    data_folder(source, d->name);
    snprintf(folder, sizeof folder, "%s/imagined_fuzz_XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"); /* in memory: many small files */
    assert_non_null(mkdtemp(folder));
    for (int i = 1; i < 3 && d->files[i] != NULL; i++) {
        join(from, source, d->files[i]);
        join(to, folder, d->files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    join(from, source, d->files[0]);
    join(to, folder, d->files[0]);
    error e = {0};
    if (!file_read(from, 1 << 20, &original, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < d->rounds; i++) {
        buffer_clear(&changed);
        buffer_append(&changed, original.data, original.size);
        mutate(&random, &changed);
        write_file(to, &changed);
        tokenizer *t = NULL;
        e = (error){0};
        if (d->load(folder, &t, &e)) check_loaded(t, &random);
        else check_complaint(&e);
        loaded += t != NULL;
        tokenizer_free(t);
    }
    print_message("    %s of %s: %d of %d load\n", d->files[0], d->name, loaded, d->rounds);
    assert_true(loaded > 0 && loaded < d->rounds);
    for (int i = 0; i < 3 && d->files[i] != NULL; i++) {
        join(to, folder, d->files[i]);
        unlink(to);
    }
    rmdir(folder);
    buffer_free(&original);
    buffer_free(&changed);
}

static void files_of_any_bytes(void **state) {
    (void)state;
    static const dialect dialects[] = {
        {"clip_small", tokenizer_load_clip, {"vocab.json", "merges.txt", NULL}, 700},
        {"clip_small", tokenizer_load_clip, {"merges.txt", "vocab.json", NULL}, 700},
        {"clip_published", tokenizer_load_clip, {"tokenizer_config.json", "vocab.json", "merges.txt"}, 700},
        {"clip_padded", tokenizer_load_clip, {"special_tokens_map.json", "vocab.json", "merges.txt"}, 700},
        {"clip_json", tokenizer_load_clip, {"tokenizer.json"}, 400},
        {"t5_spiece", tokenizer_load_t5, {"spiece.model"}, 3000},
        {"t5_charsmap", tokenizer_load_t5, {"tokenizer.json"}, 400},
        {"t5_extra", tokenizer_load_t5, {"tokenizer_config.json", "tokenizer.json", NULL}, 400},
    };
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++) fuzz(&dialects[i]);
}

/* --- charsmaps --- */

static bool skip_piece(void *context, const char *text, size_t size, float score, spiece_type type, error *e) { return true; }

static bool keep_charsmap(void *context, const void *bytes, size_t size, error *e) {
    buffer_append(context, bytes, size);
    return true;
}

static void charsmaps_of_any_bytes(void **state) {
    (void)state;
    char folder[PATH], path[PATH], prompt[512];
    buffer file = {0}, original = {0}, changed = {0}, out = {0};
    error e = {0};
    data_folder(folder, "t5_spiece");
    join(path, folder, "spiece.model");
    const spiece_visitor visitor = {&original, skip_piece, keep_charsmap};
    if (!file_read(path, 1 << 20, &file, &e) || !spiece_read(file.data, file.size, path, &visitor, &e)) fail_msg("%s", e.text);
    assert_true(original.size > 100);
    uint64_t random = 3;
    int loaded = 0, rounds = 20000;
    for (int i = 0; i < rounds; i++) {
        buffer_clear(&changed);
        buffer_append(&changed, original.data, original.size);
        mutate(&random, &changed);
        charsmap m;
        e = (error){0};
        if (!charsmap_init(&m, changed.data, changed.size, path, &e)) {
            check_complaint(&e);
            continue;
        }
        size_t size = random_prompt(&random, prompt, sizeof prompt);
        buffer_clear(&out);
        assert_true(!utf8_valid(prompt, size, NULL) || charsmap_apply(&m, prompt, size, &out));
        charsmap_free(&m);
        loaded++;
    }
    assert_true(loaded > rounds / 10 && loaded < rounds);
    buffer_free(&file);
    buffer_free(&original);
    buffer_free(&changed);
    buffer_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(prompts_of_any_bytes), cmocka_unit_test(files_of_any_bytes),
                                       cmocka_unit_test(charsmaps_of_any_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
