/* The listening socket. Bound here and not by the library, so that a port in use is told in words and port 0 can be printed. */
#include "server/http/http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/http_internal.h"

enum { ACCEPTS_AT_ONCE = 64, BACKLOG = 512, RESUME_MS = 100 };

static void accept_connections(void *context) {
    http_server *s = context;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            /* Those that wait stay in the backlog; listening on would only burn time until others have closed. */
            if (!s->starved) log_line(LOG_WARNING, "no connection can be accepted for the moment: %s", strerror(errno));
            s->starved = true;
            loop_watch_free(s->accepting);
            s->accepting = NULL;
            loop_timer_set(s->resume, RESUME_MS);
            return;
        }
        s->starved = false;
        if (fd < 0) return; /* none is left, or one was gone again */
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        lws_adopt_socket_vhost(loop_vhost(s->loop), fd); /* closes it when it fails */
    }
}

static void resume_accepting(void *context) {
    http_server *s = context;
    if (s->accepting == NULL && !loop_watch_new(s->loop, s->listener, accept_connections, s, &s->accepting, NULL))
        loop_timer_set(s->resume, RESUME_MS);
}

/* "[::1]:80" → "::1", "80"; "localhost:80" → "localhost", "80". */
static bool split_address(const char *listen, char host[64], char port[8], error *e) {
    const char *colon = strrchr(listen, ':');
    size_t size = colon == NULL ? 0 : (size_t)(colon - listen);
    bool bracketed = size >= 2 && listen[0] == '[' && listen[size - 1] == ']';
    const char *from = bracketed ? listen + 1 : listen;
    size_t n = bracketed ? size - 2 : size;
    bool digits = colon != NULL && colon[1] != '\0' && strlen(colon + 1) <= 5 && strspn(colon + 1, "0123456789") == strlen(colon + 1);
    if (!digits || atoi(colon + 1) > 65535 || n == 0 || n >= 64 || (!bracketed && memchr(from, ':', n) != NULL))
        return error_field(e, ERROR_INVALID, "listen", "'%s' is no address to listen on: it must look like 127.0.0.1:7860 or [::1]:7860",
                           listen);
    memcpy(host, from, n);
    host[n] = '\0';
    strcpy(port, colon + 1);
    return true;
}

static bool open_listener(http_server *s, const struct addrinfo *a, const char *listen_on, error *e) {
    s->listener = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->listener < 0) return error_system(e, "open a socket for", listen_on);
    int on = 1;
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s->listener, a->ai_addr, a->ai_addrlen) != 0 || listen(s->listener, BACKLOG) != 0) {
        if (errno == EADDRNOTAVAIL)
            return error_field(e, ERROR_INVALID, "listen",
                               "cannot listen on %s: this machine has no such address; 127.0.0.1 is itself, 0.0.0.0 all it has", listen_on);
        if (errno == EACCES)
            return error_set(e, ERROR_IO, "cannot listen on %s: ports below 1024 are root's; choose another with --listen", listen_on);
        if (errno != EADDRINUSE) return error_system(e, "listen on", listen_on);
        return error_set(e, ERROR_BUSY,
                         "cannot listen on %s: the port is in use; stop the other server or choose another port with --listen", listen_on);
    }
    char host[64], port[8];
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(s->listener, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return error_system(e, "learn the address of", listen_on);
    snprintf(s->address, sizeof s->address, bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return true;
}

static bool start_listening(http_server *s, const char *listen_on, error *e) {
    char host[64], port[8];
    if (!split_address(listen_on, host, port, e)) return false;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int fault = getaddrinfo(host, port, &hints, &found);
    if (fault != 0) return error_field(e, ERROR_INVALID, "listen", "cannot listen on %s: %s", listen_on, gai_strerror(fault));
    bool ok = open_listener(s, found, listen_on, e);
    freeaddrinfo(found);
    return ok;
}

bool http_server_new(loop *l, const char *listen, http_handler handle, http_refusal refuse, void *context, http_server **out, error *e) {
    http_server *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "the HTTP server", sizeof *s);
    *s = (http_server){.loop = l, .listener = -1, .handle = handle, .refuse = refuse, .context = context};
    loop_set_connection_context(l, s);
    if (!start_listening(s, listen, e) || !loop_timer_new(l, resume_accepting, s, &s->resume, e) ||
        !loop_watch_new(l, s->listener, accept_connections, s, &s->accepting, e)) {
        http_server_free(s);
        return false;
    }
    *out = s;
    return true;
}

void http_server_free(http_server *s) {
    if (s == NULL) return;
    loop_timer_free(s->resume);
    loop_watch_free(s->accepting);
    if (s->listener >= 0) close(s->listener);
    while (s->exchanges != NULL) {
        http_exchange *x = s->exchanges;
        if (x->wsi != NULL) lws_set_opaque_user_data(x->wsi, NULL);
        http_exchange_leave(x);
        http_exchange_free(x);
    }
    http_sockets_end(s);
    loop_set_connection_context(s->loop, NULL);
    free(s);
}

void http_server_allow_bodies(http_server *s, size_t (*cap)(void *context, const http_exchange *x)) { s->body_cap = cap; }

const char *http_server_address(const http_server *s) { return s->address; }
size_t http_server_sending(const http_server *s) { return s->sending + http_sockets_sending(s); }
uint64_t http_server_answered(const http_server *s, int status) { return s->answered[status - HTTP_STATUS_FIRST]; }
