/* Small safetensors files for tests, written by hand so that they can also lie. */
#ifndef IMAGINED_TESTS_SAFETENSORS_FILE_H
#define IMAGINED_TESTS_SAFETENSORS_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fresh empty folder in `folder` (at least 64 bytes). */
static inline void make_folder(char *folder) {
    const char *memory = "/dev/shm"; /* thousands of small files: a disk would make it minutes */
    snprintf(folder, 64, "%s/imagined-XXXXXX", access(memory, W_OK) == 0 ? memory : "/tmp");
    if (mkdtemp(folder) == NULL) abort();
}

static inline void write_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) abort();
}

static inline void remove_file(const char *folder, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    remove(path);
}

/* Header and data as one file image; the caller frees it. */
static inline unsigned char *safetensors_image(const char *header, const void *data, size_t data_size, size_t *size) {
    uint64_t length = strlen(header);
    *size = 8 + length + data_size;
    unsigned char *image = malloc(*size);
    if (image == NULL) abort();
    memcpy(image, &length, 8);
    memcpy(image + 8, header, length);
    if (data_size > 0) memcpy(image + 8 + length, data, data_size);
    return image;
}

static inline void write_safetensors(const char *folder, const char *name, const char *header, const void *data, size_t data_size) {
    size_t size;
    unsigned char *image = safetensors_image(header, data, data_size, &size);
    write_file(folder, name, image, size);
    free(image);
}

#endif
