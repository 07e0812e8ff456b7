/* The front process: HTTP, the queue, the engine's supervision; everything on one event loop, PNG encoding on a worker thread.
 *
 * It never initialises ggml. */
#ifndef IMAGINED_SERVER_SERVER_H
#define IMAGINED_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "engine/engine_client.h"
#include "server/access/auth.h"

/* All strings non-NULL; borrowed for the run. */
typedef struct server_options {
    const char *listen;        /* "127.0.0.1:7860", "[::1]:7860"; port 0: any, printed on start */
    const char *models_folder; /* may not exist */
    const char *demo_folder;   /* "" when there is none */
    const char *state_folder;  /* made if missing; images are stored below it */
    const char *default_model; /* a name of the model list; "demo" */
    engine_options engine;
    int max_active;            /* MAX_CONCURRENT_TASKS */
    int max_queued;
    int aging_seconds, affinity_seconds; /* IMAGINED_AGING_SECONDS, IMAGINED_AFFINITY_SECONDS */
    int keep_tasks;            /* finished ones */
    double keep_images_days, keep_images_gb; /* 0: for ever; no limit */
    const char *preload;       /* IMAGINED_PRELOAD: names separated by commas */
    int engine_idle_seconds;   /* IMAGINED_ENGINE_IDLE_SECONDS; 0: never stopped */
    const char *webhook_secret, *webhook_allow, *webhook_ca_file; /* IMAGINED_WEBHOOK_…; "": none said */
    auth_options auth;
    bool quiet; /* no greeting on standard output */
} server_options;

/* Serves until SIGTERM or SIGINT: then running tasks end (a second signal: at once), and it returns true. False when it could not start:
 * port in use, unwritable state folder, … */
bool server_run(const server_options *options, error *e);

#endif
