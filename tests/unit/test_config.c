/* Options: what wins over what, what each type takes, and that every complaint names the place where the value stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/config.h"
#include "base/utf8.h"

enum { FOR_MAKE = 1, FOR_SHOW = 2 };
enum { FILE_OPTION, NAME, COUNT, SCALE, COLOUR, LOUD, TIDY, SHOW_ONLY, VARIABLE_ONLY, KEYLESS, SHARED_MAKE, SHARED_SHOW, HIDDEN, OPTIONS };

static const config_option options[OPTIONS] = {
    [FILE_OPTION] = {.flag = "config", .environment = "T_CONFIG", .value = "FILE", .help = "Read options from this file.", .commands = 3},
    [NAME] = {.flag = "name", .letter = 'n', .environment = "T_NAME", .key = "name", .fallback = "nobody", .help = "A name.", .commands = 3},
    [COUNT] = {.flag = "count", .letter = 'c', .environment = "T_COUNT", .key = "count", .type = CONFIG_INTEGER, .low = -5, .high = 1000,
               .fallback = "7", .help = "How many of them there are to be; the text is long enough to be wrapped at the end of the line.",
               .section = "Numbers", .commands = FOR_MAKE},
    [SCALE] = {.flag = "scale", .environment = "T_SCALE", .key = "scale", .type = CONFIG_REAL, .low = 0, .high = 10, .fallback = "1.5",
               .help = "A factor.", .section = "Numbers", .commands = FOR_MAKE},
    [COLOUR] = {.flag = "colour", .environment = "T_COLOUR", .key = "colour", .type = CONFIG_CHOICE, .choices = "red|green|dark blue",
                .help = "A colour.", .commands = FOR_MAKE},
    [LOUD] = {.flag = "loud", .letter = 'l', .environment = "T_LOUD", .key = "loud", .type = CONFIG_BOOLEAN, .help = "Speak up.", .commands = 3},
    [TIDY] = {.flag = "tidy", .key = "tidy", .type = CONFIG_BOOLEAN, .fallback = "true", .help = "Clean up.", .commands = FOR_MAKE},
    [SHOW_ONLY] = {.flag = "page", .environment = "T_PAGE", .key = "page", .type = CONFIG_INTEGER, .help = "A page.", .commands = FOR_SHOW},
    [VARIABLE_ONLY] = {.environment = "T_ONLY", .key = "only", .type = CONFIG_INTEGER, .help = "No flag.", .commands = FOR_MAKE},
    [KEYLESS] = {.flag = "output", .letter = 'o', .fallback = "x.png", .help = "A file.", .commands = FOR_MAKE},
    [SHARED_MAKE] = {.flag = "level", .key = "level", .type = CONFIG_INTEGER, .fallback = "1", .help = "A level.", .commands = FOR_MAKE},
    [SHARED_SHOW] = {.flag = "level", .key = "level", .type = CONFIG_INTEGER, .fallback = "2", .help = "A level.", .commands = FOR_SHOW},
    [HIDDEN] = {.flag = "hidden", .type = CONFIG_INTEGER, .low = 1, .high = 9, .fallback = "0", .commands = FOR_MAKE},
};
static const config_table table = {"tool", options, OPTIONS, FILE_OPTION};
static const config_command make = {.name = "make", .bit = FOR_MAKE, .arguments = "WHAT [MORE]", .min_arguments = 0, .max_arguments = 2,
                                    .summary = "make things"};
static const config_command show = {.name = "show", .bit = FOR_SHOW, .arguments = "WHAT", .min_arguments = 1, .max_arguments = 1,
                                    .summary = "show things"};

static char path[64];

static void write_file(const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Loads with arguments split at '|' and variables split at '|'; path stands for the default file. */
static bool load(const config_command *command, const char *arguments, const char *variables, const char *file, config **out, error *e) {
    static char words[2][4096];
    static char *argv[64], *environment[64];
    char **lists[2] = {argv, environment};
    const char *texts[2] = {arguments, variables};
    int counts[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        snprintf(words[k], sizeof words[k], "%s", texts[k]);
        char *rest = words[k];
        while (rest[0] != '\0' && counts[k] < 63) {
            lists[k][counts[k]++] = rest;
            char *bar = strchr(rest, '|');
            if (bar == NULL) break;
            *bar = '\0';
            rest = bar + 1;
        }
        lists[k][counts[k]] = NULL;
    }
    unlink(path);
    if (file != NULL) write_file(file);
    return config_load(&table, command, &(config_sources){counts[0], argv, environment, path}, out, e);
}

