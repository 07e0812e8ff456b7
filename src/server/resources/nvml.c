#include "server/resources/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As nvml.h has them. A call that answers 0 succeeded. */
typedef struct nvml_device *device_handle;
typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

enum { MAX_DEVICES = 64 };

struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*get_count)(unsigned *count);
    int (*by_index)(unsigned index, device_handle *out);
    int (*by_uuid)(const char *uuid, device_handle *out); /* NULL: the library lacks it */
    int (*memory)(device_handle device, nvml_memory *out);
    int (*name)(device_handle device, char *out, unsigned capacity); /* NULL: the library lacks it */
    int (*index)(device_handle device, unsigned *out);               /* NULL: the library lacks it */
    bool initialised;
    int count;
};

/* Object and function pointers have one size here, as POSIX asks. */
static bool find(const nvml *n, const char *symbol, void *function) {
    void *found = dlsym(n->library, symbol);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static bool find_calls(nvml *n) {
    find(n, "nvmlDeviceGetHandleByUUID", &n->by_uuid);
    find(n, "nvmlDeviceGetName", &n->name);
    find(n, "nvmlDeviceGetIndex", &n->index);
    return find(n, "nvmlInit_v2", &n->init) && find(n, "nvmlShutdown", &n->shutdown) &&
           find(n, "nvmlDeviceGetCount_v2", &n->get_count) && find(n, "nvmlDeviceGetHandleByIndex_v2", &n->by_index) &&
           find(n, "nvmlDeviceGetMemoryInfo", &n->memory);
}

static bool start(nvml *n, error *e) {
    unsigned count = 0;
    int status = n->init();
    if (status != 0) return error_set(e, ERROR_UNSUPPORTED, "NVML cannot be used: its start gives %d", status);
    n->initialised = true;
    status = n->get_count(&count);
    if (status != 0) return error_set(e, ERROR_UNSUPPORTED, "NVML cannot be used: counting devices gives %d", status);
    n->count = count < MAX_DEVICES ? (int)count : MAX_DEVICES;
    return true;
}

bool nvml_open(nvml **out, error *e) {
    nvml *n = calloc(1, sizeof *n);
    if (n == NULL) return error_no_memory(e, "NVML", sizeof *n);
    n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool ok = n->library != NULL || error_set(e, ERROR_UNSUPPORTED, "NVML is not installed");
    ok = ok && (find_calls(n) || error_set(e, ERROR_UNSUPPORTED, "NVML cannot be used: calls are missing in it")) && start(n, e);
    if (!ok) {
        nvml_close(n);
        return false;
    }
    *out = n;
    return true;
}

void nvml_close(nvml *n) {
    if (n == NULL) return;
    if (n->initialised) n->shutdown();
    if (n->library != NULL) dlclose(n->library);
    free(n);
}

int nvml_count(const nvml *n) { return n->count; }

bool nvml_read(nvml *n, int index, nvml_figures *out) {
    device_handle device;
    nvml_memory memory = {0};
    *out = (nvml_figures){0};
    if (index < 0 || n->by_index((unsigned)index, &device) != 0 || n->memory(device, &memory) != 0) return false;
    out->total = memory.total;
    out->free = memory.free < memory.total ? memory.free : memory.total;
    if (n->name == NULL || n->name(device, out->name, sizeof out->name) != 0) out->name[0] = '\0';
    out->name[sizeof out->name - 1] = '\0';
    return true;
}

/* The device that the first word of CUDA_VISIBLE_DEVICES means; −1: it means none. */
static int find_visible(nvml *n, const char *visible) {
    char word[96];
    device_handle device;
    unsigned index;
    size_t size = visible != NULL ? strcspn(visible, ",") : 0;
    if (size == 0 || size >= sizeof word) return -1;
    memcpy(word, visible, size);
    word[size] = '\0';
    if (strspn(word, "0123456789") == size && size < 4) return atoi(word) < n->count ? atoi(word) : -1;
    if (n->by_uuid == NULL || n->index == NULL || n->by_uuid(word, &device) != 0 || n->index(device, &index) != 0) return -1;
    return (int)index < n->count ? (int)index : -1;
}

static bool is_called(nvml *n, int index, const char *name) {
    nvml_figures f;
    return nvml_read(n, index, &f) && strcmp(f.name, name) == 0;
}

int nvml_find(nvml *n, const char *name, const char *visible) {
    int wanted = find_visible(n, visible);
    if (wanted >= 0 && is_called(n, wanted, name)) return wanted;
    for (int i = 0; i < n->count; i++)
        if (is_called(n, i, name)) return i;
    return -1;
}
