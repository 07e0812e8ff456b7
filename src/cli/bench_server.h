/* A server of our own for the length of a benchmark: this binary, started as a user would, on a free port with a throw-away state
 * folder. */
#ifndef IMAGINED_CLI_BENCH_SERVER_H
#define IMAGINED_CLI_BENCH_SERVER_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

typedef struct bench_server {
    pid_t pid;
    int port;
    char state[64];           /* temporary folder */
    double started;           /* clock_seconds just before the process was made */
    double seconds_to_listen; /* from then to the first accepted connection */
} bench_server;

bool bench_server_start(bench_server *s, error *e);
void bench_server_stop(bench_server *s); /* SIGTERM, wait, remove the state folder */

int bench_connect(const bench_server *s); /* a connected socket; −1: errno says why */

/* One HTTP/1.1 exchange over a connection of its own. Returns the status, or 0 with *e filled. The answer's body goes to *answer (may be
 * NULL). */
int bench_http(const bench_server *s, const char *method, const char *path, const char *body, buffer *answer, error *e);

#endif
