#include "engine/process_memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_small_file(const char *path, char *text, size_t capacity) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, capacity - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = '\0';
    return true;
}

uint64_t process_memory_resident(void) {
    char text[128];
    unsigned long long total, resident;
    if (!read_small_file("/proc/self/statm", text, sizeof text) || sscanf(text, "%llu %llu", &total, &resident) != 2) return 0;
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t process_memory_peak(void) {
    char text[4096];
    if (!read_small_file("/proc/self/status", text, sizeof text)) return 0;
    const char *line = strstr(text, "\nVmHWM:");
    return line == NULL ? 0 : strtoull(line + strlen("\nVmHWM:"), NULL, 10) * 1024;
}

bool process_memory_reset_peak(void) {
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = write(fd, "5", 1) == 1;
    close(fd);
    return ok;
}
