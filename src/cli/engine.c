#include <stdlib.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "engine/engine_process.h"
#include "engine/engine_start.h"

static const config_command engine = {.name = "engine", .bit = FOR_ENGINE, .summary = "compute for a server (started by serve)"};

int command_engine(int argc, char **argv) {
    int status;
    config *c = options_load(&engine, argc, argv, &status);
    if (c == NULL) return status;
    const engine_options options = {
        .device = config_text(c, OPTION_DEVICE),
        .threads = (int)config_integer(c, OPTION_THREADS),
        .max_models = (int)config_integer(c, OPTION_MAX_MODELS),
        .max_cache_gb = config_real(c, OPTION_MAX_CACHE_SIZE),
        .memory_efficient_loading = config_boolean(c, OPTION_MEMORY_EFFICIENT_LOADING),
        .vram_limit_mb = (int)config_integer(c, OPTION_VRAM_LIMIT_MB),
        .batch_images = (int)config_integer(c, OPTION_BATCH_IMAGES),
        .prompt_cache_mb = (int)config_integer(c, OPTION_PROMPT_CACHE_MB),
        .log_level = (int)options_log_level(c),
    };
    log_configure(options_log_level(c), "engine");
    status = engine_process_run(ENGINE_SOCKET, strtoull(config_text(c, OPTION_ENGINE), NULL, 10), &options);
    config_free(c);
    return status;
}
