#include "server/resources/machine_figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/machine.h"
#include "engine/process_time.h"
#include "server/resources/nvml.h"

/* Reading smaps_rollup walks the page tables of all that the process has mapped, which for tens of gigabytes takes a while: it may take
 * this part of the front's time at most, and figures so old are good enough then. */
enum { ROLLUP_SHARE = 50 };
static const double rollup_seconds = 0.1; /* the youngest that is read again */

struct machine_figures {
    nvml *nvml;
    bool looked; /* for NVML */
    struct {
        pid_t pid;
        double read_at, took; /* clock_seconds */
        uint64_t proportional, private_dirty;
    } rollup;
};

bool machine_figures_new(machine_figures **out, error *e) {
    machine_figures *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "the machine's figures", sizeof *m);
    *out = m;
    return true;
}

void machine_figures_free(machine_figures *m) {
    if (m == NULL) return;
    nvml_close(m->nvml);
    free(m);
}

void machine_figures_main_memory(device_figures *out) {
    size_t free_bytes, total_bytes;
    machine_memory(&free_bytes, &total_bytes);
    *out = (device_figures){.total = total_bytes, .free = free_bytes, .source = "cgroup"};
}

/* --- GPUs --- */

/* Looked for once, when somebody asks for a GPU first: where there is none, nothing is loaded. */
static nvml *look_for_nvml(machine_figures *m) {
    error why = {0};
    if (!m->looked && !nvml_open(&m->nvml, &why)) log_line(LOG_INFO, "%s: a GPU's memory is known from the engine alone", why.text);
    m->looked = true;
    return m->nvml;
}

bool machine_figures_gpu_at(machine_figures *m, int index, device_figures *out) {
    nvml *n = look_for_nvml(m);
    nvml_figures f;
    if (n == NULL || index >= nvml_count(n) || !nvml_read(n, index, &f)) return false;
    *out = (device_figures){.total = f.total, .free = f.free, .index = index, .source = "nvml"};
    snprintf(out->name, sizeof out->name, "%s", f.name);
    return true;
}

bool machine_figures_gpu(machine_figures *m, const char *name, device_figures *out) {
    nvml *n = look_for_nvml(m);
    return n != NULL && machine_figures_gpu_at(m, nvml_find(n, name, getenv("CUDA_VISIBLE_DEVICES")), out);
}

/* --- processes --- */

static bool read_proc(pid_t pid, const char *file, char *text, size_t capacity) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, file);
    return machine_read(path, text, capacity);
}

/* Bytes of a line like "VmRSS:    1234 kB"; 0 when there is none. */
static uint64_t line_bytes(const char *text, const char *key) {
    unsigned long long kib = 0;
    machine_number(text, key, &kib);
    return (uint64_t)kib * 1024;
}

/* A process that waits in the kernel may hold the lock of its mappings, for which whoever reads this file waits as long: its old figures
 * must do. Its state is that of its first thread; that another one waits so shows as stillness. */
static void read_rollup(machine_figures *m, pid_t pid, bool still) {
    double now = clock_seconds(), age = now - m->rollup.read_at;
    bool same = m->rollup.pid == pid, young = same && (age < rollup_seconds || age < m->rollup.took * ROLLUP_SHARE);
    char text[4096];
    process_time t;
    if (young) return;
    if (!same) m->rollup.proportional = m->rollup.private_dirty = 0;
    if (still || (process_time_read(pid, &t) && t.state == 'D')) return;
    m->rollup.proportional = m->rollup.private_dirty = 0;
    if (read_proc(pid, "smaps_rollup", text, sizeof text)) {
        m->rollup.proportional = line_bytes(text, "Pss:");
        m->rollup.private_dirty = line_bytes(text, "Private_Dirty:");
    }
    m->rollup.pid = pid;
    m->rollup.read_at = clock_seconds();
    m->rollup.took = m->rollup.read_at - now;
}

bool machine_figures_process(machine_figures *m, pid_t pid, bool still, process_figures *out) {
    char text[4096];
    *out = (process_figures){0};
    if (pid <= 0 || !read_proc(pid, "status", text, sizeof text)) return false;
    read_rollup(m, pid, still);
    *out = (process_figures){.resident = line_bytes(text, "VmRSS:"),
                             .anonymous = line_bytes(text, "RssAnon:"),
                             .file = line_bytes(text, "RssFile:"),
                             .peak = line_bytes(text, "VmHWM:"),
                             .swapped = line_bytes(text, "VmSwap:"),
                             .proportional = m->rollup.proportional,
                             .private_dirty = m->rollup.private_dirty};
    return true;
}
