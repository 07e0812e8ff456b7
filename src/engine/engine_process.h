/* The engine process's own main: opens the device, says hello, runs slices until told to stop or the front is gone.
 *
 * Between two slices it reads the socket without blocking: a cancel takes effect within one slice. Tasks held at once take turns, one slice
 * each, or share the slice (held_tasks.h). */
#ifndef IMAGINED_ENGINE_ENGINE_PROCESS_H
#define IMAGINED_ENGINE_ENGINE_PROCESS_H

#include "engine/engine_client.h"

/* Runs on `socket` until the end; returns the process's exit status. */
int engine_process_run(int socket, uint64_t engine, const engine_options *options);

#endif
