/* Config files from mutated and random bytes: never a crash, a complaint is one sentence of valid UTF-8 that names file and line, and what
 * is accepted lies within its range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/config.h"
#include "base/utf8.h"
#include "mutate.h"

enum { NAME, COUNT, SCALE, COLOUR, LOUD, OPTIONS };
static const config_option options[OPTIONS] = {
    [NAME] = {.flag = "name", .letter = 'n', .key = "name", .help = "A name.", .commands = 1},
    [COUNT] = {.flag = "count", .key = "count", .type = CONFIG_INTEGER, .low = -5, .high = 1000, .help = "A number.", .commands = 1},
    [SCALE] = {.flag = "scale", .key = "scale", .type = CONFIG_REAL, .low = 0, .high = 10, .help = "A factor.", .commands = 1},
    [COLOUR] = {.flag = "colour", .key = "colour", .type = CONFIG_CHOICE, .choices = "red|green", .help = "A colour.", .commands = 1},
    [LOUD] = {.flag = "loud", .letter = 'l', .key = "loud", .type = CONFIG_BOOLEAN, .help = "Speak up.", .commands = 1},
};
static const config_table table = {"tool", options, OPTIONS, -1};
static const config_command command = {.name = "", .bit = 1, .max_arguments = 3};

static int accepted;

static void check(int argc, char **argv, const char *path, const char *place) {
    config *c = NULL;
    error e = {0};
    if (!config_load(&table, &command, &(config_sources){argc, argv, NULL, path}, &c, &e)) {
        assert_null(c);
        assert_int_not_equal(e.code, ERROR_NONE);
        assert_true(e.text[0] != '\0' && utf8_valid(e.text, strlen(e.text), NULL));
        assert_null(strchr(e.text, '\n'));
        if (place != NULL) assert_int_equal(strncmp(e.text, place, strlen(place)), 0);
        return;
    }
    accepted++;
    assert_in_range(config_integer(c, COUNT) + 5, 0, 1005);
    assert_true(config_real(c, SCALE) >= 0 && config_real(c, SCALE) <= 10);
    assert_true(strcmp(config_text(c, COLOUR), "red") == 0 || strcmp(config_text(c, COLOUR), "green") == 0);
    assert_true(utf8_valid(config_text(c, NAME), strlen(config_text(c, NAME)), NULL));
    config_free(c);
}

static size_t mutate(uint64_t *random, char *text, size_t size, size_t capacity) {
    static const char pieces[] = "=#\"'\\\n\r\t \0-.e09[]\xC3\xFF\xEF\xBB\xBF";
    int changes = (int)(next_random(random) % 6);
    for (int i = 0; i < changes && size > 0; i++) {
        size_t at = next_random(random) % size;
        switch (next_random(random) % 4) {
        case 0: text[at] = (char)next_random(random); break;
        case 1: text[at] = pieces[next_random(random) % (sizeof pieces - 1)]; break;
        case 2:
            if (size == capacity) break;
            memmove(text + at + 1, text + at, size - at);
            text[at] = pieces[next_random(random) % (sizeof pieces - 1)];
            size++;
            break;
        default:
            memmove(text + at, text + at + 1, size - at - 1);
            size--;
        }
    }
    return size;
}

static void files_of_any_bytes(void **state) {
    (void)state;
    static const char seed[] =
        "# all there is\nname = \"a \\\"b\\\" # c\"\ncount = 12 # twelve\nscale=0.5\r\ncolour = 'green'\n\n\tloud = yes";
    uint64_t random = 1;
    accepted = 0;
    int fd = memfd_create("config", MFD_CLOEXEC);
    assert_true(fd >= 0);
    char path[64], place[80], text[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    snprintf(place, sizeof place, "%s", path);
    for (int i = 0; i < 20000; i++) {
        size_t size = sizeof seed - 1;
        memcpy(text, seed, size);
        if (i % 4 == 3)
            for (size_t k = 0; k < size; k++) text[k] = (char)next_random(&random);
        size = mutate(&random, text, size, sizeof text);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, text, size, 0), (ssize_t)size);
        check(0, NULL, path, place);
    }
    assert_true(accepted > 2000); /* or nothing but refusals was tried */
    close(fd);
}

static void arguments_of_any_bytes(void **state) {
    (void)state;
    static const char *const words[] = {"--name",    "--name=x", "-nx", "-n", "--count", "-3",       "--count=12", "--scale=0.5",  "--loud",
                                        "--no-loud", "-l",       "--",  "-",  "word",    "--colour", "green",      "--colour=red", ""};
    uint64_t random = 2;
    accepted = 0;
    for (int i = 0; i < 20000; i++) {
        static char copies[6][64];
        char *argv[6];
        int argc = (int)(next_random(&random) % 6);
        for (int k = 0; k < argc; k++) {
            size_t size = (size_t)snprintf(copies[k], 48, "%s", words[next_random(&random) % (sizeof words / sizeof words[0])]);
            if (next_random(&random) % 4 == 0) size = mutate(&random, copies[k], size, 48);
            copies[k][size] = '\0';
            argv[k] = copies[k];
        }
        check(argc, argv, NULL, NULL);
    }
    assert_true(accepted > 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_of_any_bytes), cmocka_unit_test(arguments_of_any_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
