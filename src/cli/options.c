#include "cli/options.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/paths.h"

#define SERVER "Server"
#define COMPUTING "Computing"
#define PICTURE "Picture"

static const config_option all[OPTION_COUNT] = {
    [OPTION_CONFIG] = {.flag = "config", .environment = "IMAGINED_CONFIG", .type = CONFIG_TEXT, .value = "FILE",
                       .help = "Read options from this file (lines of key = value).", .commands = FOR_SERVE | FOR_GENERATE | FOR_MODELS | FOR_KEYS},
    [OPTION_LISTEN] = {.flag = "listen", .environment = "IMAGINED_LISTEN", .key = "listen", .type = CONFIG_TEXT, .fallback = "127.0.0.1:7860",
                       .value = "ADDR:PORT", .section = SERVER, .help = "Where to serve HTTP; port 0 takes a free one.", .commands = FOR_SERVE},
    [OPTION_MODELS] = {.flag = "models", .environment = "IMAGINED_MODELS", .key = "models", .type = CONFIG_TEXT, .value = "DIR",
                       .shown = "$XDG_DATA_HOME/imagined/models",
                       .help = "Folder of model folders in diffusers layout. The demo model is found by itself.",
                       .commands = FOR_SERVE | FOR_GENERATE | FOR_MODELS},
    [OPTION_STATE] = {.flag = "state", .environment = "IMAGINED_STATE", .key = "state", .type = CONFIG_TEXT, .value = "DIR",
                      .shown = "$XDG_STATE_HOME/imagined", .section = SERVER, .help = "Folder for the pictures made and the database of tasks.", .commands = FOR_SERVE},
    [OPTION_DEFAULT_MODEL] = {.flag = "default-model", .environment = "IMAGINED_DEFAULT_MODEL", .key = "default_model", .type = CONFIG_TEXT,
                              .fallback = "demo", .value = "NAME", .help = "The model of requests that name none.",
                              .commands = FOR_SERVE | FOR_GENERATE},
    [OPTION_MAX_CONCURRENT_TASKS] = {.flag = "max-concurrent-tasks", .environment = "MAX_CONCURRENT_TASKS", .key = "max_concurrent_tasks",
                                     .type = CONFIG_INTEGER, .low = 1, .high = 16, .fallback = "2", .section = SERVER,
                                     .help = "Tasks in the engine at once, taking turns step by step.", .commands = FOR_SERVE},
    [OPTION_MAX_QUEUED] = {.flag = "max-queued", .environment = "IMAGINED_MAX_QUEUED", .key = "max_queued", .type = CONFIG_INTEGER, .low = 1,
                           .high = 1000000, .fallback = "10000", .section = SERVER,
                           .help = "Tasks waiting at most; beyond that the answer is 429.", .commands = FOR_SERVE},
    [OPTION_KEEP_TASKS] = {.flag = "keep-tasks", .environment = "IMAGINED_KEEP_TASKS", .key = "keep_tasks", .type = CONFIG_INTEGER, .low = 1,
                           .high = 1000000, .fallback = "10000", .section = SERVER,
                           .help = "Finished tasks kept; beyond that the oldest go, with their pictures.", .commands = FOR_SERVE},
    [OPTION_KEEP_IMAGES_DAYS] = {.flag = "keep-images-days", .environment = "IMAGINED_KEEP_IMAGES_DAYS", .key = "keep_images_days", .type = CONFIG_REAL,
                                 .low = 0, .high = 100000, .fallback = "0", .shown = "for ever", .value = "DAYS", .section = SERVER,
                                 .help = "Pictures are kept so long after their task's end, and go with it.", .commands = FOR_SERVE},
    [OPTION_KEEP_IMAGES_GB] = {.flag = "keep-images-gb", .environment = "IMAGINED_KEEP_IMAGES_GB", .key = "keep_images_gb", .type = CONFIG_REAL, .low = 0,
                               .high = 1 << 20, .fallback = "0", .shown = "no limit", .value = "GB", .section = SERVER,
                               .help = "Pictures kept, in units of 2^30 bytes; beyond that the oldest go, with their tasks.", .commands = FOR_SERVE},
    [OPTION_API_KEYS_FILE] = {.flag = "api-keys-file", .environment = "IMAGINED_API_KEYS_FILE", .key = "api_keys_file", .type = CONFIG_TEXT, .value = "FILE",
                              .shown = "none: nobody needs a key", .section = SERVER,
                              .help = "API keys, a name:hash a line; see: imagined keys --help. SIGHUP has it read again.", .commands = FOR_SERVE | FOR_KEYS},
    [OPTION_LOOPBACK_NEEDS_KEY] = {.flag = "loopback-needs-key", .environment = "IMAGINED_LOOPBACK_NEEDS_KEY", .key = "loopback_needs_key", .type = CONFIG_BOOLEAN,
                                   .section = SERVER, .help = "Where there are API keys, requests from this machine need one, too.", .commands = FOR_SERVE},
    [OPTION_ALLOWED_HOSTS] = {.flag = "allowed-hosts", .environment = "IMAGINED_ALLOWED_HOSTS", .key = "allowed_hosts", .type = CONFIG_TEXT, .value = "NAMES",
                              .section = SERVER, .help = "Names that the server answers to beside localhost and IP addresses, separated by commas.",
                              .commands = FOR_SERVE},
    [OPTION_ALLOWED_ORIGINS] = {.flag = "allowed-origins", .environment = "IMAGINED_ALLOWED_ORIGINS", .key = "allowed_origins", .type = CONFIG_TEXT,
                                .value = "ORIGINS", .section = SERVER,
                                .help = "Web pages of others that may use the API (https://pictures.example), separated by commas.", .commands = FOR_SERVE},
    [OPTION_WEBHOOK_SECRET] = {.environment = "IMAGINED_WEBHOOK_SECRET", .key = "webhook_secret", .type = CONFIG_TEXT, .value = "SECRET",
                               .shown = "one made once, in STATE/webhook_secret", .section = SERVER,
                               .help = "Signs webhooks: whsec_ and 24 to 64 bytes in base 64; several, separated by commas, sign together.", .commands = FOR_SERVE},
    [OPTION_WEBHOOK_ALLOW] = {.flag = "webhook-allow", .environment = "IMAGINED_WEBHOOK_ALLOW", .key = "webhook_allow", .type = CONFIG_TEXT, .value = "HOSTS",
                              .shown = "public addresses only", .section = SERVER,
                              .help = "Names, addresses and blocks (10.0.0.0/8) that webhooks may go to though they are not public, separated by commas.",
                              .commands = FOR_SERVE},
    [OPTION_WEBHOOK_CA_FILE] = {.flag = "webhook-ca-file", .environment = "IMAGINED_WEBHOOK_CA_FILE", .key = "webhook_ca_file", .type = CONFIG_TEXT,
                                .value = "FILE", .shown = "the system's", .section = SERVER,
                                .help = "Certificates (PEM) of the authorities that vouch for receivers of webhooks.", .commands = FOR_SERVE},
    [OPTION_PRELOAD] = {.flag = "preload", .environment = "IMAGINED_PRELOAD", .key = "preload", .type = CONFIG_TEXT, .value = "NAMES",
                        .section = SERVER, .help = "Models to load before they are asked for, separated by commas.", .commands = FOR_SERVE},
    [OPTION_ENGINE_IDLE_SECONDS] = {.flag = "engine-idle-seconds", .environment = "IMAGINED_ENGINE_IDLE_SECONDS", .key = "engine_idle_seconds",
                                    .type = CONFIG_INTEGER, .low = 0, .high = 1000000, .fallback = "0", .shown = "never", .section = SERVER,
                                    .help = "Stop an engine that nothing needs for so long; the next task starts one.", .commands = FOR_SERVE},
    [OPTION_ENGINE_TIMEOUT_SECONDS] = {.flag = "engine-timeout-seconds", .environment = "IMAGINED_ENGINE_TIMEOUT_SECONDS", .key = "engine_timeout_seconds",
                                       .type = CONFIG_INTEGER, .low = 0, .high = 1000000, .fallback = "600", .section = SERVER,
                                       .help = "An engine that at work neither says nor computes anything for so long has hung and is replaced; 0: never.",
                                       .commands = FOR_SERVE},
    [OPTION_AGING_SECONDS] = {.flag = "aging-seconds", .environment = "IMAGINED_AGING_SECONDS", .key = "aging_seconds", .type = CONFIG_INTEGER,
                              .low = 0, .high = 1000000, .fallback = "300", .section = SERVER,
                              .help = "Waiting so long raises a task by a priority, though never to urgent; 0: never.", .commands = FOR_SERVE},
    [OPTION_AFFINITY_SECONDS] = {.flag = "affinity-seconds", .environment = "IMAGINED_AFFINITY_SECONDS", .key = "affinity_seconds",
                                 .type = CONFIG_INTEGER, .low = 0, .high = 1000000, .fallback = "10", .section = SERVER,
                                 .help = "So long a task may be passed by others whose model is loaded; 0: never.", .commands = FOR_SERVE},
    [OPTION_MAX_MODELS] = {.flag = "max-models", .environment = "MAX_MODELS_IN_MEMORY", .key = "max_models_in_memory",
                           .type = CONFIG_INTEGER, .low = 1, .high = 32, .fallback = "2", .section = COMPUTING,
                           .help = "Models kept loaded; the least recently used leaves first.", .commands = FOR_SERVE | FOR_ENGINE},
    [OPTION_MAX_CACHE_SIZE] = {.flag = "max-cache-size-gb", .environment = "MAX_CACHE_SIZE_GB", .key = "max_cache_size_gb", .type = CONFIG_REAL,
                               .low = 0, .high = 1 << 20, .fallback = "20.0", .value = "GB", .section = COMPUTING,
                               .help = "Weights kept loaded, in units of 2^30 bytes; what models share counts once. One model is always loaded.",
                               .commands = FOR_SERVE | FOR_ENGINE},
    [OPTION_MEMORY_EFFICIENT_LOADING] = {.flag = "memory-efficient-loading", .environment = "MEMORY_EFFICIENT_LOADING",
                                         .key = "memory_efficient_loading", .type = CONFIG_BOOLEAN, .fallback = "true", .shown = "they are mapped", .section = COMPUTING,
                                         .help = "Read weights into memory instead of mapping their files; then no file is held open.",
                                         .commands = FOR_SERVE | FOR_ENGINE},
    [OPTION_DEVICE] = {.flag = "device", .environment = "IMAGINED_DEVICE", .key = "device", .type = CONFIG_TEXT, .fallback = "auto",
                       .value = "NAME", .section = COMPUTING, .help = "auto (a GPU if there is one, else the CPU), cpu, vulkan, cuda, …",
                       .commands = FOR_SERVE | FOR_GENERATE | FOR_ENGINE},
    [OPTION_THREADS] = {.flag = "threads", .environment = "IMAGINED_THREADS", .key = "threads", .type = CONFIG_INTEGER, .low = 0, .high = 1024,
                        .fallback = "0", .shown = "one a core", .section = COMPUTING, .help = "CPU threads to compute with.",
                        .commands = FOR_SERVE | FOR_GENERATE | FOR_ENGINE},
    [OPTION_VRAM_LIMIT_MB] = {.flag = "vram-limit-mb", .environment = "IMAGINED_VRAM_LIMIT_MB", .key = "vram_limit_mb", .type = CONFIG_INTEGER,
                              .low = 0, .high = 1 << 24, .fallback = "0", .shown = "no limit", .section = COMPUTING,
                              .help = "MiB of the device's memory to take at most; on the CPU of main memory, mapped weights apart.",
                              .commands = FOR_SERVE | FOR_GENERATE | FOR_ENGINE},
    [OPTION_BATCH_IMAGES] = {.flag = "batch-images", .environment = "IMAGINED_BATCH_IMAGES", .key = "batch_images", .type = CONFIG_INTEGER,
                             .low = 0, .high = 16, .fallback = "0", .shown = "as many as are faster together", .section = COMPUTING,
                             .help = "Images that share a denoising step at most; 1: none do, and the same request always gives the same bytes.",
                             .commands = FOR_SERVE | FOR_ENGINE},
    [OPTION_PROMPT_CACHE_MB] = {.flag = "prompt-cache-mb", .environment = "IMAGINED_PROMPT_CACHE_MB", .key = "prompt_cache_mb",
                                .type = CONFIG_INTEGER, .low = 0, .high = 1 << 20, .fallback = "64", .section = COMPUTING,
                                .help = "MiB of encoded prompts to keep: a prompt that comes again skips the text encoders. 0: none.",
                                .commands = FOR_SERVE | FOR_ENGINE},
    [OPTION_LOG_LEVEL] = {.flag = "log-level", .environment = "IMAGINED_LOG_LEVEL", .key = "log_level", .type = CONFIG_CHOICE,
                          .choices = "info|debug|warning|error", .section = SERVER, .help = "How much to log.",
                          .commands = FOR_SERVE | FOR_ENGINE},
    [OPTION_OUTPUT] = {.flag = "output", .letter = 'o', .type = CONFIG_TEXT, .fallback = "picture.png", .value = "FILE",
                       .help = "The file to write: a PNG, or by its ending .jpg or .webp; - is the standard output.", .commands = FOR_GENERATE},
    [OPTION_MODEL] = {.flag = "model", .letter = 'm', .type = CONFIG_TEXT, .value = "NAME", .shown = "the default model",
                      .help = "A model's name (see: imagined models) or its folder.", .section = PICTURE, .commands = FOR_GENERATE},
    [OPTION_SEED] = {.flag = "seed", .letter = 's', .type = CONFIG_TEXT, .fallback = "-1", .value = "N", .shown = "random", .section = PICTURE,
                     .help = "0 to 2^64-1; the same seed gives the same picture.", .commands = FOR_GENERATE},
    [OPTION_STEPS] = {.flag = "steps", .type = CONFIG_INTEGER, .low = 1, .high = 1000, .fallback = "0", .shown = "the model's", .section = PICTURE,
                      .help = "Denoising steps.", .commands = FOR_GENERATE},
    [OPTION_WIDTH] = {.flag = "width", .type = CONFIG_INTEGER, .low = 1, .high = 16384, .fallback = "0", .shown = "the model's",
                      .value = "PIXELS", .section = PICTURE, .help = "A multiple of 16 for most models.", .commands = FOR_GENERATE},
    [OPTION_HEIGHT] = {.flag = "height", .type = CONFIG_INTEGER, .low = 1, .high = 16384, .fallback = "0", .shown = "the model's",
                       .value = "PIXELS", .section = PICTURE, .help = "As --width.", .commands = FOR_GENERATE},
    [OPTION_GUIDANCE] = {.flag = "guidance", .type = CONFIG_REAL, .high = 100, .fallback = "-1", .shown = "the model's", .value = "X",
                         .section = PICTURE, .help = "Embedded guidance, for models that have it.", .commands = FOR_GENERATE},
    [OPTION_NEGATIVE_PROMPT] = {.flag = "negative-prompt", .type = CONFIG_TEXT, .value = "TEXT", .section = PICTURE,
                                .help = "What to steer away from; takes effect with --true-cfg above 1.", .commands = FOR_GENERATE},
    [OPTION_TRUE_CFG] = {.flag = "true-cfg", .type = CONFIG_REAL, .low = 0, .high = 100, .fallback = "1", .value = "X", .section = PICTURE,
                         .help = "Classifier-free guidance; doubles the time of a step.", .commands = FOR_GENERATE},
    [OPTION_MAX_SEQUENCE_LENGTH] = {.flag = "max-sequence-length", .type = CONFIG_INTEGER, .low = 1, .high = 512, .fallback = "0",
                                    .shown = "the model's", .section = PICTURE, .help = "Tokens of the prompt that the T5 encoder reads.",
                                    .commands = FOR_GENERATE},
    [OPTION_IMAGE] = {.flag = "image", .letter = 'i', .type = CONFIG_TEXT, .value = "FILE", .section = PICTURE,
                      .help = "A PNG, JPEG or WebP to begin from instead of noise. Without --width and --height the picture has its proportions.",
                      .commands = FOR_GENERATE},
    [OPTION_MASK] = {.flag = "mask", .type = CONFIG_TEXT, .value = "FILE", .section = PICTURE,
                     .help = "A picture that says what of --image is painted anew; the rest stays.", .commands = FOR_GENERATE},
    [OPTION_MASK_SOURCE] = {.flag = "mask-source", .type = CONFIG_CHOICE, .choices = "light|alpha", .section = PICTURE,
                            .help = "What --mask marks: what is white is painted, or what is transparent.", .commands = FOR_GENERATE},
    [OPTION_STRENGTH] = {.flag = "strength", .type = CONFIG_REAL, .low = 0, .high = 1, .fallback = "0.6", .value = "X", .section = PICTURE,
                         .help = "How much of --image is made new, above 0: the share of the steps that are run.", .commands = FOR_GENERATE},
    [OPTION_PRECISION] = {.flag = "precision", .type = CONFIG_CHOICE, .choices = "auto|f32|bf16|f16|int8", .section = COMPUTING,
                          .help = "f32 is exact whatever the files hold; int8 is not available yet.", .commands = FOR_GENERATE},
    [OPTION_QUIET] = {.flag = "quiet", .letter = 'q', .type = CONFIG_BOOLEAN, .help = "Only errors are printed.",
                      .commands = FOR_SERVE | FOR_GENERATE},
    [OPTION_JSON] = {.flag = "json", .type = CONFIG_BOOLEAN, .help = "Print JSON instead of a table.", .commands = FOR_MODELS},
    [OPTION_ENGINE] = {.flag = "engine", .type = CONFIG_TEXT, .fallback = "0", .commands = FOR_ENGINE},
};

