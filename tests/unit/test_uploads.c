/* Uploads from many clients at once, through the worker's thread, some in base 64: each is answered once with what became of it, those that
 * leave are not, and ending it with pictures waiting leaks nothing. Meant to run under TSan and ASan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base64.h"
#include "server/http/answer.h"
#include "server/requests/intake.h"
#include "upload_server.h"

enum { CLIENTS = 4, EACH = 12, PICTURES = 5 };

/* What was looked at, and what became of it. */
static struct {
    int seen, refused, left;
} looks;

typedef struct fixture {
    upload_server server;
    buffer files[PICTURES + 1]; /* the last is none */
    buffer texts[PICTURES + 1]; /* the same in base 64, as data: URLs */
    int stop_after;             /* so many uploads */
    int taken, stored, refused; /* the loop's */
    atomic_int heard;           /* answers that clients got */
} fixture;

static void answer(struct services *s, http_exchange *x, const input *i, const error *why, void *context) {
    fixture *running = context;
    if (x == NULL) return;
    assert_true((i == NULL) == (why != NULL));
    if (i != NULL) running->stored++;
    else running->refused++;
    if (i != NULL) assert_ptr_equal(input_store_find(s->inputs, NULL, i->id), i);
    answer_text(x, i != NULL ? 201 : 422, "text/plain", i != NULL ? i->id : why->text);
}

static void looked(struct services *s, http_exchange *x, const buffer *found, const error *why) {
    (void)s;
    if (x == NULL) looks.left++;
    else if (why == NULL) looks.seen++;
    else looks.refused++;
    if (x == NULL) return;
    if (why == NULL) assert_non_null(memmem(buffer_text(found), found->size, "picture", 7));
    answer_text(x, why == NULL ? 200 : 422, "text/plain", "");
}

static void handle(void *context, http_exchange *x) {
    fixture *f = context;
    buffer body;
    error e = {0};
    if (strcmp(http_path(x), "/stop") == 0) {
        loop_stop(f->server.loop);
        answer_empty(x, 204);
        return;
    }
    http_take_request_body(x, &body);
    size_t size = body.size;
    if (strcmp(http_path(x), "/look") == 0) assert_true(uploads_look(f->server.services.uploads, x, &body, intake_from_base64, looked, &e));
    else if (strcmp(http_path(x), "/base64") == 0)
        assert_true(uploads_add_prepared(f->server.services.uploads, x, &body, intake_from_base64, answer, f, &e));
    else assert_true(uploads_add(f->server.services.uploads, x, &body, 0, size, answer, f, &e));
    assert_null(body.data);
    if (++f->taken == f->stop_after) loop_stop(f->server.loop);
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    upload_server_start(&f->server, handle, f);
    for (int n = 0; n < PICTURES; n++) upload_picture(40 + n, 30, (image_format)(n % IMAGE_FORMATS), &f->files[n]);
    buffer_append_text(&f->files[PICTURES], "no picture");
    for (int n = 0; n <= PICTURES; n++) {
        buffer_append_text(&f->texts[n], "data:image/png;base64,");
        base64_encode((const uint8_t *)f->files[n].data, f->files[n].size, buffer_reserve(&f->texts[n], BASE64_SIZE(f->files[n].size)));
        f->texts[n].size += BASE64_SIZE(f->files[n].size);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    int result = upload_server_free(&f->server);
    for (int n = 0; n <= PICTURES; n++) {
        buffer_free(&f->files[n]);
        buffer_free(&f->texts[n]);
    }
    free(f);
    return result;
}

/* Sends a request; gives the status of its answer where it waits for one. */
static int request(const fixture *f, const char *path, const buffer *body, bool wait) {
    char text[16] = "";
    int s = upload_server_post(&f->server, path, body), status = 0;
    if (wait && recv(s, text, sizeof text - 1, MSG_WAITALL) == (ssize_t)sizeof text - 1) status = atoi(text + 9);
    close(s);
    return status;
}

typedef struct client {
    fixture *f;
    int number;
    bool leaves; /* before its answers */
    pthread_t thread;
} client;

static void *bring(void *context) {
    client *c = context;
    for (int k = 0; k < EACH; k++) {
        int n = (c->number + k) % (PICTURES + 1);
        bool text = c->number % 2 == 1;
        int status = request(c->f, text ? "base64" : "", text ? &c->f->texts[n] : &c->f->files[n], !c->leaves);
        if (!c->leaves && status == (n == PICTURES ? 422 : 201)) atomic_fetch_add(&c->f->heard, 1);
    }
    return NULL;
}

static void *bring_all(void *context) {
    fixture *f = context;
    client clients[CLIENTS];
    for (int n = 0; n < CLIENTS; n++) {
        clients[n] = (client){.f = f, .number = n};
        pthread_create(&clients[n].thread, NULL, bring, &clients[n]);
    }
    for (int n = 0; n < CLIENTS; n++) pthread_join(clients[n].thread, NULL);
    request(f, "stop", &(buffer){0}, true);
    return NULL;
}

/* The loop's end closes what is open. */
static void end_all(fixture *f) {
    upload_server_end(&f->server);
    loop_free(f->server.loop);
    f->server.loop = NULL;
}

static void each_upload_is_answered_once(void **state) {
    fixture *f = *state;
    pthread_t all;
    assert_int_equal(pthread_create(&all, NULL, bring_all, f), 0);
    loop_run(f->server.loop);
    int expected_refused = 0;
    for (int n = 0; n < CLIENTS; n++)
        for (int k = 0; k < EACH; k++) expected_refused += (n + k) % (PICTURES + 1) == PICTURES;
    assert_int_equal(f->stored + f->refused, CLIENTS * EACH);
    assert_int_equal(f->refused, expected_refused);
    assert_int_equal(input_store_count(f->server.services.inputs), PICTURES);
    end_all(f); /* the last client may still wait for its end */
    pthread_join(all, NULL);
    assert_int_equal(atomic_load(&f->heard), CLIENTS * EACH);
}

static void *look_at_all(void *context) {
    fixture *f = context;
    buffer none = {0};
    buffer_append_text(&none, "!");
    assert_int_equal(request(f, "look", &f->texts[PICTURES], true), 200);
    assert_int_equal(request(f, "look", &none, true), 422);
    request(f, "look", &f->texts[PICTURES], false);
    request(f, "stop", &(buffer){0}, true);
    buffer_free(&none);
    return NULL;
}

static void what_is_only_looked_at_is_not_stored(void **state) {
    fixture *f = *state;
    pthread_t all;
    assert_int_equal(pthread_create(&all, NULL, look_at_all, f), 0);
    loop_run(f->server.loop);
    end_all(f);
    pthread_join(all, NULL);
    assert_int_equal(looks.refused, 1);
    assert_int_equal(looks.seen + looks.left, 2);
    assert_int_equal(input_store_count(f->server.services.inputs), 0);
}

static void ending_drops_what_waits(void **state) {
    fixture *f = *state;
    f->stop_after = EACH;
    client leaving = {.f = f, .number = 0, .leaves = true}, other = {.f = f, .number = 1, .leaves = true};
    assert_int_equal(pthread_create(&leaving.thread, NULL, bring, &leaving), 0);
    assert_int_equal(pthread_create(&other.thread, NULL, bring, &other), 0);
    loop_run(f->server.loop);
    pthread_join(leaving.thread, NULL);
    pthread_join(other.thread, NULL);
    assert_true(f->stored + f->refused <= 2 * EACH);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_upload_is_answered_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_only_looked_at_is_not_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ending_drops_what_waits, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
