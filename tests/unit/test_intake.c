/* The pictures that one request brings: stored in their order before the request goes on, all or an error that says why not, and nothing
 * left behind when the client or the server leaves midway. Meant to run under TSan and ASan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/http/answer.h"
#include "server/requests/intake.h"
#include "upload_server.h"

enum { PICTURES = 4 };

typedef struct fixture {
    upload_server server;
    buffer files[PICTURES]; /* of widths 40, 41, … */
    buffer none;            /* no picture */
    bool stop_at_once; /* the loop ends with the first request */
    int dones, left;   /* calls of `brought`; those without an exchange */
} fixture;

/* Answers with the widths of what is stored, or why not. */
static void brought(struct services *s, http_exchange *x, const input *pictures, int count, const error *why, void *context) {
    fixture *f = context;
    f->dones++;
    f->left += x == NULL;
    assert_ptr_equal(s, &f->server.services);
    assert_true((pictures == NULL) == (why != NULL));
    if (why != NULL) assert_int_equal(count, 0);
    if (x == NULL) return;
    char text[256] = "";
    for (int i = 0; i < count; i++) {
        const input *kept = input_store_find(s->inputs, NULL, pictures[i].id);
        assert_non_null(kept);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d ", kept->info.width);
    }
    answer_text(x, why == NULL ? 200 : 422, "text/plain", why == NULL ? text : why->text);
}

/* The path names the pictures: "/012" the first three, "x" is none. */
static void handle(void *context, http_exchange *x) {
    fixture *f = context;
    const char *path = http_path(x) + 1;
    error e = {0};
    if (strcmp(path, "stop") == 0) {
        loop_stop(f->server.loop);
        answer_empty(x, 204);
        return;
    }
    int count = (int)strlen(path);
    buffer *pictures = calloc((size_t)count + 1, sizeof *pictures);
    for (int i = 0; i < count; i++) {
        const buffer *file = path[i] == 'x' ? &f->none : &f->files[path[i] - '0'];
        buffer_append(&pictures[i], file->data, file->size);
    }
    int before = f->dones;
    bool ok = intake_add(&f->server.services, x, pictures, count, brought, f, &e);
    for (int i = 0; i < count; i++) assert_null(pictures[i].data); /* taken, whatever happened */
    free(pictures);
    if (!ok) assert_int_equal(f->dones, before);
    if (!ok) answer_text(x, e.code == ERROR_TOO_LARGE ? 413 : 503, "text/plain", e.text);
    if (f->stop_at_once) loop_stop(f->server.loop);
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    upload_server_start(&f->server, handle, f);
    for (int n = 0; n < PICTURES; n++) upload_picture(40 + n, 30, IMAGE_PNG, &f->files[n]);
    buffer_append_text(&f->none, "no picture");
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    int result = upload_server_free(&f->server);
    for (int n = 0; n < PICTURES; n++) buffer_free(&f->files[n]);
    buffer_free(&f->none);
    free(f);
    return result;
}

enum { REQUESTS = 3 };

/* Sends requests one after the other, takes their answers and stops the loop, which runs only once. */
typedef struct client {
    fixture *f;
    const char *paths[REQUESTS]; /* NULL: no more */
    bool leaves;                 /* before the first answer */
    int statuses[REQUESTS];
    char answers[REQUESTS][1024]; /* head and body */
    pthread_t thread;
} client;

static void *ask(void *context) {
    client *c = context;
    for (int i = 0; i < REQUESTS && c->paths[i] != NULL; i++) {
        char *answer = c->answers[i];
        int s = upload_server_post(&c->f->server, c->paths[i], &(buffer){0});
        size_t got = 0, room = sizeof c->answers[i] - 1;
        for (ssize_t n; !(c->leaves && i == 0) && got < room && (n = recv(s, answer + got, room - got, 0)) > 0;) got += (size_t)n;
        answer[got] = '\0';
        c->statuses[i] = got > 0 ? atoi(answer + strlen("HTTP/1.1 ")) : 0;
        close(s);
    }
    close(upload_server_post(&c->f->server, "stop", &(buffer){0}));
    return NULL;
}

static void run(fixture *f, client *c) {
    c->f = f;
    assert_int_equal(pthread_create(&c->thread, NULL, ask, c), 0);
    loop_run(f->server.loop);
    pthread_join(c->thread, NULL);
}

