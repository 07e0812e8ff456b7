/* The sender's thread against receivers in this process: each message is answered once, one slow receiver or one name that does not resolve
 * holds nobody else, endless answers are cut off, and ending it with requests under way waits for none of them. Meant to run under TSan and
 * ASan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/webhooks/webhook_sender.h"

enum { MESSAGES = 200, KINDS = 4 };

/* Stands before libcurl's own calls: names of .slow take their time. */
static atomic_int resolving, release_names;
static int (*resolve)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    if (node != NULL && strstr(node, ".slow") != NULL) {
        atomic_fetch_add(&resolving, 1);
        while (atomic_load(&release_names) == 0) usleep(1000);
        atomic_fetch_sub(&resolving, 1);
        return EAI_NONAME;
    }
    return resolve(node, service, hints, out);
}

typedef struct fixture {
    webhook_guard *guard;
    webhook_secrets secrets;
    webhook_sender *sender;
    int listeners[2], port; /* on 127.0.0.1 and 127.0.0.2 */
    pthread_t receiver;
    atomic_bool hold; /* connections wait */
    atomic_int received, silent; /* connections on /silent that are never answered */
    atomic_bool stop;
    int open[64];
    int open_count; /* of silent ones; the receiver's */
} fixture;

static void send_text(int s, const char *text) {
    size_t size = strlen(text);
    if (send(s, text, size, MSG_NOSIGNAL) != (ssize_t)size) return;
}

/* "/200", "/500", … answer so; "/silent" never; "/endless" without end. */
static void serve(fixture *f, int s) {
    char request[8192], text[160];
    size_t n = 0;
    ssize_t got;
    const char *head = NULL;
    while (n + 1 < sizeof request && (got = recv(s, request + n, sizeof request - 1 - n, 0)) > 0) {
        request[n += (size_t)got] = '\0';
        head = strstr(request, "\r\n\r\n");
        const char *length = strcasestr(request, "content-length:");
        if (head != NULL && length != NULL && n >= (size_t)(head + 4 - request) + strtoul(length + 15, NULL, 10)) break;
    }
    if (head == NULL) {
        close(s);
        return;
    }
    atomic_fetch_add(&f->received, 1);
    if (strncmp(request, "POST /silent", 12) == 0 && f->open_count < 64) {
        f->open[f->open_count++] = s;
        atomic_fetch_add(&f->silent, 1);
        return;
    }
    if (strncmp(request, "POST /endless", 13) == 0) {
        char block[4096];
        memset(block, 'x', sizeof block);
        send_text(s, "HTTP/1.1 200 OK\r\n\r\n");
        while (send(s, block, sizeof block, MSG_NOSIGNAL) > 0) continue;
        close(s);
        return;
    }
    int status = atoi(request + 6);
    snprintf(text, sizeof text, "HTTP/1.1 %d Fine\r\nconnection: close\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\nok", status);
    send_text(s, text);
    close(s);
}

