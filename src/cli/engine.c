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
    const engine_options options = options_engine(c);
    log_configure(options_log_level(c), "engine");
    status = engine_process_run(ENGINE_SOCKET, strtoull(config_text(c, OPTION_ENGINE), NULL, 10), &options);
    config_free(c);
    return status;
}
