#include "upload_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/http/answer.h"

static void refuse(void *context, http_exchange *x, int status, const error *why) {
    (void)context;
    answer_text(x, status, "text/plain", why->text);
}

void upload_server_start(upload_server *u, http_handler handle, void *context) {
    error e;
    snprintf(u->folder, sizeof u->folder, "/tmp/imagined-test-XXXXXX");
    assert_non_null(mkdtemp(u->folder));
    assert_true(loop_new(&u->loop, &e) && http_server_new(u->loop, "127.0.0.1:0", handle, refuse, context, &u->http, &e));
    assert_true(input_store_new(u->folder, &u->services.inputs, &e));
    assert_true(uploads_new(u->loop, &u->services, &(input_limits){0}, &u->services.uploads, &e));
    u->port = atoi(strrchr(http_server_address(u->http), ':') + 1);
}

void upload_server_end(upload_server *u) {
    http_server_free(u->http);
    u->http = NULL;
    uploads_free(u->services.uploads);
    u->services.uploads = NULL;
}

int upload_server_free(upload_server *u) {
    char command[128];
    upload_server_end(u);
    input_store_free(u->services.inputs);
    loop_free(u->loop);
    snprintf(command, sizeof command, "rm -rf '%s'", u->folder);
    return system(command);
}

int upload_server_post(const upload_server *u, const char *path, const buffer *body) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)u->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[160];
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(s, (struct sockaddr *)&to, sizeof to), 0);
    int n = snprintf(head, sizeof head, "POST /%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %zu\r\n\r\n", path,
                     body->size);
    assert_int_equal(send(s, head, (size_t)n, MSG_NOSIGNAL), n);
    if (body->size > 0) assert_int_equal(send(s, body->data, body->size, MSG_NOSIGNAL), body->size);
    return s;
}

void upload_picture(int width, int height, image_format format, buffer *out) {
    image i;
    error e;
    assert_true(image_new(width, height, 3, &i, &e));
    memset(i.pixels, width, (size_t)width * (size_t)height * 3);
    assert_true(image_encode(&i, format, 80, NULL, out, &e));
    image_free(&i);
}
