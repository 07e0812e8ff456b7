/* Options, told once: a table says of each its flag, environment name, config-file key, type, range, default and help; from the table come
 * the parsing of all three sources, `--help` and the manual.
 *
 * Precedence: flag > environment > config file > default. Every value that is set is checked, also one that another overrides; an error
 * names the place: "--threads …" or "IMAGINED_THREADS …" (ERROR_INVALID), "/etc/x.conf:3: 'threads' …" (ERROR_BAD_FILE), with field = the
 * option's flag or key.
 *
 *     enum { OPTION_CONFIG, OPTION_THREADS, OPTION_LISTEN };
 *     static const config_option options[] = {
 *         [OPTION_CONFIG] = {.flag = "config", .environment = "X_CONFIG", .value = "FILE", .help = "…", .commands = 1},
 *         [OPTION_THREADS] = {.flag = "threads", .key = "threads", .type = CONFIG_INTEGER, .high = 1024, .fallback = "0", …},
 *     };
 *     static const config_table table = {"x", options, 3, OPTION_CONFIG};
 *     static const config_command serve = {.name = "serve", .bit = 1, .summary = "serve over HTTP"};
 *     config *c;
 *     if (!config_load(&table, &serve, &(config_sources){argc - 2, argv + 2, environ, default_file}, &c, e)) …
 *     if (config_help_wanted(c)) config_print_help(&table, &serve, stdout);
 *     else use(config_integer(c, OPTION_THREADS));
 *     config_free(c);
 *
 * Flags: `--name value`, `--name=value`, `-n value`, `-nvalue`; a boolean is `--name`, `--no-name` or `--name=no`; `--` ends the flags; a
 * lone
 * `-` and what begins with no `-` are arguments, wherever they stand. The word after a flag that takes a value is that value, so negative
 * numbers need no care; but a word that begins with `--` is taken for a forgotten value (write `--name=--text`). `-h` and `--help` are
 * known to every command. Given twice, the last counts.
 *
 * Environment: an empty variable counts as unset. Only options of the command are looked at.
 *
 * Config file: UTF-8 lines `key = value`; blank lines and lines from `#` on mean nothing; a value may stand in "double quotes" (with \"
 * \\ \n \t) or 'single quotes' (as it is), after which only a comment may follow; a bare value ends before ` #`. A key that no command has,
 * a key twice and a bad value are errors. The empty file name means no file. */
#ifndef IMAGINED_BASE_CONFIG_H
#define IMAGINED_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

typedef enum config_type {
    CONFIG_TEXT,    /* without control characters but newline and tab; valid UTF-8 */
    CONFIG_CHOICE,  /* one word of .choices */
    CONFIG_INTEGER, /* decimal, within [low, high] */
    CONFIG_REAL,    /* finite, within [low, high] */
    CONFIG_BOOLEAN, /* true false yes no on off 1 0, in any case */
} config_type;

enum { CONFIG_MAX_FILE_BYTES = 1 << 20, CONFIG_MAX_VALUE_BYTES = 64 << 10 };

/* All strings live as long as the table, which is static. */
typedef struct config_option {
    const char *flag;        /* without its dashes; NULL: none */
    char letter;             /* 'o' for -o; 0: none */
    const char *environment; /* NULL: none */
    const char *key;         /* in the config file; NULL: none */
    config_type type;
    double low, high;        /* numbers: the range, both ends in; both 0: any. An integer's ends are exact up to 2^53 */
    const char *choices;     /* "auto|f32|bf16" */
    const char *fallback;    /* the default as one would write it; NULL: "", 0, false, the first choice */
    const char *shown;       /* the default as help shows it when the program computes it ("one a core"); NULL: fallback */
    const char *value;       /* what stands for the value in help: "FILE"; NULL: by type */
    const char *help;        /* one sentence or more, no newline; NULL: hidden from help and manual */
    const char *section;     /* heading in help and manual: options of one section stand together; NULL: "Options" */
    uint32_t commands;       /* bits of the commands that have it */
} config_option;

/* The commands of one program share one table, so that one file serves all: each reads what is its own and checks the rest. */
typedef struct config_table {
    const char *program;
    const config_option *options;
    size_t count;
    int file_option; /* index of the CONFIG_TEXT option that names the config file; −1: there is no file */
} config_table;

typedef struct config_command {
    const char *name;      /* "serve"; "" when the program has no commands */
    uint32_t bit;          /* its bit in config_option.commands */
    const char *arguments; /* as usage shows them: "PROMPT"; NULL: takes none */
    int min_arguments, max_arguments;
    const char *summary;   /* one line, no full stop */
    const char *details;   /* paragraphs below the usage line, separated by '\n'; NULL: none */
} config_command;

typedef struct config_sources {
    int argc;
    char **argv;              /* after the command's name */
    char **environment;       /* "NAME=value", NULL ends; NULL: none */
    const char *default_file; /* read when the file option is not given, and may be missing; NULL: none */
} config_sources;

typedef enum config_origin { CONFIG_FROM_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_ENVIRONMENT, CONFIG_FROM_FLAG } config_origin;

typedef struct config config;

/* Reads all sources. After --help nothing else is looked at. ERROR_INVALID as above; ERROR_NOT_FOUND when a file that was asked for is not
 * there. */
bool config_load(const config_table *table, const config_command *command, const config_sources *sources, config **out, error *e);
void config_free(config *c); /* NULL is fine */

bool config_help_wanted(const config *c);
/* Values by index in the table; asking with another type than the option's is a fault of the program (assert). Texts are borrowed from the
 * config. */
const char *config_text(const config *c, size_t option); /* CONFIG_TEXT, CONFIG_CHOICE; never NULL */
int64_t config_integer(const config *c, size_t option);
double config_real(const config *c, size_t option);
bool config_boolean(const config *c, size_t option);
config_origin config_origin_of(const config *c, size_t option);
size_t config_argument_count(const config *c);
const char *config_argument(const config *c, size_t i); /* NULL past the last */

/* Tells of each variable whose name begins with `prefix` and is neither an option's of the table nor one of `others` (NULL ends): most
 * likely it was mistyped. `nearest`: the option's variable that may be meant, or NULL. */
void config_unknown_variables(const config_table *table, char *const *environment, const char *prefix, const char *const *others,
                              void (*tell)(void *context, const char *name, const char *nearest), void *context);

/* What --help says of a command: usage, details, its options by section, at most 80 columns. */
void config_print_help(const config_table *table, const config_command *command, FILE *out);
/* Markdown: a heading and a table a section, over the options of all commands. */
void config_print_manual(const config_table *table, const config_command *const *commands, size_t count, FILE *out);

/* The word of `words` (count of them, NULLs skipped) nearest to `typed`, if near enough to be meant; else NULL. For "did you mean". */
const char *config_nearest(const char *typed, const char *const *words, size_t count);

#endif
