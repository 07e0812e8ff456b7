#include <limits.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/paths.h"
#include "server/server.h"

static const config_command serve = {
    .name = "serve",
    .bit = FOR_SERVE,
    .summary = "serve over HTTP until told to stop",
    .details = "Serves pictures over HTTP: a page at /, the native API below /api/, OpenAI's Images API below /v1/, A1111's below /sdapi/v1/, ComfyUI's at the root.\n"
               "SIGTERM lets running tasks end; a second one ends at once.",
};

int command_serve(int argc, char **argv) {
    int status;
    config *c = options_load(&serve, argc, argv, &status);
    if (c == NULL) return status;
    char models[PATH_MAX], state[PATH_MAX], demo[PATH_MAX];
    paths_demo_folder(demo, sizeof demo);
    const server_options options = {
        .listen = config_text(c, OPTION_LISTEN),
        .models_folder = options_models_folder(c, models, sizeof models),
        .demo_folder = demo,
        .state_folder = options_state_folder(c, state, sizeof state),
        .default_model = config_text(c, OPTION_DEFAULT_MODEL),
        .engine = options_engine(c),
        .max_active = (int)config_integer(c, OPTION_MAX_CONCURRENT_TASKS),
        .preload = config_text(c, OPTION_PRELOAD),
        .engine_idle_seconds = (int)config_integer(c, OPTION_ENGINE_IDLE_SECONDS),
        .max_queued = (int)config_integer(c, OPTION_MAX_QUEUED),
        .aging_seconds = (int)config_integer(c, OPTION_AGING_SECONDS),
        .affinity_seconds = (int)config_integer(c, OPTION_AFFINITY_SECONDS),
        .keep_tasks = (int)config_integer(c, OPTION_KEEP_TASKS),
        .keep_images_days = config_real(c, OPTION_KEEP_IMAGES_DAYS),
        .keep_images_gb = config_real(c, OPTION_KEEP_IMAGES_GB),
        .auth = {.keys_file = config_text(c, OPTION_API_KEYS_FILE),
                 .local_needs_key = config_boolean(c, OPTION_LOOPBACK_NEEDS_KEY),
                 .allowed_hosts = config_text(c, OPTION_ALLOWED_HOSTS),
                 .allowed_origins = config_text(c, OPTION_ALLOWED_ORIGINS)},
        .webhook_secret = config_text(c, OPTION_WEBHOOK_SECRET),
        .webhook_allow = config_text(c, OPTION_WEBHOOK_ALLOW),
        .webhook_ca_file = config_text(c, OPTION_WEBHOOK_CA_FILE),
        .quiet = config_boolean(c, OPTION_QUIET),
    };
    error e = {0};
    log_configure(options_log_level(c), "front");
    bool ok = server_run(&options, &e);
    if (!ok) fprintf(stderr, "imagined serve: %s\n", e.text);
    config_free(c);
    return ok ? 0 : 1;
}