static config *loaded(const config_command *command, const char *arguments, const char *variables, const char *file) {
    config *c = NULL;
    error e = {0};
    if (!load(command, arguments, variables, file, &c, &e)) fail_msg("%s", e.text);
    return c;
}

static void refused(const config_command *command, const char *arguments, const char *variables, const char *file, error_code code,
                    const char *text) {
    config *c = NULL;
    error e = {0};
    if (load(command, arguments, variables, file, &c, &e)) fail_msg("accepted: %s %s %s", arguments, variables, file != NULL ? file : "");
    assert_null(c);
    assert_int_equal(e.code, code);
    assert_true(utf8_valid(e.text, strlen(e.text), NULL));
    if (file == NULL) assert_string_equal(e.text, text);
    else { /* the place comes first */
        char with_path[600];
        snprintf(with_path, sizeof with_path, "%s:%s", path, text);
        assert_string_equal(e.text, with_path);
    }
}

static void defaults_stand_where_nothing_is_said(void **state) {
    (void)state;
    config *c = loaded(&make, "", "", NULL);
    assert_string_equal(config_text(c, NAME), "nobody");
    assert_string_equal(config_text(c, FILE_OPTION), "");
    assert_int_equal(config_integer(c, COUNT), 7);
    assert_true(config_real(c, SCALE) == 1.5);
    assert_string_equal(config_text(c, COLOUR), "red");
    assert_false(config_boolean(c, LOUD));
    assert_true(config_boolean(c, TIDY));
    assert_int_equal(config_integer(c, HIDDEN), 0); /* outside what may be written: "not given" */
    assert_int_equal(config_origin_of(c, COUNT), CONFIG_FROM_DEFAULT);
    assert_int_equal(config_argument_count(c), 0);
    assert_null(config_argument(c, 0));
    config_free(c);
    config_free(NULL);
}

/* All combinations of sources. */
static void flag_over_variable_over_file_over_default(void **state) {
    (void)state;
    for (int sources = 0; sources < 8; sources++) {
        config *c = loaded(&make, (sources & 4) != 0 ? "--count|4|--name=flag" : "", (sources & 2) != 0 ? "T_COUNT=2|T_NAME=variable" : "",
                           (sources & 1) != 0 ? "count = 1\nname = file\n" : NULL);
        int highest = (sources & 4) != 0 ? 4 : (sources & 2) != 0 ? 2 : (sources & 1) != 0 ? 1 : 7;
        assert_int_equal(config_integer(c, COUNT), highest);
        const char *name = highest == 4 ? "flag" : highest == 2 ? "variable" : highest == 1 ? "file" : "nobody";
        assert_string_equal(config_text(c, NAME), name);
        config_origin origin = highest == 4 ? CONFIG_FROM_FLAG : highest == 2 ? CONFIG_FROM_ENVIRONMENT : highest == 1 ? CONFIG_FROM_FILE : CONFIG_FROM_DEFAULT;
        assert_int_equal(config_origin_of(c, COUNT), origin);
        config_free(c);
    }
}

