#include "engine/process_memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/machine.h"

uint64_t process_memory_resident(void) {
    char text[128];
    unsigned long long total, resident;
    if (!machine_read("/proc/self/statm", text, sizeof text) || sscanf(text, "%llu %llu", &total, &resident) != 2) return 0;
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t process_memory_peak(void) {
    char text[4096];
    unsigned long long kib = 0;
    if (machine_read("/proc/self/status", text, sizeof text)) machine_number(text, "VmHWM:", &kib);
    return (uint64_t)kib * 1024;
}

bool process_memory_reset_peak(void) {
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = write(fd, "5", 1) == 1;
    close(fd);
    return ok;
}
