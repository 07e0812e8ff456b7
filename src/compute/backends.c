#include "compute/backends.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/log.h"
#include "build_config.h"

#define PREFIX "libggml-"
#define CPU_PREFIX PREFIX "cpu"

static const char *folder(void) {
    const char *asked = getenv("IMAGINED_GGML_BACKENDS");
    return asked != NULL && asked[0] != '\0' ? asked : IMAGINED_GGML_BACKENDS;
}

static void to_log(enum ggml_log_level level, const char *text, void *context) {
    (void)level, (void)context; /* a backend that finds no device of its kind calls it an error: here it is none */
    size_t length = strcspn(text, "\n");
    if (length > 0) log_line(LOG_DEBUG, "ggml: %.*s", (int)length, text);
}

static bool is_library(const char *name, const char *prefix) {
    size_t length = strlen(name);
    return strncmp(name, prefix, strlen(prefix)) == 0 && length > 3 && strcmp(name + length - 3, ".so") == 0;
}

/* How well a variant of the CPU backend suits this machine: 0 is not at all. Each variant says so itself, by ggml's convention for backends
 * that come in variants; a library without that function is the only one there is. */
static int suits(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return 0;
    int (*score)(void) = NULL;
    *(void **)&score = dlsym(library, "ggml_backend_score");
    int result = score != NULL ? score() : 1;
    dlclose(library);
    return result;
}

static ggml_backend_reg_t load_best_cpu(void) {
    char best[PATH_MAX] = "", path[PATH_MAX];
    int best_score = 0;
    DIR *d = opendir(folder());
    if (d == NULL) return NULL;
    for (struct dirent *entry = readdir(d); entry != NULL; entry = readdir(d)) {
        if (!is_library(entry->d_name, CPU_PREFIX) || (size_t)snprintf(path, sizeof path, "%s/%s", folder(), entry->d_name) >= sizeof path)
            continue;
        int score = suits(path);
        if (score > best_score) {
            best_score = score;
            strcpy(best, path);
        }
    }
    closedir(d);
    return best_score > 0 ? ggml_backend_load(best) : NULL;
}

ggml_backend_dev_t backends_cpu(void) {
    ggml_log_set(to_log, NULL);
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("CPU");
    if (reg == NULL) reg = load_best_cpu();
    return reg != NULL && ggml_backend_reg_dev_count(reg) > 0 ? ggml_backend_reg_dev_get(reg, 0) : NULL;
}

static ggml_backend_reg_t loaded(const char *kind) {
    for (size_t i = 0; i < ggml_backend_reg_count(); i++)
        if (strcasecmp(ggml_backend_reg_name(ggml_backend_reg_get(i)), kind) == 0) return ggml_backend_reg_get(i);
    return NULL;
}

bool backends_load(const char *kind) {
    char path[PATH_MAX];
    ggml_log_set(to_log, NULL);
    ggml_backend_reg_t reg = loaded(kind);
    if (reg == NULL && strchr(kind, '/') == NULL &&
        (size_t)snprintf(path, sizeof path, "%s/" PREFIX "%s.so", folder(), kind) < sizeof path && access(path, R_OK) == 0)
        reg = ggml_backend_load(path);
    return reg != NULL && ggml_backend_reg_dev_count(reg) > 0;
}

void backends_load_all(void) {
    DIR *d = opendir(folder());
    if (d == NULL) return;
    for (struct dirent *entry = readdir(d); entry != NULL; entry = readdir(d)) {
        if (!is_library(entry->d_name, PREFIX) || is_library(entry->d_name, CPU_PREFIX)) continue;
        char kind[NAME_MAX + 1];
        snprintf(kind, sizeof kind, "%.*s", (int)(strlen(entry->d_name) - strlen(PREFIX) - strlen(".so")), entry->d_name + strlen(PREFIX));
        /* These are no devices of their own: helpers of the CPU, and other machines. */
        if (strcmp(kind, "blas") != 0 && strcmp(kind, "rpc") != 0) backends_load(kind);
    }
    closedir(d);
}
