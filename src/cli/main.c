#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "build_config.h"
#include "cli/commands.h"
#include "cli/output.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* NULL: not for people */
} command;

static const command commands[] = {
    {"serve", command_serve, "serve over HTTP until told to stop"},
    {"generate", command_generate, "make one picture and write it to a file"},
    {"models", command_models, "list the models there are"},
    {"keys", command_keys, "make API keys"},
    {"quantize", command_quantize, "make a smaller copy of a model (not available yet)"},
    {"bench", command_bench, "measure this machine with the demo model"},
    {"engine", command_engine, NULL},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out) {
    fprintf(out, "imagined %s: turns prompts into pictures with diffusion models\n\nUsage: imagined COMMAND [OPTION ...]\n\n",
            IMAGINED_VERSION);
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].summary != NULL) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\nEach has its own help: imagined generate --help\n"
                 "A first picture:       imagined generate \"a fox on a blue background\" -o fox.png\n");
}

/* In the place of a standard stream that is closed the next file to be opened would stand, and what is printed go into it. What stands
 * there now, as the lowest that is free, only reads: writing fails, as it did. */
static void fill_standard_streams(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) abort();
}

/* What was printed must have arrived: a list or a help text that is cut off is no success, wherever it is cut. Who closed the stream
 * (fill_standard_streams has put what only reads there) wants nothing. */
static int end(int status) {
    bool lost_before = ferror(stdout) != 0, lost = fflush(stdout) != 0;
    const char *why = lost ? strerror(errno) : "a part of it was not taken";
    if (status != 0 || !output_standard_is_open() || (!lost && !lost_before)) return status;
    fprintf(stderr, "imagined: cannot write to the standard output: %s\n", why);
    return 1;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "--help";
    fill_standard_streams();
    /* ggml starts a debugger on its own process when it aborts; the front wants to hear of the death at once. */
    setenv("GGML_NO_BACKTRACE", "1", 0);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return end(argc > 1 ? 0 : 2);
    }
    if (strcmp(name, "--version") == 0) {
        printf("imagined %s\n", IMAGINED_VERSION);
        return end(0);
    }
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) return end(commands[i].run(argc - 1, argv + 1));
        names[i] = commands[i].summary != NULL ? commands[i].name : NULL;
    }
    const char *near = config_nearest(name, names, COMMANDS);
    fprintf(stderr, "imagined: there is no command '%s'", name);
    if (near != NULL) fprintf(stderr, "; did you mean '%s'?", near);
    fprintf(stderr, "\nTry: imagined --help\n");
    return 2;
}