const config_table options_table = {"imagined", all, OPTION_COUNT, OPTION_CONFIG};

static void tell_unknown(void *command, const char *name, const char *nearest) {
    fprintf(stderr, "imagined %s: %s in the environment means nothing%s%s%s (%s)\n", (const char *)command, name, nearest != NULL ? ": did you mean " : "",
            nearest != NULL ? nearest : "", nearest != NULL ? "?" : "", "imagined serve --help lists what does");
}

config *options_load(const config_command *command, int argc, char **argv, int *status) {
    config *c;
    error e = {0};
    const config_sources sources = {argc - 1, argv + 1, environ, NULL};
    if (!config_load(&options_table, command, &sources, &c, &e)) {
        fprintf(stderr, "imagined %s: %s\n", command->name, e.text);
        if (strstr(e.text, "--help") == NULL) fprintf(stderr, "Try: imagined %s --help\n", command->name);
        *status = 2;
        return NULL;
    }
    if (!config_help_wanted(c)) {
        /* Whatever else begins so is mistyped; an engine's front has said it. */
        static const char *const others[] = {"IMAGINED_ENGINE_EXECUTABLE", "IMAGINED_GGML_BACKENDS", NULL};
        if (command->bit != FOR_ENGINE && !config_boolean(c, OPTION_QUIET))
            config_unknown_variables(&options_table, environ, "IMAGINED_", others, tell_unknown, (void *)command->name);
        return c;
    }
    config_print_help(&options_table, command, stdout);
    config_free(c);
    *status = 0;
    return NULL;
}

