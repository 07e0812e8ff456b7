/* Files are replaced, and nothing else is: a device or a pipe in their place is left alone, a link stays a link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"

static char folder[] = "/tmp/imagined-file-XXXXXX", path[80], other[80];

static int make(void **state) {
    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/a", folder);
    snprintf(other, sizeof other, "%s/b", folder);
    return 0;
}

static int clean(void **state) {
    (void)state;
    unlink(path);
    unlink(other);
    return rmdir(folder); /* fails where something was left beside them */
}

static void holds(const char *file, const char *text) {
    buffer b = {0};
    error e = {0};
    if (!file_read(file, 100, &b, &e)) fail_msg("%s", e.text);
    assert_string_equal(buffer_text(&b), text);
    buffer_free(&b);
}

static void a_file_is_made_and_replaced(void **state) {
    (void)state;
    error e = {0};
    assert_true(file_replace(path, "one", 3, &e));
    holds(path, "one");
    assert_true(file_replace(path, "two", 3, &e));
    holds(path, "two");
}

static void a_pipe_is_no_file_to_replace(void **state) {
    (void)state;
    struct stat info;
    error e = {0};
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(file_replace(path, "x", 1, &e));
    assert_int_equal(e.code, ERROR_INVALID);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
}

static void a_link_stays_and_its_file_is_replaced(void **state) {
    (void)state;
    struct stat info;
    error e = {0};
    assert_true(file_replace(other, "old", 3, &e));
    assert_int_equal(symlink(other, path), 0);
    assert_true(file_replace_private(path, "new", 3, &e));
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    holds(other, "new");
    assert_int_equal(lstat(other, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_made_and_replaced, make, clean),
        cmocka_unit_test_setup_teardown(a_pipe_is_no_file_to_replace, make, clean),
        cmocka_unit_test_setup_teardown(a_link_stays_and_its_file_is_replaced, make, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
