/* In place of NVIDIA's library: tells what the file named by FAKE_NVML says, a device a line: UUID|NAME|TOTAL|FREE. Read at each call, so
 * that a test can change it. Without FAKE_NVML it behaves like a machine without a driver. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, MAX_LINES = 8, GPU_IS_LOST = 15 };

typedef struct fake_device {
    char uuid[64], name[96];
    unsigned long long total, free;
} fake_device;

typedef struct memory {
    unsigned long long total, free, used;
} memory;

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out);
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out);
int nvmlDeviceGetMemoryInfo(void *device, memory *out);
int nvmlDeviceGetName(void *device, char *out, unsigned capacity);
int nvmlDeviceGetIndex(void *device, unsigned *out);

static int read_devices(fake_device devices[MAX_LINES]) {
    const char *path = getenv("FAKE_NVML");
    FILE *f = path != NULL ? fopen(path, "r") : NULL;
    int count = 0;
    if (f == NULL) return -1;
    while (count < MAX_LINES && fscanf(f, " %63[^|]|%95[^|]|%llu|%llu", devices[count].uuid, devices[count].name, &devices[count].total,
                                       &devices[count].free) == 4)
        count++;
    fclose(f);
    return count;
}

/* A handle is the device's index and one. */
static int find(void *device, fake_device *out) {
    fake_device devices[MAX_LINES];
    int count = read_devices(devices);
    size_t index = (size_t)device - 1;
    if (count < 0 || index >= (size_t)count) return GPU_IS_LOST;
    *out = devices[index];
    return SUCCESS;
}

int nvmlInit_v2(void) {
    fake_device devices[MAX_LINES];
    return read_devices(devices) < 0 ? DRIVER_NOT_LOADED : SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    fake_device devices[MAX_LINES];
    *count = (unsigned)read_devices(devices);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    fake_device device;
    *out = (void *)((size_t)index + 1);
    return find(*out, &device) == SUCCESS ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    fake_device devices[MAX_LINES];
    int count = read_devices(devices);
    for (int i = 0; i < count; i++) {
        if (strcmp(devices[i].uuid, uuid) != 0) continue;
        *out = (void *)((size_t)i + 1);
        return SUCCESS;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *out) {
    fake_device found;
    int status = find(device, &found);
    if (status == SUCCESS) *out = (memory){found.total, found.free, found.total - found.free};
    return status;
}

int nvmlDeviceGetName(void *device, char *out, unsigned capacity) {
    fake_device found;
    int status = find(device, &found);
    if (status == SUCCESS) snprintf(out, capacity, "%s", found.name);
    return status;
}

int nvmlDeviceGetIndex(void *device, unsigned *out) {
    *out = (unsigned)((size_t)device - 1);
    return SUCCESS;
}