static void flags_take_every_form(void **state) {
    (void)state;
    config *c = loaded(&make, "--count=-3|first|-n|Ann|--scale|2.5e0|-l|--no-tidy|-oy.png|--|--second", "", NULL);
    assert_int_equal(config_integer(c, COUNT), -3);
    assert_string_equal(config_text(c, NAME), "Ann");
    assert_true(config_real(c, SCALE) == 2.5);
    assert_true(config_boolean(c, LOUD));
    assert_false(config_boolean(c, TIDY));
    assert_string_equal(config_text(c, KEYLESS), "y.png");
    assert_int_equal(config_argument_count(c), 2);
    assert_string_equal(config_argument(c, 0), "first");
    assert_string_equal(config_argument(c, 1), "--second");
    config_free(c);
    c = loaded(&make, "--count|-2|-|--loud=off|--name|-x|--name=--y|--colour|Dark Blue|--count|-1", "", NULL);
    assert_int_equal(config_integer(c, COUNT), -1); /* the last counts */
    assert_string_equal(config_argument(c, 0), "-");
    assert_false(config_boolean(c, LOUD));
    assert_string_equal(config_text(c, NAME), "--y");
    assert_string_equal(config_text(c, COLOUR), "dark blue"); /* as the table spells it */
    config_free(c);
    c = loaded(&make, "--name=", "T_NAME=x", NULL);
    assert_string_equal(config_text(c, NAME), "");
    config_free(c);
}

static void wrong_flags_are_named(void **state) {
    (void)state;
    refused(&make, "--cuont|3", "", NULL, ERROR_INVALID, "make has no option --cuont: did you mean --count?");
    refused(&make, "--cou|3", "", NULL, ERROR_INVALID, "make has no option --cou: did you mean --count?");
    refused(&make, "--page|3", "", NULL, ERROR_INVALID, "make has no option --page");
    refused(&make, "--xyzzy=3", "", NULL, ERROR_INVALID, "make has no option --xyzzy");
    refused(&make, "-z", "", NULL, ERROR_INVALID, "make has no option -z");
    refused(&make, "-lx", "", NULL, ERROR_INVALID, "make has no option -lx");
    refused(&make, "--no-count", "", NULL, ERROR_INVALID, "make has no option --no-count");
    refused(&make, "--hiden|1", "", NULL, ERROR_INVALID, "make has no option --hiden"); /* what is hidden is not suggested */
    refused(&make, "--\xFF\xFE", "", NULL, ERROR_INVALID, "make has no option --??");
    refused(&make, "--count", "", NULL, ERROR_INVALID, "--count needs a value");
    refused(&make, "-n", "", NULL, ERROR_INVALID, "-n needs a value");
    refused(&make, "--name|--loud", "", NULL, ERROR_INVALID, "--name needs a value (if it is --loud, write --name=--loud)");
    refused(&make, "--count|8x", "", NULL, ERROR_INVALID, "--count is '8x': it must be a whole number from -5 to 1000");
    refused(&make, "-c1001", "", NULL, ERROR_INVALID, "-c is '1001': it must be a whole number from -5 to 1000");
    refused(&make, "--loud=maybe", "", NULL, ERROR_INVALID, "--loud is 'maybe': it must be true or false");
    refused(&make, "--colour=blue", "", NULL, ERROR_INVALID, "--colour is 'blue': it must be one of red|green|dark blue");
    refused(&make, "a|b|c", "", NULL, ERROR_INVALID, "there is an argument too many: 'c' (put words that belong together in quotes)");
    refused(&show, "", "", NULL, ERROR_INVALID, "WHAT is missing");
    refused(&make, "--name|a\x01" "b", "", NULL, ERROR_INVALID, "--name has a control character or is not valid UTF-8");
}

static void numbers_are_read_strictly(void **state) {
    (void)state;
    static const char *const wrong[] = {"", " 1", "1 ", "1.0", "0x10", "1e2", "--1", "+", "9223372036854775808", "-9223372036854775809",
                                        "١"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char argument[64];
        config *c = NULL;
        snprintf(argument, sizeof argument, "x|--page=%s", wrong[i]);
        if (load(&show, argument, "", NULL, &c, NULL)) fail_msg("accepted '%s'", wrong[i]);
    }
    config *c = loaded(&show, "x|--page=-9223372036854775808", "", NULL); /* no range: all of them */
    assert_true(config_integer(c, SHOW_ONLY) == INT64_MIN);
    config_free(c);
    static const char *const wrong_reals[] = {"", "nan", "inf", "1e999", "0x1p3", "1,5", "-0.1", "10.1", ".", "e5", "1 "};
    for (size_t i = 0; i < sizeof wrong_reals / sizeof wrong_reals[0]; i++) {
        char argument[64];
        snprintf(argument, sizeof argument, "--scale=%s", wrong_reals[i]);
        if (load(&make, argument, "", NULL, &c, NULL)) fail_msg("accepted '%s'", wrong_reals[i]);
    }
    c = loaded(&make, "--scale=10", "", NULL);
    assert_true(config_real(c, SCALE) == 10.0);
    config_free(c);
}

