#include "base/machine.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

bool machine_read(const char *path, char *text, size_t capacity) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, text + size, capacity - 1 - size)) > 0) size += (size_t)n;
    close(fd);
    text[size] = '\0';
    return size > 0;
}

bool machine_number(const char *text, const char *key, unsigned long long *value) {
    size_t length = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, length) == 0) return sscanf(line + length, "%llu", value) == 1;
    }
    return false;
}

/* The path of our group below `controller` ("" is the unified hierarchy): "/user.slice/…", "/" at a container's root. */
static bool group_path(const char *controller, char *path, size_t capacity) {
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL) return false;
    char line[PATH_MAX];
    bool found = false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        char *names = strchr(line, ':'), *place = names != NULL ? strchr(names + 1, ':') : NULL;
        if (place == NULL) continue;
        *place++ = '\0';
        place[strcspn(place, "\n")] = '\0';
        char *rest = names + 1;
        for (char *name = strsep(&rest, ","); name != NULL && !found; name = strsep(&rest, ",")) found = strcmp(name, controller) == 0;
        if (found && (size_t)snprintf(path, capacity, "%s", place) >= capacity) found = false;
    }
    fclose(f);
    return found;
}

typedef struct group_walk {
    char base[64];
    char path[PATH_MAX];
    bool done;
} group_walk;

/* Our group and all above it: a limit on any of them counts. */
static group_walk walk_from(const char *controller, const char *base) {
    group_walk w = {0};
    snprintf(w.base, sizeof w.base, "%s", base);
    w.done = !group_path(controller, w.path, sizeof w.path);
    return w;
}

static bool walk_file(const group_walk *w, const char *file, char *text, size_t capacity) {
    char path[PATH_MAX + 128];
    snprintf(path, sizeof path, "%s%s/%s", w->base, strcmp(w->path, "/") == 0 ? "" : w->path, file);
    return machine_read(path, text, capacity);
}

static void walk_up(group_walk *w) {
    char *slash = strrchr(w->path, '/');
    if (slash == NULL || strcmp(w->path, "/") == 0) w->done = true;
    else if (slash == w->path) slash[1] = '\0';
    else *slash = '\0';
}

static void bound_by_quota(double *cores) {
    char text[128];
    for (group_walk w = walk_from("", CGROUP_ROOT); !w.done; walk_up(&w)) {
        double quota, period;
        if (walk_file(&w, "cpu.max", text, sizeof text) && sscanf(text, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0 &&
            quota / period < *cores)
            *cores = quota / period;
    }
    for (group_walk w = walk_from("cpu", CGROUP_ROOT "/cpu"); !w.done; walk_up(&w)) {
        char period_text[128];
        if (!walk_file(&w, "cpu.cfs_quota_us", text, sizeof text) || !walk_file(&w, "cpu.cfs_period_us", period_text, sizeof period_text))
            continue;
        double quota = atof(text), period = atof(period_text);
        if (quota > 0 && period > 0 && quota / period < *cores) *cores = quota / period;
    }
}

int machine_cores(void) {
    cpu_set_t set;
    int count = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) count = CPU_COUNT(&set);
    double cores = count;
    bound_by_quota(&cores);
    int whole = (int)cores;
    if (cores > whole) whole++;
    return whole < 1 ? 1 : whole;
}

/* Takes one group's limit and use into account. What it holds as page cache can be dropped, so it counts as free. */
static void bound_by_group(const group_walk *w, const char *limit_file, const char *use_file, const char *cache_prefix, size_t *free_bytes,
                           size_t *total_bytes) {
    char text[16384], key[64];
    unsigned long long limit, used = 0, part;
    if (!walk_file(w, limit_file, text, sizeof text) || sscanf(text, "%llu", &limit) != 1) return;
    if (limit < *total_bytes) *total_bytes = (size_t)limit;
    if (!walk_file(w, use_file, text, sizeof text) || sscanf(text, "%llu", &used) != 1) return;
    unsigned long long cache = 0;
    if (walk_file(w, "memory.stat", text, sizeof text)) {
        snprintf(key, sizeof key, "%sinactive_file ", cache_prefix);
        if (machine_number(text, key, &part)) cache += part;
        snprintf(key, sizeof key, "%sactive_file ", cache_prefix);
        if (machine_number(text, key, &part)) cache += part;
    }
    used = used > cache ? used - cache : 0;
    unsigned long long left = limit > used ? limit - used : 0;
    if (left < *free_bytes) *free_bytes = (size_t)left;
}

void machine_memory(size_t *free_bytes, size_t *total_bytes) {
    char text[4096];
    unsigned long long total = 0, available = 0;
    if (machine_read("/proc/meminfo", text, sizeof text)) {
        machine_number(text, "MemTotal:", &total);
        machine_number(text, "MemAvailable:", &available);
    }
    *total_bytes = (size_t)total * 1024;
    *free_bytes = (size_t)available * 1024;
    for (group_walk w = walk_from("", CGROUP_ROOT); !w.done; walk_up(&w))
        bound_by_group(&w, "memory.max", "memory.current", "", free_bytes, total_bytes);
    for (group_walk w = walk_from("memory", CGROUP_ROOT "/memory"); !w.done; walk_up(&w))
        bound_by_group(&w, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_", free_bytes, total_bytes);
    if (*free_bytes > *total_bytes) *free_bytes = *total_bytes;
}