static const char *body_of(const client *c, int request) {
    const char *begin = strstr(c->answers[request], "\r\n\r\n");
    return begin != NULL ? begin + 4 : "";
}

static void all_are_stored_in_their_order(void **state) {
    fixture *f = *state;
    client c = {.paths = {"3120"}};
    run(f, &c);
    assert_int_equal(c.statuses[0], 200);
    assert_string_equal(body_of(&c, 0), "43 41 42 40 ");
    assert_int_equal(input_store_count(f->server.services.inputs), 4);
    assert_int_equal(f->dones, 1);
}

/* The same picture again and again, as often as may be, and once more. */
static void as_many_as_are_allowed(void **state) {
    fixture *f = *state;
    char most[INTAKE_MAX + 1] = "", more[INTAKE_MAX + 2] = "";
    memset(most, '2', INTAKE_MAX);
    memset(more, '1', INTAKE_MAX + 1);
    client c = {.paths = {most, more}};
    run(f, &c);
    assert_int_equal(c.statuses[0], 200);
    assert_int_equal(strlen(body_of(&c, 0)), 3 * INTAKE_MAX);
    assert_int_equal(c.statuses[1], 413);
    assert_non_null(strstr(body_of(&c, 1), "19 pictures"));
    assert_int_equal(f->dones, 1);
    assert_int_equal(input_store_count(f->server.services.inputs), 1);
}

static void one_that_is_refused_stops_it(void **state) {
    fixture *f = *state;
    client c = {.paths = {"01x3", "x"}};
    run(f, &c);
    assert_int_equal(c.statuses[0], 422);
    assert_int_equal(c.statuses[1], 422);
    assert_int_not_equal(strlen(body_of(&c, 0)), 0);
    assert_int_equal(f->dones, 2);
    assert_int_equal(input_store_count(f->server.services.inputs), 2); /* those before; that behind it never came to be */
}

/* What is kept is bounded, and nobody holds the first while the second is stored. */
static void those_that_found_no_room_beside_each_other_are_an_error(void **state) {
    fixture *f = *state;
    error e;
    uploads_free(f->server.services.uploads);
    assert_true(uploads_new(f->server.loop, &f->server.services, &(input_limits){.bytes = f->files[0].size + f->files[1].size - 1},
                            &f->server.services.uploads, &e));
    client c = {.paths = {"01", "00"}};
    run(f, &c);
    assert_int_equal(c.statuses[0], 422);
    assert_non_null(strstr(body_of(&c, 0), "room"));
    assert_int_equal(c.statuses[1], 200); /* twice the same is one */
    assert_int_equal(f->dones, 2);
}

static void none_is_all_of_none(void **state) {
    fixture *f = *state;
    client c = {.paths = {""}};
    run(f, &c);
    assert_int_equal(c.statuses[0], 200);
    assert_string_equal(body_of(&c, 0), "");
    assert_int_equal(f->dones, 1);
}

/* The pictures are so large that the client's end is seen long before the last is stored; others are served meanwhile. */
static void a_client_that_leaves_midway_is_not_waited_for(void **state) {
    fixture *f = *state;
    char path[INTAKE_MAX + 1];
    for (int n = 0; n < PICTURES; n++) {
        buffer_free(&f->files[n]);
        upload_picture(1500 + n, 1000, IMAGE_PNG, &f->files[n]);
    }
    for (int i = 0; i < INTAKE_MAX; i++) path[i] = (char)('0' + i % PICTURES);
    path[INTAKE_MAX] = '\0';
    client c = {.paths = {path, "0", "1"}, .leaves = true};
    run(f, &c);
    assert_int_equal(c.statuses[0], 0);
    assert_int_equal(c.statuses[1], 200);
    assert_int_equal(c.statuses[2], 200);
    assert_int_equal(f->dones, 3);
    assert_int_equal(f->left, 1);
}

static void the_servers_end_tells_once(void **state) {
    fixture *f = *state;
    f->stop_at_once = true;
    int s = upload_server_post(&f->server, "0123", &(buffer){0});
    loop_run(f->server.loop);
    assert_int_equal(f->dones, 0);
    upload_server_end(&f->server);
    assert_int_equal(f->dones, 1);
    assert_int_equal(f->left, 1);
    close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_are_stored_in_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_many_as_are_allowed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_refused_stops_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(those_that_found_no_room_beside_each_other_are_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(none_is_all_of_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_midway_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_servers_end_tells_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
