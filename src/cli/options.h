/* Every option of every command, in one table: it parses, and prints --help and the manual. */
#ifndef IMAGINED_CLI_OPTIONS_H
#define IMAGINED_CLI_OPTIONS_H

#include "base/config.h"
#include "base/log.h"
#include "engine/engine_client.h"

enum { FOR_SERVE = 1, FOR_GENERATE = 2, FOR_MODELS = 4, FOR_ENGINE = 8, FOR_BENCH = 16, FOR_QUANTIZE = 32, FOR_KEYS = 64 };

typedef enum option {
    OPTION_CONFIG,
    OPTION_LISTEN,
    OPTION_MODELS,
    OPTION_STATE,
    OPTION_DEFAULT_MODEL,
    OPTION_MAX_CONCURRENT_TASKS,
    OPTION_MAX_QUEUED,
    OPTION_AGING_SECONDS,
    OPTION_AFFINITY_SECONDS,
    OPTION_KEEP_TASKS,
    OPTION_KEEP_IMAGES_DAYS,
    OPTION_KEEP_IMAGES_GB,
    OPTION_API_KEYS_FILE,
    OPTION_LOOPBACK_NEEDS_KEY,
    OPTION_ALLOWED_HOSTS,
    OPTION_ALLOWED_ORIGINS,
    OPTION_WEBHOOK_SECRET,
    OPTION_WEBHOOK_ALLOW,
    OPTION_WEBHOOK_CA_FILE,
    OPTION_PRELOAD,
    OPTION_ENGINE_IDLE_SECONDS,
    OPTION_ENGINE_TIMEOUT_SECONDS,
    OPTION_MAX_MODELS,
    OPTION_MAX_CACHE_SIZE,
    OPTION_MEMORY_EFFICIENT_LOADING,
    OPTION_DEVICE,
    OPTION_THREADS,
    OPTION_VRAM_LIMIT_MB,
    OPTION_BATCH_IMAGES,
    OPTION_PROMPT_CACHE_MB,
    OPTION_LOG_LEVEL,
    OPTION_OUTPUT,
    OPTION_MODEL,
    OPTION_SEED,
    OPTION_STEPS,
    OPTION_WIDTH,
    OPTION_HEIGHT,
    OPTION_GUIDANCE,
    OPTION_NEGATIVE_PROMPT,
    OPTION_TRUE_CFG,
    OPTION_MAX_SEQUENCE_LENGTH,
    OPTION_IMAGE,
    OPTION_MASK,
    OPTION_MASK_SOURCE,
    OPTION_STRENGTH,
    OPTION_PRECISION,
    OPTION_QUIET,
    OPTION_JSON,
    OPTION_ENGINE,
    OPTION_COUNT,
} option;

extern const config_table options_table;

/* Loads the options of `command` from argv (argv[0] is the command's name), the environment and the config file. Returns NULL when the
 * command is over: help was printed (*status 0) or the usage was wrong (message printed, *status 2). Otherwise yours: config_free.
 * Variables that look mistyped are told on stderr. */
config *options_load(const config_command *command, int argc, char **argv, int *status);

/* The folders, the option's where it is given, else where they lie by themselves (cli/paths.h). Borrowed from `buffer` or the config. */
const char *options_models_folder(const config *c, char *buffer, size_t capacity);
const char *options_state_folder(const config *c, char *buffer, size_t capacity);
log_level options_log_level(const config *c);
/* Of a server or of its engine. Strings are borrowed from the config. */
engine_options options_engine(const config *c);

#endif