static void variables_count_when_set_and_ours(void **state) {
    (void)state;
    config *c = loaded(&make, "", "T_COUNT=|T_PAGE=x|T_NAMES=other|T_NAME=ours|T_ONLY=3|T_LOUD=YES", NULL);
    assert_int_equal(config_integer(c, COUNT), 7); /* empty: unset */
    assert_string_equal(config_text(c, NAME), "ours");
    assert_int_equal(config_integer(c, VARIABLE_ONLY), 3);
    assert_true(config_boolean(c, LOUD));
    config_free(c);
    refused(&make, "", "T_COUNT=many", NULL, ERROR_INVALID, "T_COUNT is 'many': it must be a whole number from -5 to 1000");
    refused(&make, "--count=1", "T_COUNT=many", NULL, ERROR_INVALID, "T_COUNT is 'many': it must be a whole number from -5 to 1000");
}

static void files_are_read_as_documented(void **state) {
    (void)state;
    config *c = loaded(&make, "", "",
                       "\xEF\xBB\xBF# a comment\r\n\r\n  name =  a b # c\r\ncount\t=\t-3\nscale=.5\n"
                       "colour = 'dark blue' # quoted\npage = 4\nlevel = 9");
    assert_string_equal(config_text(c, NAME), "a b");
    assert_int_equal(config_integer(c, COUNT), -3);
    assert_true(config_real(c, SCALE) == 0.5);
    assert_string_equal(config_text(c, COLOUR), "dark blue");
    assert_int_equal(config_integer(c, SHARED_MAKE), 9);
    config_free(c);
    static const char *const values[][2] = {
        {"name = a#b", "a#b"},
        {"name = \"a # \\\"b\\\" \\\\ \\n\\t\"", "a # \"b\" \\ \n\t"},
        {"name = 'a \\n \"b\"'#", "a \\n \"b\""},
        {"name = \"\"", ""},
        {"name = \"\" # empty", ""},
        {"name = it's", "it's"},
        {"name = a = b", "a = b"},
        {"name = \"größe\"", "größe"},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        c = loaded(&make, "", "", values[i][0]);
        assert_string_equal(config_text(c, NAME), values[i][1]);
        assert_int_equal(config_origin_of(c, NAME), CONFIG_FROM_FILE);
        config_free(c);
    }
    c = loaded(&show, "x", "", "level = 5\ncount = 1\n"); /* one file for all commands */
    assert_int_equal(config_integer(c, SHARED_SHOW), 5);
    config_free(c);
    c = loaded(&make, "", "", "");
    config_free(c);
}

