/* Uploads from many clients at once, through the worker's thread, some in base 64: each is answered once with what became of it, those that leave are not, and ending it with
 * pictures waiting leaks nothing. Meant to run under TSan and ASan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base64.h"
#include "server/answer.h"
#include "server/intake.h"
#include "server/services.h"

enum { CLIENTS = 4, EACH = 12, PICTURES = 5 };

/* What was looked at, and what became of it. */
static struct {
    int seen, refused, left;
} looks;

typedef struct fixture {
    char folder[64];
    services services;
    loop *loop;
    http_server *http;
    buffer files[PICTURES + 1]; /* the last is none */
    buffer texts[PICTURES + 1]; /* the same in base 64, as data: URLs */
    int port, stop_after;       /* so many uploads */
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
        loop_stop(f->loop);
        answer_empty(x, 204);
        return;
    }
    http_take_request_body(x, &body);
    size_t size = body.size;
    if (strcmp(http_path(x), "/look") == 0) assert_true(uploads_look(f->services.uploads, x, &body, intake_from_base64, looked, &e));
    else if (strcmp(http_path(x), "/base64") == 0) assert_true(uploads_add_prepared(f->services.uploads, x, &body, intake_from_base64, answer, f, &e));
    else assert_true(uploads_add(f->services.uploads, x, &body, 0, size, answer, f, &e));
    assert_null(body.data);
    if (++f->taken == f->stop_after) loop_stop(f->loop);
}

static void refuse(void *context, http_exchange *x, int status, const error *why) {
    (void)context;
    answer_text(x, status, "text/plain", why->text);
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    error e;
    snprintf(f->folder, sizeof f->folder, "/tmp/imagined-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_true(loop_new(&f->loop, &e) && http_server_new(f->loop, "127.0.0.1:0", handle, refuse, f, &f->http, &e));
    assert_true(input_store_new(f->folder, &f->services.inputs, &e));
    assert_true(uploads_new(f->loop, &f->services, &(input_limits){0}, &f->services.uploads, &e));
    f->port = atoi(strrchr(http_server_address(f->http), ':') + 1);
    for (int n = 0; n < PICTURES; n++) {
        image i;
        assert_true(image_new(40 + n, 30, 3, &i, &e));
        memset(i.pixels, n, (size_t)(40 + n) * 30 * 3);
        assert_true(image_encode(&i, (image_format)(n % IMAGE_FORMATS), 80, NULL, &f->files[n], &e));
        image_free(&i);
    }
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
    char command[128];
    http_server_free(f->http);
    uploads_free(f->services.uploads);
    input_store_free(f->services.inputs);
    loop_free(f->loop);
    for (int n = 0; n <= PICTURES; n++) {
        buffer_free(&f->files[n]);
        buffer_free(&f->texts[n]);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    free(f);
    return system(command);
}

/* Sends a request; gives the status of its answer where it waits for one. */
static int request(const fixture *f, const char *path, const buffer *body, bool wait) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[160], text[16] = "";
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
    assert_int_equal(connect(s, (struct sockaddr *)&to, sizeof to), 0);
    int n = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %zu\r\n\r\n", path, body->size);
    assert_int_equal(send(s, head, (size_t)n, MSG_NOSIGNAL), n);
    if (body->size > 0) assert_int_equal(send(s, body->data, body->size, MSG_NOSIGNAL), body->size);
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
        int status = request(c->f, text ? "/base64" : "/", text ? &c->f->texts[n] : &c->f->files[n], !c->leaves);
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
    request(f, "/stop", &(buffer){0}, true);
    return NULL;
}

static void each_upload_is_answered_once(void **state) {
    fixture *f = *state;
    pthread_t all;
    assert_int_equal(pthread_create(&all, NULL, bring_all, f), 0);
    loop_run(f->loop);
    http_server_free(f->http); /* the last client may still wait for its end */
    f->http = NULL;
    int expected_refused = 0;
    for (int n = 0; n < CLIENTS; n++)
        for (int k = 0; k < EACH; k++) expected_refused += (n + k) % (PICTURES + 1) == PICTURES;
    assert_int_equal(f->stored + f->refused, CLIENTS * EACH);
    assert_int_equal(f->refused, expected_refused);
    assert_int_equal(input_store_count(f->services.inputs), PICTURES);
    uploads_free(f->services.uploads);
    f->services.uploads = NULL;
    loop_free(f->loop); /* closes what is open */
    f->loop = NULL;
    pthread_join(all, NULL);
    assert_int_equal(atomic_load(&f->heard), CLIENTS * EACH);
}

static void *look_at_all(void *context) {
    fixture *f = context;
    buffer none = {0};
    buffer_append_text(&none, "!");
    assert_int_equal(request(f, "/look", &f->texts[PICTURES], true), 200);
    assert_int_equal(request(f, "/look", &none, true), 422);
    request(f, "/look", &f->texts[PICTURES], false);
    request(f, "/stop", &(buffer){0}, true);
    buffer_free(&none);
    return NULL;
}

static void what_is_only_looked_at_is_not_stored(void **state) {
    fixture *f = *state;
    pthread_t all;
    assert_int_equal(pthread_create(&all, NULL, look_at_all, f), 0);
    loop_run(f->loop);
    http_server_free(f->http);
    f->http = NULL;
    uploads_free(f->services.uploads);
    f->services.uploads = NULL;
    loop_free(f->loop);
    f->loop = NULL;
    pthread_join(all, NULL);
    assert_int_equal(looks.refused, 1);
    assert_int_equal(looks.seen + looks.left, 2);
    assert_int_equal(input_store_count(f->services.inputs), 0);
}

static void ending_drops_what_waits(void **state) {
    fixture *f = *state;
    f->stop_after = EACH;
    client leaving = {.f = f, .number = 0, .leaves = true}, other = {.f = f, .number = 1, .leaves = true};
    assert_int_equal(pthread_create(&leaving.thread, NULL, bring, &leaving), 0);
    assert_int_equal(pthread_create(&other.thread, NULL, bring, &other), 0);
    loop_run(f->loop);
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
