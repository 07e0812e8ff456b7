/* Clients that were given up are gone soon, whatever the connection is about: one that is not open yet, and one that takes something again
 * at that very moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/http/answer.h"
#include "server/http/http_socket.h"

enum { PIECE = 1000, SETTLE_MS = 300, LONGEST_MS = 20 * 1000 /* of 45 seconds of silence */ };

typedef struct fixture {
    loop *loop;
    http_server *http;
    loop_watch *watch; /* made before the connection, so that the loop comes to it first */
    loop_timer *settled, *deadline;
    int event, client;
    bool too_much_at_once;
    http_socket *socket;
    http_exchange *stream;
    bool gone; /* the server's side is told so */
} fixture;

static void closed(void *context, http_socket *s) {
    fixture *f = context;
    assert_ptr_equal(s, f->socket);
    f->gone = true;
    loop_stop(f->loop);
}

static void left(void *context, http_exchange *x) {
    fixture *f = context;
    assert_ptr_equal(x, f->stream);
    f->gone = true;
    loop_stop(f->loop);
}

static bool send_piece(fixture *f) {
    static const char piece[PIECE];
    return f->socket != NULL ? http_socket_send(f->socket, piece, PIECE) : http_stream_write(f->stream, piece, PIECE);
}

static size_t waiting(const fixture *f) { return f->socket != NULL ? http_socket_waiting(f->socket) : http_stream_waiting(f->stream); }

/* Piece by piece until the system takes no more, so that nothing is left half sent. */
static void drained(void *context, http_exchange *x) {
    (void)x;
    assert_true(send_piece(context));
}

static void handle(void *context, http_exchange *x) {
    fixture *f = context;
    if (http_wants_socket(x)) {
        f->socket = http_accept_socket(x, &(http_socket_owner){f, NULL, closed});
        assert_non_null(f->socket);
    } else {
        f->stream = x;
        assert_true(http_respond_stream(x, 200, "text/plain", &(http_stream_writer){f, drained, left}));
        send_piece(f);
    }
    if (f->too_much_at_once) {
        static const char much[HTTP_SOCKET_WAITING_BYTES + 1];
        assert_false(http_socket_send(f->socket, much, sizeof much));
        return;
    }
    for (int i = 0; f->socket != NULL && i < 700; i++) assert_true(send_piece(f));
    loop_timer_set(f->settled, SETTLE_MS);
}

static void refuse(void *context, http_exchange *x, int status, const error *why) {
    (void)context;
    answer_text(x, status, "text/plain", why->text);
}

/* The connection is full. Its client takes what there is, and the loop finds in one look that more can be sent and that there is too much
 * to send. */
static void take_some(void *context) {
    fixture *f = context;
    static char bytes[64 << 10];
    const uint64_t one = 1;
    assert_true(waiting(f) > 0);
    for (int i = 0; f->stream != NULL && i < 700; i++) assert_true(send_piece(f));
    while (recv(f->client, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
    assert_int_equal(write(f->event, &one, sizeof one), sizeof one);
}

static void overflow(void *context) {
    fixture *f = context;
    uint64_t count;
    assert_int_equal(read(f->event, &count, sizeof count), sizeof count);
    assert_true(waiting(f) > 0);
    while (send_piece(f)) continue;
}

static void give_in(void *context) { loop_stop(((fixture *)context)->loop); }

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    error e;
    f->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(loop_new(&f->loop, &e) && loop_watch_new(f->loop, f->event, overflow, f, &f->watch, &e) &&
                loop_timer_new(f->loop, take_some, f, &f->settled, &e) && loop_timer_new(f->loop, give_in, f, &f->deadline, &e) &&
                http_server_new(f->loop, "127.0.0.1:0", handle, refuse, f, &f->http, &e));
    loop_timer_set(f->deadline, LONGEST_MS);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    http_server_free(f->http);
    loop_timer_free(f->settled);
    loop_timer_free(f->deadline);
    loop_watch_free(f->watch);
    loop_free(f->loop);
    close(f->event);
    close(f->client);
    free(f);
    return 0;
}

/* A client that reads nothing by itself, and holds little. */
static void run(fixture *f, const char *headers) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[512];
    int little = 4096, n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nhost: x\r\n%s\r\n", headers);
    to.sin_port = htons((uint16_t)atoi(strrchr(http_server_address(f->http), ':') + 1));
    f->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(f->client, SOL_SOCKET, SO_RCVBUF, &little, sizeof little), 0);
    assert_int_equal(connect(f->client, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(send(f->client, head, (size_t)n, MSG_NOSIGNAL), n);
    loop_run(f->loop);
}

static const char upgrade[] =
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n";

static void a_socket_that_is_given_up_before_it_is_open_is_closed(void **state) {
    fixture *f = *state;
    f->too_much_at_once = true;
    run(f, upgrade);
    assert_true(f->gone);
}

static void a_socket_that_takes_more_as_it_is_given_up_is_closed(void **state) {
    fixture *f = *state;
    run(f, upgrade);
    assert_non_null(f->socket);
    assert_true(f->gone);
}

static void a_stream_that_takes_more_as_it_is_given_up_is_closed(void **state) {
    fixture *f = *state;
    run(f, "");
    assert_non_null(f->stream);
    assert_true(f->gone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_socket_that_is_given_up_before_it_is_open_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_socket_that_takes_more_as_it_is_given_up_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_that_takes_more_as_it_is_given_up_is_closed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