static void wrong_files_are_named_by_line(void **state) {
    (void)state;
    refused(&make, "", "", "\nname = x\ncuont = 3\n", ERROR_BAD_FILE, "3: there is no option 'cuont': did you mean 'count'?");
    refused(&make, "", "", "xyzzy = 3", ERROR_BAD_FILE, "1: there is no option 'xyzzy'");
    refused(&make, "", "", "T_COUNT = 3", ERROR_BAD_FILE, "1: there is no option 'T_COUNT': did you mean 'count'?");
    refused(&make, "", "", "output = x", ERROR_BAD_FILE, "1: there is no option 'output'"); /* a flag without a key */
    refused(&make, "", "", "count = 1\n\ncount = 2\n", ERROR_BAD_FILE, "3: 'count' was set before, in line 1");
    refused(&make, "", "", "count = 1e3", ERROR_BAD_FILE, "1: 'count' is '1e3': it must be a whole number from -5 to 1000");
    refused(&make, "--count=1", "", "count = 1e3", ERROR_BAD_FILE, "1: 'count' is '1e3': it must be a whole number from -5 to 1000");
    refused(&make, "", "", "page = x", ERROR_BAD_FILE, "1: 'page' is 'x': it must be a whole number"); /* another command's */
    refused(&make, "", "", "[server]\n", ERROR_BAD_FILE, "1: sections are not known here: write key = value");
    refused(&make, "", "", "name x\n", ERROR_BAD_FILE, "1: this is not of the form key = value");
    refused(&make, "", "", "na me = x\n", ERROR_BAD_FILE, "1: this is not of the form key = value");
    refused(&make, "", "", "= x\n", ERROR_BAD_FILE, "1: this is not of the form key = value");
    refused(&make, "", "", "name =\n", ERROR_BAD_FILE, "1: there is no value (an empty text is written \"\")");
    refused(&make, "", "", "name = # x\n", ERROR_BAD_FILE, "1: there is no value (an empty text is written \"\")");
    refused(&make, "", "", "name = \"x\n", ERROR_BAD_FILE, "1: the closing quote is missing");
    refused(&make, "", "", "name = 'x' y\n", ERROR_BAD_FILE, "1: something follows the closing quote");
    refused(&make, "", "", "name = \"\\x\"\n", ERROR_BAD_FILE, "1: after a backslash only \" \\ n t may stand (or use 'single quotes')");
    refused(&make, "", "", "name = \"x\\", ERROR_BAD_FILE, "1: after a backslash only \" \\ n t may stand (or use 'single quotes')");
    refused(&make, "", "", "name = \xFF\n", ERROR_BAD_FILE, "1: 'name' has a control character or is not valid UTF-8");
}

static void the_file_that_was_named_must_be_there(void **state) {
    (void)state;
    config *c = loaded(&make, "", "", NULL); /* the default one need not */
    config_free(c);
    refused(&make, "--config=/nonexistent/x", "", NULL, ERROR_NOT_FOUND,
            "the config file: cannot open /nonexistent/x: No such file or directory");
    refused(&make, "", "T_CONFIG=/nonexistent/x", NULL, ERROR_NOT_FOUND,
            "the config file: cannot open /nonexistent/x: No such file or directory");
    refused(&make, "--config=/", "", NULL, ERROR_BAD_FILE, "the config file: / is not a regular file");
    c = loaded(&make, "--config=", "", "count = x"); /* none, not even the default one */
    config_free(c);
    char other[80], arguments[128];
    snprintf(other, sizeof other, "%s.other", path);
    FILE *f = fopen(other, "w");
    assert_non_null(f);
    fputs("name = other\n", f);
    fclose(f);
    snprintf(arguments, sizeof arguments, "--config|%s", other);
    c = loaded(&make, arguments, "T_CONFIG=/nonexistent/x", "name = default");
    assert_string_equal(config_text(c, NAME), "other");
    config_free(c);
    unlink(other);
    FILE *nul = fopen(path, "w");
    assert_non_null(nul);
    fwrite("name = a\0b\n", 1, 11, nul);
    fclose(nul);
    error e = {0};
    char *argv[] = {NULL};
    assert_false(config_load(&table, &make, &(config_sources){0, argv, NULL, path}, &c, &e));
    assert_non_null(strstr(e.text, "NUL"));
}

static void help_wins_over_what_follows(void **state) {
    (void)state;
    config *c = loaded(&show, "--help|--nonsense", "T_PAGE=x", "nonsense");
    assert_true(config_help_wanted(c));
    config_free(c);
    c = loaded(&show, "-h", "", NULL);
    assert_true(config_help_wanted(c));
    config_free(c);
    c = loaded(&show, "--|-h", "", NULL);
    assert_false(config_help_wanted(c));
    config_free(c);
}

static char *printed(void (*print)(FILE *out)) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    print(out);
    fclose(out);
    return text;
}

static void print_make(FILE *out) { config_print_help(&table, &make, out); }
static void print_manual(FILE *out) { config_print_manual(&table, (const config_command *const[]){&make, &show}, 2, out); }

