#include "cli/bench_idle.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/bench_server.h"
#include "cli/median.h"

enum { RUNS = 3, STOP_SECONDS = 20 };

static bool wait_for_stop(const bench_server *s, error *e) {
    double deadline = clock_seconds() + STOP_SECONDS;
    while (clock_seconds() < deadline) {
        buffer answer = {0};
        int status = bench_http(s, "GET", "/health", "", &answer, e);
        bool stopped = status == 200 && strstr(buffer_text(&answer), "\"engine\":\"stopped\"") != NULL;
        buffer_free(&answer);
        if (stopped || status == 0) return stopped;
        usleep(20 * 1000);
    }
    return error_set(e, ERROR_INTERNAL, "the idle engine was not stopped in %d s", STOP_SECONDS);
}

static bool load(const bench_server *s, double *seconds, error *e) {
    double start = clock_seconds();
    int status = bench_http(s, "POST", "/api/system/models/demo/load", "", NULL, e);
    *seconds = clock_seconds() - start;
    return status == 200 || (status != 0 && error_set(e, ERROR_INTERNAL, "loading the demo model answers %d", status));
}

bool bench_idle_engine(double *seconds, error *e) {
    bench_server s;
    double times[RUNS];
    setenv("IMAGINED_ENGINE_IDLE_SECONDS", "1", 1);
    bool ok = bench_server_start(&s, e);
    unsetenv("IMAGINED_ENGINE_IDLE_SECONDS");
    if (!ok) return false;
    for (int i = 0; ok && i < RUNS; i++) ok = wait_for_stop(&s, e) && load(&s, &times[i], e);
    bench_server_stop(&s);
    if (!ok) return false;
    *seconds = median(times, RUNS);
    return true;
}
