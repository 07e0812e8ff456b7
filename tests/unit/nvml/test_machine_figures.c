/* What the front reads of the machine: GPUs through NVML, here a library of our own; main memory and processes against /proc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/process_time.h"
#include "server/resources/machine_figures.h"
#include "server/resources/nvml.h"

static char file[64];

static void devices(const char *text) {
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    setenv("FAKE_NVML", file, 1);
}

static int set_up(void **state) {
    (void)state;
    strcpy(file, "/tmp/imagined-nvml-XXXXXX");
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state) {
    (void)state;
    return unlink(file);
}

static nvml *open_nvml(void) {
    nvml *n;
    error e;
    if (!nvml_open(&n, &e)) fail_msg("%s", e.text);
    return n;
}

static void without_a_driver(void **state) {
    (void)state;
    unsetenv("FAKE_NVML");
    nvml *n = NULL;
    error e;
    assert_false(nvml_open(&n, &e));
    assert_int_equal(e.code, ERROR_UNSUPPORTED);
    machine_figures *m;
    device_figures f;
    assert_true(machine_figures_new(&m, &e));
    assert_false(machine_figures_gpu(m, "NVIDIA H200", &f));
    assert_false(machine_figures_gpu_at(m, 0, &f));
    machine_figures_free(m);
}

static void figures_are_those_of_now(void **state) {
    (void)state;
    devices("GPU-a|NVIDIA A|1000|400\nGPU-b|NVIDIA B|2000|2000\n");
    nvml *n = open_nvml();
    nvml_figures f;
    assert_int_equal(nvml_count(n), 2);
    assert_true(nvml_read(n, 0, &f));
    assert_string_equal(f.name, "NVIDIA A");
    assert_int_equal(f.total, 1000);
    assert_int_equal(f.free, 400);
    devices("GPU-a|NVIDIA A|1000|300\n");
    assert_true(nvml_read(n, 0, &f));
    assert_int_equal(f.free, 300);
    assert_false(nvml_read(n, 1, &f)); /* it fell off the bus */
    assert_false(nvml_read(n, -1, &f));
    devices("GPU-a|NVIDIA A|1000|5000\n"); /* never more free than there is */
    assert_true(nvml_read(n, 0, &f));
    assert_int_equal(f.free, 1000);
    nvml_close(n);
}

static void a_device_is_found_by_its_name(void **state) {
    (void)state;
    devices("GPU-a|NVIDIA A|1000|400\nGPU-b|NVIDIA B|2000|2000\nGPU-c|NVIDIA B|3000|3000\n");
    nvml *n = open_nvml();
    static const struct {
        const char *name, *visible;
        int index;
    } cases[] = {
        {"NVIDIA A", NULL, 0},  {"NVIDIA B", NULL, 1}, {"NVIDIA B", "2", 2}, {"NVIDIA B", "2,1", 2},     {"NVIDIA B", "GPU-c", 2},
        {"NVIDIA B", "0", 1},   {"NVIDIA B", "", 1},   {"NVIDIA B", "9", 1}, {"NVIDIA B", "GPU-x,2", 1}, {"NVIDIA B", "99999999999", 1},
        {"NVIDIA C", NULL, -1}, {"NVIDIA C", "1", -1}, {"", NULL, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(nvml_find(n, cases[i].name, cases[i].visible), cases[i].index);
    nvml_close(n);
    error e;
    machine_figures *m;
    device_figures f;
    assert_true(machine_figures_new(&m, &e));
    setenv("CUDA_VISIBLE_DEVICES", "GPU-c", 1);
    assert_true(machine_figures_gpu(m, "NVIDIA B", &f));
    assert_int_equal(f.total, 3000);
    assert_int_equal(f.index, 2);
    assert_string_equal(f.source, "nvml");
    unsetenv("CUDA_VISIBLE_DEVICES");
    assert_false(machine_figures_gpu_at(m, 3, &f));
    machine_figures_free(m);
}

static unsigned long long meminfo(const char *key) {
    FILE *f = fopen("/proc/meminfo", "r");
    char line[128];
    unsigned long long kb = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) kb = strtoull(line + strlen(key), NULL, 10);
    fclose(f);
    return kb * 1024;
}

static void main_memory_is_at_most_the_machines(void **state) {
    (void)state;
    device_figures f;
    machine_figures_main_memory(&f);
    assert_true(f.total > 0 && f.total <= meminfo("MemTotal:"));
    assert_true(f.free > 0 && f.free <= f.total);
}

/* A child that takes 64 MiB and then ends. */
static void a_process(void **state) {
    (void)state;
    enum { SIZE = 64 << 20 };
    int ready[2], over[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(over), 0);
    pid_t child = fork();
    if (child == 0) {
        char *taken = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(taken, 1, SIZE);
        if (write(ready[1], &byte, 1) != 1 || read(over[0], &byte, 1) != 1) _exit(1);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    machine_figures *m;
    process_figures p;
    error e;
    assert_true(machine_figures_new(&m, &e));
    assert_true(machine_figures_process(m, child, true, &p)); /* it may wait somewhere: its page tables are not asked for */
    assert_true(p.resident >= SIZE && p.private_dirty == 0 && p.proportional == 0);
    assert_true(machine_figures_process(m, child, false, &p));
    assert_true(p.resident >= SIZE && p.anonymous >= SIZE && p.peak >= p.resident);
    assert_true(p.private_dirty >= SIZE && p.proportional >= SIZE);
    assert_true(p.resident >= p.anonymous + p.file);
    assert_int_equal(write(over[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_false(machine_figures_process(m, child, false, &p));
    assert_int_equal(p.resident, 0);
    assert_false(machine_figures_process(m, 0, false, &p));
    machine_figures_free(m);
    for (int i = 0; i < 2; i++) close(ready[i]), close(over[i]);
}

/* One that waits in the kernel: who asked for its page tables might wait as well. A parent of vfork waits so. */
static void a_process_that_waits_in_the_kernel(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        if (vfork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;) pause();
        }
        _exit(0);
    }
    process_time t = {0};
    for (int i = 0; i < 1000 && t.state != 'D'; i++) {
        usleep(10000);
        assert_true(process_time_read(child, &t));
    }
    machine_figures *m;
    process_figures p;
    error e;
    assert_int_equal(t.state, 'D');
    assert_true(machine_figures_new(&m, &e));
    assert_true(machine_figures_process(m, child, false, &p));
    assert_true(p.resident > 0);
    assert_int_equal(p.proportional, 0);
    machine_figures_free(m);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_driver),          cmocka_unit_test(figures_are_those_of_now),
        cmocka_unit_test(a_device_is_found_by_its_name), cmocka_unit_test(main_memory_is_at_most_the_machines),
        cmocka_unit_test(a_process),                  cmocka_unit_test(a_process_that_waits_in_the_kernel),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
