#include "cli/bench_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static int connect_to(int port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&where, sizeof where) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* A port that was free a moment ago: the server is told it rather than asked for it, so that connecting can be tried from the first
 * instant. */
static int free_port(void) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && getsockname(fd, (struct sockaddr *)&any, &size) == 0)
        port = ntohs(any.sin_port);
    if (fd >= 0) close(fd);
    return port;
}

int bench_connect(const bench_server *s) { return connect_to(s->port); }

bool bench_server_start(bench_server *s, error *e) {
    char listen[32];
    *s = (bench_server){.port = free_port()};
    snprintf(s->state, sizeof s->state, "/tmp/imagined-bench-XXXXXX");
    if (s->port < 0 || mkdtemp(s->state) == NULL) return error_system(e, "prepare", "a server for the benchmark");
    snprintf(listen, sizeof listen, "127.0.0.1:%d", s->port);
    s->started = clock_seconds();
    s->pid = fork();
    if (s->pid < 0) return error_system(e, "start", "a server for the benchmark");
    if (s->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execl("/proc/self/exe", "imagined", "serve", "--listen", listen, "--state", s->state, (char *)NULL);
        _exit(127);
    }
    for (int fd = -1; fd < 0;) {
        fd = connect_to(s->port);
        if (fd >= 0) close(fd);
        else if (clock_seconds() - s->started > 10 || waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            bench_server_stop(s);
            return error_set(e, ERROR_INTERNAL, "the server for the benchmark did not start; try: imagined serve --listen %s", listen);
        } else usleep(500);
    }
    s->seconds_to_listen = clock_seconds() - s->started;
    return true;
}

void bench_server_stop(bench_server *s) {
    char command[96];
    if (s->pid > 0 && kill(s->pid, SIGTERM) == 0) waitpid(s->pid, NULL, 0);
    s->pid = 0;
    snprintf(command, sizeof command, "rm -rf '%s'", s->state);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", s->state);
}

static bool send_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

int bench_http(const bench_server *s, const char *method, const char *path, const char *body, buffer *answer, error *e) {
    buffer request = {0}, all = {0};
    int status = 0, fd = connect_to(s->port);
    buffer_printf(
        &request,
        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        method, path, s->port, strlen(body), body);
    bool ok = fd >= 0 && buffer_ok(&request) && send_all(fd, request.data, request.size);
    while (ok) {
        char *to = buffer_reserve(&all, 65536);
        ssize_t n = to == NULL ? -1 : recv(fd, to, 65536, 0);
        if (n == 0) break;
        ok = n > 0;
        if (ok) {
            all.size += (size_t)n;
            all.data[all.size] = '\0';
        }
    }
    const char *end = ok ? strstr(buffer_text(&all), "\r\n\r\n") : NULL;
    if (end == NULL || sscanf(all.data, "HTTP/1.1 %d", &status) != 1) {
        status = 0;
        error_set(e, ERROR_IO, "%s %s: no answer from the server", method, path);
    } else if (answer != NULL) {
        buffer_append(answer, end + 4, all.size - (size_t)(end + 4 - all.data));
    }
    if (fd >= 0) close(fd);
    buffer_free(&request);
    buffer_free(&all);
    return status;
}
