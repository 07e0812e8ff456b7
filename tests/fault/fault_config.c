/* Options when memory runs out at any point of their loading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/config.h"
#include "fault.h"

enum { NAME, COUNT, COLOUR, OPTIONS };
static const config_option options[OPTIONS] = {
    [NAME] = {.flag = "name", .environment = "T_NAME", .key = "name", .fallback = "nobody", .help = "A name.", .commands = 1},
    [COUNT] = {.flag = "count", .key = "count", .type = CONFIG_INTEGER, .help = "A number.", .commands = 1},
    [COLOUR] = {.flag = "colour", .key = "colour", .type = CONFIG_CHOICE, .choices = "red|green", .help = "A colour.", .commands = 1},
};
static const config_table table = {"tool", options, OPTIONS, -1};
static const config_command command = {.name = "make", .bit = 1, .max_arguments = 3};

typedef struct input {
    int argc;
    const char *const *argv;
    char path[64];
} input;

static bool load(void *context, error *e) {
    const input *in = context;
    static char variable[] = "T_NAME=a name", *environment[] = {variable, NULL};
    config *c = NULL;
    if (!config_load(&table, &command, &(config_sources){in->argc, (char **)in->argv, environment, in->path}, &c, e)) return false;
    assert_string_equal(config_text(c, NAME), "a name");
    config_free(c);
    return true;
}

/* Long enough that the texts need a second block of the arena. */
static void make_file(input *in, int fd, const char *line) {
    char text[70000];
    memset(text, '#', sizeof text);
    size_t n = strlen(line);
    memcpy(text, line, n);
    memcpy(text + n, "name = ", 7);
    memset(text + n + 7, 'x', 60000);
    text[n + 7 + 60000] = '\n';
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    snprintf(in->path, sizeof in->path, "/proc/self/fd/%d", fd);
}

static void loading_fails_cleanly(void **state) {
    (void)state;
    static const char *const argv[] = {"--count=3", "one", "--colour", "green", "two"};
    int fd = memfd_create("config", MFD_CLOEXEC);
    input in = {.argc = 5, .argv = argv};
    make_file(&in, fd, "count = 2\n");
    assert_true(fault_fail_each(load, &in) >= 3);
    close(fd);
}

/* A complaint is worth more than its suggestion: it comes without, when there is no memory for that. */
static void a_complaint_survives(void **state) {
    (void)state;
    static const char *const argv[] = {"--cuont=3"};
    input in = {.argc = 1, .argv = argv};
    assert_true(fault_survive_each(load, &in) >= 2);
    int fd = memfd_create("config", MFD_CLOEXEC);
    in.argc = 0;
    make_file(&in, fd, "cuont = 2\n");
    assert_true(fault_survive_each(load, &in) >= 3);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(loading_fails_cleanly), cmocka_unit_test(a_complaint_survives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