const char *options_models_folder(const config *c, char *buffer, size_t capacity) {
    if (config_text(c, OPTION_MODELS)[0] != '\0') return config_text(c, OPTION_MODELS);
    paths_models_folder(buffer, capacity);
    return buffer;
}

const char *options_state_folder(const config *c, char *buffer, size_t capacity) {
    if (config_text(c, OPTION_STATE)[0] != '\0') return config_text(c, OPTION_STATE);
    paths_state_folder(buffer, capacity);
    return buffer;
}

log_level options_log_level(const config *c) {
    const char *name = config_text(c, OPTION_LOG_LEVEL);
    return strcmp(name, "debug") == 0 ? LOG_DEBUG : strcmp(name, "warning") == 0 ? LOG_WARNING : strcmp(name, "error") == 0 ? LOG_ERROR : LOG_INFO;
}

engine_options options_engine(const config *c) {
    return (engine_options){
        .device = config_text(c, OPTION_DEVICE),
        .threads = (int)config_integer(c, OPTION_THREADS),
        .max_models = (int)config_integer(c, OPTION_MAX_MODELS),
        .max_cache_gb = config_real(c, OPTION_MAX_CACHE_SIZE),
        .memory_efficient_loading = config_boolean(c, OPTION_MEMORY_EFFICIENT_LOADING),
        .vram_limit_mb = (int)config_integer(c, OPTION_VRAM_LIMIT_MB),
        .batch_images = (int)config_integer(c, OPTION_BATCH_IMAGES),
        .prompt_cache_mb = (int)config_integer(c, OPTION_PROMPT_CACHE_MB),
        .log_level = (int)options_log_level(c),
        .timeout_seconds = (int)config_integer(c, OPTION_ENGINE_TIMEOUT_SECONDS),
    };
}
