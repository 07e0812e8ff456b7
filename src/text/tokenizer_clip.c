/* Loading CLIP's tokenizer: vocab.json and merges.txt, or tokenizer.json alone. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/tokenizer_parts.h"

enum { FILE_CAP = 64 * 1024 * 1024, PATH_BYTES = 4096 };

static bool load_pair(const char *vocab, const char *merges, tokenizer *t, error *e) {
    json_document d;
    buffer text = {0};
    bool ok = json_load(vocab, FILE_CAP, &d, e) && bpe_init(&t->bpe, json_root(&d), e) && file_read(merges, FILE_CAP, &text, e) &&
              bpe_add_merges_text(&t->bpe, buffer_text(&text), text.size, merges, e);
    json_document_free(&d);
    buffer_free(&text);
    return ok;
}

static bool load_model(json root, tokenizer *t, error *e) {
    json model = {0}, vocab = {0}, merges = {0};
    return json_require(root, "model", e) && json_object(root, "model", &model, e) && json_require(model, "vocab", e) &&
           json_object(model, "vocab", &vocab, e) && json_require(model, "merges", e) && json_array(model, "merges", &merges, e) &&
           bpe_init(&t->bpe, vocab, e) && bpe_add_merges_json(&t->bpe, merges, e);
}

static bool find_special(const tokenizer_settings *s, const char *folder, const char *name, const char *fallback, const tokenizer *t,
                         int32_t *id, error *e) {
    token_description d;
    tokenizer_settings_special(s, name, fallback, &d);
    *id = vocabulary_find(&t->bpe.pieces, d.text, d.size);
    return *id >= 0 || error_set(e, ERROR_BAD_FILE, "%s: the vocabulary lacks the %s '%.64s'", folder, name, d.text);
}

static bool load(const char *folder, tokenizer *t, tokenizer_settings *s, json_document *d, error *e) {
    char vocab[PATH_BYTES], merges[PATH_BYTES], whole[PATH_BYTES];
    if (!tokenizer_settings_load(folder, s, e) || !file_join(vocab, sizeof vocab, folder, "vocab.json", e) ||
        !file_join(merges, sizeof merges, folder, "merges.txt", e) || !file_join(whole, sizeof whole, folder, "tokenizer.json", e))
        return false;
    json added = {0};
    if (file_exists(whole)) {
        if (!json_load(whole, FILE_CAP, d, e) || !load_model(json_root(d), t, e) || !json_array(json_root(d), "added_tokens", &added, e))
            return false;
    } else {
        if (!file_exists(vocab))
            return error_set(e, ERROR_NOT_FOUND, "%s holds no tokenizer: it needs tokenizer.json, or vocab.json and merges.txt", folder);
        if (!load_pair(vocab, merges, t, e)) return false;
    }
    t->vocabulary = t->bpe.pieces.ids;
    t->max_length = tokenizer_settings_max_length(s);
    const token_fallbacks f = {"<|startoftext|>", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"};
    return find_special(s, folder, "bos_token", f.start, t, &t->start, e) && find_special(s, folder, "eos_token", f.end, t, &t->end, e) &&
           find_special(s, folder, "pad_token", f.pad, t, &t->pad, e) &&
           find_special(s, folder, "unk_token", f.unknown, t, &t->bpe.unknown, e) && tokenizer_add_tokens(t, s, added, &f, 0, e);
}

bool tokenizer_load_clip(const char *folder, tokenizer **out, error *e) {
    tokenizer_settings s = {0};
    json_document d = {0};
    tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a tokenizer", sizeof *t);
    t->kind = TOKENIZER_CLIP;
    bool ok = load(folder, t, &s, &d, e);
    tokenizer_settings_free(&s);
    json_document_free(&d);
    if (ok) *out = t;
    else tokenizer_free(t);
    return ok;
}
