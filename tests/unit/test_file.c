/* Files are replaced, and nothing else is: a device or a pipe in their place is left alone, a link stays a link. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

static bool is_link(const char *name) {
    struct stat info;
    return lstat(name, &info) == 0 && S_ISLNK(info.st_mode);
}

static void a_link_stays_and_its_file_is_replaced(void **state) {
    (void)state;
    struct stat info;
    error e = {0};
    assert_true(file_replace(other, "old", 3, &e));
    assert_int_equal(symlink(other, path), 0);
    assert_true(file_replace_private(path, "new", 3, &e));
    assert_true(is_link(path));
    holds(other, "new");
    assert_int_equal(lstat(other, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void a_link_to_what_is_not_there_yet_stays_and_its_file_is_made(void **state) {
    (void)state;
    char target[100];
    error e = {0};
    snprintf(target, sizeof target, "../%s/b", strrchr(folder, '/') + 1); /* from the link's folder, not from this process's */
    assert_int_equal(symlink(target, path), 0);
    if (!file_replace(path, "new", 3, &e)) fail_msg("%s", e.text);
    assert_true(is_link(path));
    holds(other, "new");
}

static void a_link_to_a_link_is_followed_to_the_end(void **state) {
    (void)state;
    char middle[100], last[100];
    error e = {0};
    snprintf(middle, sizeof middle, "%s/d", folder);
    assert_int_equal(mkdir(middle, 0700), 0);
    snprintf(last, sizeof last, "%s/d/link", folder);
    assert_int_equal(symlink("../b", last), 0);
    assert_int_equal(symlink("d/link", path), 0);
    bool ok = file_replace(path, "new", 3, &e), links = is_link(path) && is_link(last);
    unlink(last);
    rmdir(middle);
    if (!ok) fail_msg("%s", e.text);
    assert_true(links);
    holds(other, "new");
}

static void a_link_that_leads_nowhere_is_an_error_and_stays(void **state) {
    (void)state;
    static const char *const targets[] = {"a", "b/c", "/proc/version/x", "/nowhere/x"}; /* a circle, no folder, twice */
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        error e = {0};
        assert_int_equal(symlink(targets[i], path), 0);
        assert_false(file_replace(path, "x", 1, &e));
        assert_true(is_link(path));
        if (strstr(e.text, path) == NULL || strstr(e.text, "link") == NULL || strstr(e.text, "name another") == NULL)
            fail_msg("no remedy in: %s", e.text);
        unlink(path);
    }
}

/* The link of a descriptor in /proc names a file that is there under that name no more. */
static void a_file_without_a_name_is_an_error(void **state) {
    (void)state;
    char descriptor[40];
    error e = {0};
    assert_true(file_replace(path, "x", 1, &e));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    snprintf(descriptor, sizeof descriptor, "/proc/self/fd/%d", fd);
    assert_false(file_replace(descriptor, "y", 1, &e));
    assert_non_null(strstr(e.text, descriptor));
    assert_non_null(strstr(e.text, "name another"));
    close(fd);
}

/* In /tmp anybody may have laid a link under the name of the file that is to become the new one. */
static void a_link_in_the_temporary_files_place_is_not_followed(void **state) {
    (void)state;
    char temporary[120];
    error e = {0};
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    assert_true(file_replace(other, "mine", 4, &e));
    assert_int_equal(symlink(other, temporary), 0);
    if (!file_replace(path, "new", 3, &e)) fail_msg("%s", e.text);
    holds(other, "mine");
    holds(path, "new");
    assert_false(is_link(path));
    /* And what is no file stays there, and is named. */
    assert_int_equal(mkdir(temporary, 0700), 0);
    assert_false(file_replace(path, "newer", 5, &e));
    assert_int_equal(rmdir(temporary), 0);
    assert_non_null(strstr(e.text, temporary));
    holds(path, "new");
}

static mode_t mode_of(const char *file) {
    struct stat info;
    assert_int_equal(stat(file, &info), 0);
    return info.st_mode & 07777;
}

/* A picture that only its owner may read does not become everybody's, nor one that is shared its owner's alone. */
static void a_file_that_is_replaced_keeps_its_mode(void **state) {
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0664, 0400};
    error e = {0};
    mode_t before = umask(022);
    bool ok = file_replace(path, "one", 3, &e);
    umask(before);
    assert_true(ok);
    assert_int_equal(mode_of(path), 0644);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_true(file_replace(path, "two", 3, &e));
        assert_int_equal(mode_of(path), modes[i]);
    }
}

/* Only root can bring either about: it leaves others' files theirs, and who cannot leave a file its group gives that to no other. */
static void a_file_that_is_replaced_keeps_its_owner_where_it_can(void **state) {
    (void)state;
    struct stat info;
    error e = {0};
    if (geteuid() != 0) skip();
    assert_true(file_replace(path, "one", 3, &e));
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(chown(path, 12345, 12346), 0);
    assert_true(file_replace(path, "two", 3, &e));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_uid, 12345);
    assert_int_equal(info.st_gid, 12346);
    assert_int_equal(info.st_mode & 07777, 0640);

    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(setegid(12347), 0);
    assert_int_equal(seteuid(12348), 0);
    bool ok = file_replace(path, "three", 5, &e);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    if (!ok) fail_msg("%s", e.text);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_uid, 12348);
    assert_int_equal(info.st_mode & 07777, 0600);
}

/* Whoever gives a pipe to be written to may have it so that it never blocks, as node and ssh do. */
static void a_pipe_that_does_not_block_is_waited_for(void **state) {
    (void)state;
    enum { SIZE = 1 << 20 };
    int ends[2], status;
    error e = {0};
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_WRONLY | O_NONBLOCK), 0);
    pid_t reader = fork();
    assert_true(reader >= 0);
    if (reader == 0) {
        char piece[4096];
        size_t seen = 0;
        ssize_t n;
        close(ends[1]);
        while ((n = read(ends[0], piece, sizeof piece)) > 0)
            for (ssize_t i = 0; i < n; i++, seen++)
                if (piece[i] != (char)(seen % 251)) _exit(2);
        _exit(n == 0 && seen == SIZE ? 0 : 1);
    }
    close(ends[0]);
    char *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++) bytes[i] = (char)(i % 251);
    bool ok = file_write_all(ends[1], "the pipe", bytes, SIZE, &e);
    free(bytes);
    close(ends[1]);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    if (!ok) fail_msg("%s", e.text);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_made_and_replaced, make, clean),
        cmocka_unit_test_setup_teardown(a_pipe_is_no_file_to_replace, make, clean),
        cmocka_unit_test_setup_teardown(a_link_stays_and_its_file_is_replaced, make, clean),
        cmocka_unit_test_setup_teardown(a_link_to_what_is_not_there_yet_stays_and_its_file_is_made, make, clean),
        cmocka_unit_test_setup_teardown(a_link_to_a_link_is_followed_to_the_end, make, clean),
        cmocka_unit_test_setup_teardown(a_link_that_leads_nowhere_is_an_error_and_stays, make, clean),
        cmocka_unit_test_setup_teardown(a_file_without_a_name_is_an_error, make, clean),
        cmocka_unit_test_setup_teardown(a_link_in_the_temporary_files_place_is_not_followed, make, clean),
        cmocka_unit_test_setup_teardown(a_file_that_is_replaced_keeps_its_mode, make, clean),
        cmocka_unit_test_setup_teardown(a_file_that_is_replaced_keeps_its_owner_where_it_can, make, clean),
        cmocka_unit_test(a_pipe_that_does_not_block_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