static void *receive(void *context) {
    fixture *f = context;
    while (!atomic_load(&f->stop)) {
        struct pollfd p[2] = {{.fd = f->listeners[0], .events = POLLIN}, {.fd = f->listeners[1], .events = POLLIN}};
        poll(p, 2, 20);
        for (int i = 0; i < 2 && !atomic_load(&f->hold); i++) {
            int s = (p[i].revents & POLLIN) != 0 ? accept4(p[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;
            if (s >= 0) serve(f, s);
        }
    }
    return NULL;
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    error e = {0};
    *(void **)&resolve = dlsym(RTLD_NEXT, "getaddrinfo");
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    for (unsigned i = 0; i < 2; i++) {
        f->listeners[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i);
        assert_int_equal(bind(f->listeners[i], (struct sockaddr *)&at, sizeof at), 0);
        assert_int_equal(listen(f->listeners[i], 128), 0);
        assert_int_equal(getsockname(f->listeners[i], (struct sockaddr *)&at, &size), 0);
    }
    f->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&f->receiver, NULL, receive, f), 0);
    assert_true(webhook_guard_new("127.0.0.0/8", &f->guard, &e) &&
                webhook_secrets_parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", &f->secrets, &e));
    const webhook_sender_options options = {f->guard, &f->secrets, ""};
    assert_true(webhook_sender_new(&options, &f->sender, &e));
    atomic_store(&release_names, 0);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    webhook_sender_free(f->sender);
    atomic_store(&release_names, 1);
    while (atomic_load(&resolving) > 0) usleep(1000);
    atomic_store(&f->stop, true);
    pthread_join(f->receiver, NULL);
    for (int i = 0; i < f->open_count; i++) close(f->open[i]);
    close(f->listeners[0]);
    close(f->listeners[1]);
    webhook_guard_free(f->guard);
    free(f);
    return 0;
}

static void add(fixture *f, const char *host, const char *path, void *context) {
    char url[128];
    error e = {0};
    snprintf(url, sizeof url, "http://%s:%d%s", host, f->port, path);
    const webhook_message m = {.id = "m-1", .url = url, .body = "{}", .context = context};
    assert_true(webhook_sender_add(f->sender, &m, &e));
}

static webhook_result next(fixture *f) {
    webhook_result r;
    while (!webhook_sender_next(f->sender, &r)) {
        struct pollfd p = {.fd = webhook_sender_fd(f->sender), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
    }
    return r;
}

static void each_message_is_answered_once(void **state) {
    fixture *f = *state;
    static const char *const paths[KINDS] = {"/200", "/500", "/503", "/302"};
    static const char *const errors[KINDS] = {"", "answered 500", "answered 503", "answered 302: redirects are not followed"};
    static const int statuses[KINDS] = {200, 500, 503, 302};
    int answers[MESSAGES] = {0};
    for (int i = 0; i < MESSAGES; i++) add(f, i % 8 < 4 ? "127.0.0.1" : "127.0.0.2", paths[i % KINDS], &answers[i]);
    for (int i = 0; i < MESSAGES; i++) {
        webhook_result r = next(f);
        int *mine = r.context, kind = (int)(mine - answers) % KINDS;
        (*mine)++;
        assert_int_equal(r.status, statuses[kind]);
        assert_string_equal(r.error, errors[kind]);
        assert_int_equal(r.retry_after_seconds, kind == 2 ? 7 : 0);
    }
    for (int i = 0; i < MESSAGES; i++) assert_int_equal(answers[i], 1);
    webhook_result none;
    assert_false(webhook_sender_next(f->sender, &none));
    assert_int_equal(atomic_load(&f->received), MESSAGES);
}

static void who_never_answers_holds_nobody_else(void **state) {
    fixture *f = *state;
    int quick;
    for (int i = 0; i < 20; i++) add(f, "127.0.0.1", "/silent", NULL);
    while (atomic_load(&f->silent) < 2) usleep(1000);
    for (int i = 0; i < 10; i++) add(f, "127.0.0.2", "/200", &quick);
    for (int i = 0; i < 10; i++) {
        webhook_result r = next(f);
        assert_ptr_equal(r.context, &quick);
        assert_int_equal(r.status, 200);
    }
    assert_int_equal(atomic_load(&f->silent), 2);
}

static void names_that_do_not_resolve_hold_nobody_else(void **state) {
    fixture *f = *state;
    int quick;
    for (int i = 0; i < 4; i++) add(f, i % 2 == 0 ? "one.slow" : "two.slow", "/200", NULL);
    while (atomic_load(&resolving) < 2) usleep(1000);
    for (int i = 0; i < 10; i++) add(f, "127.0.0.1", "/200", &quick);
    for (int i = 0; i < 10; i++) assert_ptr_equal(next(f).context, &quick);
    assert_true(atomic_load(&resolving) >= 2);
    webhook_sender_free(f->sender); /* with these under way: it must not wait for them */
    f->sender = NULL;
    assert_true(atomic_load(&resolving) >= 2);
}

/* What waits for an address when it answers 410; others on the same host are sent to. */
static void what_waits_for_an_address_that_is_gone_is_not_sent(void **state) {
    fixture *f = *state;
    int gone, alive, unsent = 0, sent = 0;
    atomic_store(&f->hold, true);
    for (int i = 0; i < 20; i++) add(f, "127.0.0.1", "/410", &gone);
    for (int i = 0; i < 5; i++) add(f, "127.0.0.1", "/200", &alive);
    usleep(200 * 1000); /* the sender has them all */
    atomic_store(&f->hold, false);
    for (int i = 0; i < 25; i++) {
        webhook_result r = next(f);
        assert_int_equal(r.status, r.context == &gone ? 410 : 200);
        assert_true((r.error[0] != '\0') == (r.context == &gone));
        unsent += r.unsent;
        sent += !r.unsent;
        assert_true(!r.unsent || r.context == &gone);
    }
    assert_int_equal(sent, atomic_load(&f->received));
    assert_in_range(unsent, 20 - WEBHOOK_SENDING_TO_ONE, 19);
}

static void endless_answers_are_cut_off(void **state) {
    fixture *f = *state;
    add(f, "127.0.0.1", "/endless", NULL);
    webhook_result r = next(f);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.error, "");
}

static void addresses_are_judged(void **state) {
    fixture *f = *state;
    add(f, "[::1]", "/200", NULL);
    webhook_result r = next(f);
    assert_int_equal(r.status, 0);
    assert_string_equal(r.error, "::1 is no public address: the operator can allow it with IMAGINED_WEBHOOK_ALLOW");
    assert_int_equal(atomic_load(&f->received), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_message_is_answered_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_never_answers_holds_nobody_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_that_do_not_resolve_hold_nobody_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_for_an_address_that_is_gone_is_not_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(endless_answers_are_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(addresses_are_judged, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
