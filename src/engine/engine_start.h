/* Starting an engine process: a fork, a clean state for the child, an exec of this same binary. */
#ifndef IMAGINED_ENGINE_ENGINE_START_H
#define IMAGINED_ENGINE_ENGINE_START_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* The descriptor on which the engine finds its end of the socket. */
enum { ENGINE_SOCKET = 3 };

/* Executes `executable` with `argv` (NULL ends). The child has `socket` as descriptor ENGINE_SOCKET, /dev/null as standard input, standard
 * output and error of this process and nothing else open; default signal dispositions but SIGINT, SIGTERM, SIGHUP ignored (a terminal sends
 * them to the whole group: the front decides), no signal blocked; and is killed when the calling thread ends. False, with nothing left
 * behind, when any of it failed, a missing executable included. Safe in a process with threads. */
bool engine_start(const char *executable, const char *const argv[], int socket, pid_t *pid, error *e);

#endif