static void help_fits_eighty_columns(void **state) {
    (void)state;
    char *text = printed(print_make);
    static const char expected[] =
        "Usage: tool make [OPTIONS] WHAT [MORE]\n"
        "\n"
        "make things\n"
        "\n"
        "Options:\n"
        "  --config FILE             Read options from this file. [T_CONFIG]\n"
        "  -n, --name TEXT           A name. [nobody; T_NAME]\n"
        "  --colour red|green|dark blue\n"
        "                            A colour. [red; T_COLOUR]\n"
        "  -l, --loud                Speak up. [T_LOUD]\n"
        "  --no-tidy                 Clean up. [on]\n"
        "  T_ONLY=N                  No flag.\n"
        "  -o, --output TEXT         A file. [x.png]\n"
        "  --level N                 A level. [1]\n"
        "\n"
        "Numbers:\n"
        "  -c, --count N             How many of them there are to be; the text is long\n"
        "                            enough to be wrapped at the end of the line.\n"
        "                            [7; T_COUNT]\n"
        "  --scale X                 A factor. [1.5; T_SCALE]\n"
        "\n"
        "  -h, --help                Show this.\n"
        "\n"
        "In brackets: the default, and the environment variable that sets the same. Flags\n"
        "win over variables, those over the config file.\n";
    assert_string_equal(text, expected);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) assert_true(strcspn(line, "\n") <= 80);
    free(text);
}

static void the_manual_has_every_option_once(void **state) {
    (void)state;
    char *text = printed(print_manual);
    assert_non_null(strstr(text, "### Options\n\n| flag | variable | key | default | commands | |\n"));
    assert_non_null(strstr(text, "\n### Numbers\n"));
    assert_non_null(strstr(text, "| `-n, --name TEXT` | `T_NAME` | `name` | `nobody` | make, show | A name. |\n"));
    assert_non_null(strstr(text, "| `--colour red\\|green\\|dark blue` |"));
    assert_null(strstr(text, "hidden"));
    free(text);
}

static void near_words_are_suggested_and_far_ones_not(void **state) {
    (void)state;
    static const char *const words[] = {"serve", "generate", NULL, "models", "quantize", "bench"};
    assert_string_equal(config_nearest("sevre", words, 6), "serve");
    assert_string_equal(config_nearest("genrate", words, 6), "generate");
    assert_string_equal(config_nearest("gen", words, 6), "generate");
    assert_string_equal(config_nearest("model", words, 6), "models");
    assert_null(config_nearest("x", words, 6));
    assert_null(config_nearest("", words, 6));
    assert_null(config_nearest("daemonize", words, 6));
    char long_word[300];
    memset(long_word, 'a', 299);
    long_word[299] = '\0';
    assert_null(config_nearest(long_word, words, 6));
}

static void note(void *context, const char *name, const char *nearest) {
    char *told = context;
    sprintf(told + strlen(told), "%s>%s ", name, nearest != NULL ? nearest : "");
}

static void variables_that_are_none_are_told(void **state) {
    (void)state;
    static const char *const others[] = {"T_OTHER", NULL};
    static char words[][16] = {"T_NAME=x", "T_OTHER=", "TERM=T_NAMES=", "T_COUT=3", "T_WHATEVER=1", "T_=", "T_COLOR", "=T_SCAL="};
    char *environment[9] = {NULL};
    for (size_t i = 0; i < 8; i++) environment[i] = words[i];
    char told[200] = "";
    config_unknown_variables(&table, environment, "T_", others, note, told);
    assert_string_equal(told, "T_COUT>T_COUNT T_WHATEVER> T_> T_COLOR>T_COLOUR ");
    config_unknown_variables(&table, NULL, "T_", others, note, NULL);
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/imagined-config-%d", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_where_nothing_is_said),
        cmocka_unit_test(flag_over_variable_over_file_over_default),
        cmocka_unit_test(flags_take_every_form),
        cmocka_unit_test(wrong_flags_are_named),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(variables_count_when_set_and_ours),
        cmocka_unit_test(files_are_read_as_documented),
        cmocka_unit_test(wrong_files_are_named_by_line),
        cmocka_unit_test(the_file_that_was_named_must_be_there),
        cmocka_unit_test(help_wins_over_what_follows),
        cmocka_unit_test(help_fits_eighty_columns),
        cmocka_unit_test(the_manual_has_every_option_once),
        cmocka_unit_test(near_words_are_suggested_and_far_ones_not),
        cmocka_unit_test(variables_that_are_none_are_told),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
