#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/bench_idle.h"
#include "cli/bench_models.h"
#include "cli/bench_queue.h"
#include "cli/bench_server.h"
#include "cli/bench_submissions.h"
#include "cli/commands.h"
#include "cli/median.h"
#include "cli/options.h"
#include "weights/tensor_store.h"

static void row(const char *what, double value, const char *unit, const char *goal) {
    printf("%-58s %9.3f %-4s %s\n", what, value, unit, goal);
    fflush(stdout);
}

static bool picture(const bench_server *s, int seed, double *seconds, error *e) {
    char body[160];
    buffer answer = {0};
    snprintf(body, sizeof body, "{\"prompt\": \"a raccoon on a purple background\", \"seed\": %d, \"response_format\": \"b64_json\"}",
             seed);
    double start = clock_seconds();
    int status = bench_http(s, "POST", "/v1/images/generations", body, &answer, e);
    *seconds = clock_seconds() - start;
    if (status != 0 && status != 200) error_set(e, ERROR_INTERNAL, "the server answered %d: %.300s", status, buffer_text(&answer));
    buffer_free(&answer);
    return status == 200;
}

/* Start to listening, first picture counted from the start of the server, pictures after it. */
static bool bench_serving(error *e) {
    enum { STARTS = 5, PICTURES = 5 };
    double listen[STARTS], first[STARTS], next[PICTURES];
    for (int i = 0; i < STARTS; i++) {
        bench_server s;
        double seconds;
        if (!bench_server_start(&s, e)) return false;
        listen[i] = s.seconds_to_listen;
        bool ok = picture(&s, 1, &seconds, e);
        first[i] = clock_seconds() - s.started;
        for (int k = 0; ok && i == STARTS - 1 && k < PICTURES; k++) ok = picture(&s, 2 + k, &next[k], e);
        bench_server_stop(&s);
        if (!ok) return false;
    }
    row("server start to listening (median of 5)", median(listen, STARTS), "s", "goal <= 0.1");
    row("server start to first demo picture (median of 5)", median(first, STARTS), "s", "goal <= 1.5");
    row("next demo picture over HTTP (median of 5)", median(next, PICTURES), "s", "goal <= 1.0");
    return true;
}

/* Real pages would only slow the making of the file: mapping reads none of them, whether they hold weights or nothing. */
static bool write_large_component(const char *path, error *e) {
    enum { TENSORS = 650 };
    const long long each = 2LL * 1024 * 1024; /* 1024 × 1024 of bf16 */
    buffer header = {0};
    buffer_append_byte(&header, '{');
    for (int i = 0; i < TENSORS; i++)
        buffer_printf(&header, "%s\"blocks.%d.weight\":{\"dtype\":\"BF16\",\"shape\":[1024,1024],\"data_offsets\":[%lld,%lld]}",
                      i ? "," : "", i, each * i, each * (i + 1));
    buffer_append_byte(&header, '}');
    while (header.size % 8 != 0) buffer_append_byte(&header, ' ');
    uint64_t size = header.size;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && buffer_ok(&header) && write(fd, &size, 8) == 8 && write(fd, header.data, header.size) == (ssize_t)header.size &&
              ftruncate(fd, (off_t)(8 + (long long)header.size + each * TENSORS)) == 0;
    if (!ok) error_system(e, "write", path);
    if (fd >= 0) close(fd);
    buffer_free(&header);
    return ok;
}

static long resident_kb(void) {
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fscanf(f, "%ld %ld", &total, &resident) != 2) resident = 0;
        fclose(f);
    }
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static bool bench_mapping(error *e) {
    enum { RUNS = 5 };
    static const char *const stems[] = {"model", NULL};
    char folder[] = "/tmp/imagined-bench-XXXXXX", path[64];
    double seconds[RUNS];
    long grown = 0;
    if (mkdtemp(folder) == NULL) return error_system(e, "make", folder);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    bool ok = write_large_component(path, e);
    for (int i = 0; ok && i < RUNS; i++) {
        tensor_store *store;
        long before = resident_kb();
        double start = clock_seconds();
        ok = tensor_store_open(folder, stems, &store, e);
        seconds[i] = clock_seconds() - start;
        if (!ok) break;
        grown = resident_kb() - before;
        tensor_store_free(store);
    }
    unlink(path);
    rmdir(folder);
    if (!ok) return false;
    row("mapping a 1.3 GB component (median of 5)", median(seconds, RUNS) * 1000, "ms", "goal <= 50");
    row("main memory that took", (double)grown / 1024, "MB", "no copy of the weights");
    return true;
}

static bool bench_idle(error *e) {
    double seconds;
    if (!bench_idle_engine(&seconds, e)) return false;
    row("idle engine stopped, and back with the demo model", seconds, "s", "goal <= 0.3");
    return true;
}

static bool bench_switching_models(error *e) {
    bench_switching s;
    if (!bench_switch_models(&s, e)) return false;
    row("leasing a cached model (median of 1001)", s.lease * 1000, "ms", "");
    row("switching between two cached models, to the first step", s.switching * 1000, "ms", "goal <= 5");
    return true;
}

/* With few keys a lane holds many tasks; with as many keys as tasks each has its own, which is the worst there is. */
static bool bench_scheduling(error *e) {
    bench_queue usual, worst;
    if (!bench_queue_measure(16, &usual, e) || !bench_queue_measure(10000, &worst, e)) return false;
    row("scheduling decision, 10,000 queued, 16 keys (median)", usual.decision_us, "us", "goal <= 50");
    row("the same with a key for each task", worst.decision_us, "us", "goal <= 50");
    row("changing a task's priority, there and back (median)", usual.change_us, "us", "");
    row("positions and estimates of all 10,000", usual.forecast_ms, "ms", "");
    return true;
}

static bool bench_submissions(error *e) {
    bench_submitting s;
    if (!bench_submit(&s, e)) return false;
    row("durable submissions from 64 clients", s.per_second, "/s", "goal >= 1000");
    row("writing and syncing 4 KiB (median of 31)", s.sync * 1000, "ms", "");
    row("submission to first step, model cached (median of 31)", s.to_first_step * 1000, "ms", "");
    row("of it beyond a sync made just before (median of 31)", s.beyond_sync * 1000, "ms", "goal <= 5");
    return true;
}

static const config_command bench = {
    .name = "bench",
    .bit = FOR_BENCH,
    .summary = "measure this machine with the demo model",
    .details = "Starts servers of its own on free ports, with throw-away state folders, and prints medians beside their goals.",
};

int command_bench(int argc, char **argv) {
    int status;
    config *c = options_load(&bench, argc, argv, &status);
    if (c == NULL) return status;
    config_free(c);
    error e = {0};
    printf("imagined bench: this machine, now; quote medians and ratios\n");
    if (bench_scheduling(&e) && bench_mapping(&e) && bench_switching_models(&e) && bench_submissions(&e) && bench_serving(&e) &&
        bench_idle(&e))
        return 0;
    fprintf(stderr, "imagined bench: %s\n", e.text);
    return 1;
}
