#include "model_copies.h"

#include <ftw.h>
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

void copies_make_folder(char folder[COPY_PATH_BYTES]) {
    snprintf(folder, COPY_PATH_BYTES, "/tmp/imagined-models-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

void copies_remove_folder(const char *folder) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void copy_file(const char *from, const char *to) {
    buffer bytes = {0};
    error e = {0};
    if (!file_read(from, 1 << 30, &bytes, &e) || !file_replace(to, bytes.data, bytes.size, &e)) fail_msg("%s", e.text);
    buffer_free(&bytes);
}

static const struct {
    const char *part, *name;
} files[] = {
    {"", "imagined.json"},
    {"", "model_index.json"},
    {"scheduler", "scheduler_config.json"},
    {"tokenizer", "merges.txt"},
    {"tokenizer", "special_tokens_map.json"},
    {"tokenizer", "tokenizer_config.json"},
    {"tokenizer", "vocab.json"},
    {"tokenizer_2", "special_tokens_map.json"},
    {"tokenizer_2", "spiece.model"},
    {"tokenizer_2", "tokenizer.json"},
    {"tokenizer_2", "tokenizer_config.json"},
    {"text_encoder", "config.json"},
    {"text_encoder", "model.safetensors"},
    {"text_encoder_2", "config.json"},
    {"text_encoder_2", "model.safetensors"},
    {"transformer", "config.json"},
    {"transformer", "diffusion_pytorch_model.safetensors"},
    {"vae", "config.json"},
    {"vae", "diffusion_pytorch_model.safetensors"},
};

/* Whether `name` stands in the list "a,b,c". */
static int listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; n > 0 && (at = strstr(at, name)) != NULL; at += n)
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0')) return 1;
    return 0;
}

void copies_make_model(const char *parent, const char *name, const char *linked, copy_way way, char folder[COPY_PATH_BYTES]) {
    const char *source = getenv("IMAGINED_SOURCE");
    assert_non_null(source);
    char to[COPY_PATH_BYTES + 96], from[COPY_PATH_BYTES + 96];
    snprintf(folder, COPY_PATH_BYTES, "%s/%s", parent, name);
    mkdir(folder, 0700);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(to, sizeof to, "%s/%s", folder, files[i].part);
        mkdir(to, 0700);
        snprintf(from, sizeof from, "%s/demo/model/%s/%s", source, files[i].part, files[i].name);
        snprintf(to, sizeof to, "%s/%s/%s", folder, files[i].part, files[i].name);
        int is_weights = strstr(files[i].name, ".safetensors") != NULL;
        if (!is_weights || !listed(linked, files[i].part) || way == BY_COPY) {
            copy_file(from, to);
        } else if (way == BY_SYMLINK) {
            assert_int_equal(symlink(from, to), 0);
        } else { /* the demo may lie on another file system: link the first copy made here */
            char first[COPY_PATH_BYTES + 96];
            snprintf(first, sizeof first, "%s/shared-%s.safetensors", parent, files[i].part);
            if (access(first, F_OK) != 0) copy_file(from, first);
            assert_int_equal(link(first, to), 0);
        }
    }
}

void copies_write(const char *folder, const char *name, const char *text) {
    char path[COPY_PATH_BYTES + 96];
    error e = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!file_replace(path, text, strlen(text), &e)) fail_msg("%s", e.text);
}

void copies_replace(const char *folder, const char *name) {
    char path[COPY_PATH_BYTES + 96];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    copy_file(path, path);
}
