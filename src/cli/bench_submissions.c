#include "cli/bench_submissions.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/bench_server.h"
#include "cli/median.h"

enum { SUBMISSIONS = 6000, RUNS = 31, ANSWER_BYTES = 16 * 1024, WAIT_MS = 10 * 1000 };

static const char task[] = "{\"prompt\":\"a fox on a blue background\",\"width\":64,\"height\":64,\"num_inference_steps\":1,\"seed\":1}";

/* --- many clients --- */

/* A connection that sends one task after another. */
typedef struct client {
    int fd;
    char answer[ANSWER_BYTES + 1];
    size_t size;
} client;

static size_t write_request(char *out, size_t capacity) {
    return (size_t)snprintf(
        out, capacity, "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        sizeof task - 1, task);
}

static bool send_task(const client *c, error *e) {
    char request[512];
    size_t size = write_request(request, sizeof request);
    return send(c->fd, request, size, MSG_NOSIGNAL) == (ssize_t)size || error_system(e, "send", "a task");
}

/* Whether an answer is there completely. */
static bool complete(const client *c) {
    const char *body = strstr(c->answer, "\r\n\r\n"), *length = strcasestr(c->answer, "\r\ncontent-length:");
    return body != NULL && length != NULL && c->size >= (size_t)(body + 4 - c->answer) + strtoul(length + 17, NULL, 10);
}

/* Reads what there is; true in *answered at an answer's end. */
static bool receive(client *c, bool *answered, error *e) {
    ssize_t n = recv(c->fd, c->answer + c->size, ANSWER_BYTES - c->size, 0);
    if (n <= 0) return error_set(e, ERROR_IO, "the server for the benchmark has hung up");
    c->size += (size_t)n;
    c->answer[c->size] = '\0';
    *answered = complete(c);
    if (!*answered) return true;
    c->size = 0;
    return strncmp(c->answer, "HTTP/1.1 202", 12) == 0 || error_set(e, ERROR_INTERNAL, "a submission was answered: %.300s", c->answer);
}

static bool submit_from_all(client *clients, error *e) {
    struct pollfd polls[BENCH_CLIENTS];
    int sent = 0, answers = 0;
    for (int i = 0; i < BENCH_CLIENTS; i++) {
        polls[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        if (!send_task(&clients[i], e)) return false;
        sent++;
    }
    while (answers < sent) {
        if (poll(polls, BENCH_CLIENTS, WAIT_MS) <= 0) return error_set(e, ERROR_TIMEOUT, "the server for the benchmark does not answer");
        for (int i = 0; i < BENCH_CLIENTS; i++) {
            bool answered = false;
            if (polls[i].revents == 0) continue;
            if (!receive(&clients[i], &answered, e)) return false;
            if (!answered) continue;
            answers++;
            if (sent == SUBMISSIONS) continue;
            if (!send_task(&clients[i], e)) return false;
            sent++;
        }
    }
    return true;
}

/* With the queue paused: what the engine does costs the same with and without submissions. */
static bool count_submissions(const bench_server *s, double *per_second, error *e) {
    client *clients = calloc(BENCH_CLIENTS, sizeof *clients);
    if (clients == NULL) return error_no_memory(e, "clients", BENCH_CLIENTS * sizeof *clients);
    bool ok = bench_http(s, "POST", "/api/system/queue/pause", "", NULL, e) == 200;
    for (int i = 0; i < BENCH_CLIENTS; i++) {
        clients[i].fd = ok ? bench_connect(s) : -1;
        if (ok && clients[i].fd < 0) ok = error_system(e, "connect to", "the server for the benchmark");
    }
    double start = clock_seconds();
    ok = ok && submit_from_all(clients, e);
    *per_second = SUBMISSIONS / (clock_seconds() - start);
    for (int i = 0; i < BENCH_CLIENTS; i++)
        if (clients[i].fd >= 0) close(clients[i].fd);
    free(clients);
    return ok;
}

/* --- one task --- */

/* Reads the stream of events until `what` is in it, or (NULL) until nothing comes for 100 ms. */
static bool read_until(client *stream, const char *what, error *e) {
    for (;;) {
        struct pollfd p = {.fd = stream->fd, .events = POLLIN};
        int ready = poll(&p, 1, what != NULL ? WAIT_MS : 100);
        if (ready <= 0 && what == NULL) return true;
        if (ready <= 0) return error_set(e, ERROR_TIMEOUT, "no event '%s' came from the server for the benchmark", what);
        /* Keep the end: what is looked for may be cut in two. */
        if (stream->size > ANSWER_BYTES / 2) {
            memmove(stream->answer, stream->answer + stream->size - 256, 256);
            stream->size = 256;
        }
        ssize_t n = recv(stream->fd, stream->answer + stream->size, ANSWER_BYTES - stream->size, 0);
        if (n <= 0) return error_set(e, ERROR_IO, "the events of the server for the benchmark ended");
        stream->size += (size_t)n;
        stream->answer[stream->size] = '\0';
        if (what == NULL || strstr(stream->answer, what) == NULL) continue;
        stream->size = 0;
        stream->answer[0] = '\0';
        return true;
    }
}

static bool time_sync(int fd, double *seconds) {
    static const char page[4096];
    double start = clock_seconds();
    bool ok = write(fd, page, sizeof page) == sizeof page && fsync(fd) == 0;
    *seconds = clock_seconds() - start;
    return ok;
}

/* Each task after a sync of its own: disks and neighbours change from one second to the next. */
static bool time_first_steps(const bench_server *s, int file, bench_submitting *out, error *e) {
    static client stream, sender;
    static const char listen[] = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    double times[RUNS], syncs[RUNS], beyond[RUNS], sync = 0;
    stream.fd = bench_connect(s);
    sender.fd = bench_connect(s);
    bool ok = stream.fd >= 0 && sender.fd >= 0 && send(stream.fd, listen, sizeof listen - 1, MSG_NOSIGNAL) == sizeof listen - 1;
    if (!ok) error_system(e, "listen to", "the server for the benchmark");
    /* The first two load the model, encode the prompt and measure a step for the first time. */
    for (int i = -2; ok && i < RUNS; i++) {
        bool answered = false;
        ok = read_until(&stream, NULL, e);
        stream.size = 0;
        ok = ok && (time_sync(file, &sync) || error_system(e, "write in", s->state));
        double start = clock_seconds();
        ok = ok && send_task(&sender, e) && read_until(&stream, "\"phase\":\"denoise\"", e);
        if (i >= 0) {
            times[i] = clock_seconds() - start;
            syncs[i] = sync;
            beyond[i] = times[i] - sync;
        }
        while (ok && !answered) ok = receive(&sender, &answered, e);
        ok = ok && read_until(&stream, "event: completed", e);
    }
    if (ok)
        *out = (bench_submitting){.sync = median(syncs, RUNS), .to_first_step = median(times, RUNS), .beyond_sync = median(beyond, RUNS)};
    if (stream.fd >= 0) close(stream.fd);
    if (sender.fd >= 0) close(sender.fd);
    return ok;
}

bool bench_submit(bench_submitting *out, error *e) {
    bench_server s;
    char path[96];
    if (!bench_server_start(&s, e)) return false;
    snprintf(path, sizeof path, "%s/sync", s.state);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool ok = file >= 0 || error_system(e, "write", path);
    ok = ok && time_first_steps(&s, file, out, e) && count_submissions(&s, &out->per_second, e);
    if (file >= 0) close(file);
    bench_server_stop(&s);
    return ok;
}
