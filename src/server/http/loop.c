#include "server/http/loop.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/loop_lws.h"

struct loop {
    struct lws_context *context;
    struct lws_vhost *vhost;
    void *connection_context;
    bool stopped;
};

struct loop_timer {
    lws_sorted_usec_list_t sul; /* first: the address of one is the address of the other */
    loop *loop;
    loop_callback fire;
    void *context;
};

struct loop_watch {
    struct lws *wsi; /* NULL once it is closed */
    loop_callback readable;
    void *context;
};

static int watch_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    (void)user, (void)in, (void)size;
    loop_watch *w = lws_get_opaque_user_data(wsi);
    if (w == NULL) return 0;
    if (reason == LWS_CALLBACK_RAW_CLOSE_FILE) {
        w->wsi = NULL;
        lws_set_opaque_user_data(wsi, NULL);
    }
    if (reason == LWS_CALLBACK_RAW_CLOSE_FILE || reason == LWS_CALLBACK_RAW_RX_FILE) w->readable(w->context);
    return 0;
}

static int connection_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size);

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = connection_callback},
    {.name = "watch", .callback = watch_callback},
    LWS_PROTOCOL_LIST_TERM,
};

static void log_library(int level, const char *line) {
    log_line(level & LLL_ERR ? LOG_ERROR : LOG_WARNING, "libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

/* Of WebSockets, whose clients may vanish without a word. */
static const lws_retry_bo_t keep_alive = {.secs_since_valid_ping = LOOP_PING_SECONDS, .secs_since_valid_hangup = LOOP_DEAD_SECONDS};

bool loop_new(loop **out, error *e) {
    loop *l = calloc(1, sizeof *l);
    if (l == NULL) return error_no_memory(e, "the event loop", sizeof *l);
    lws_set_log_level(LLL_ERR, log_library);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER, /* connections are accepted by http.c */
        .protocols = protocols,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_NO_LWS_SYSTEM_STATES,
        .max_http_header_data = LOOP_HEADER_BYTES,
        .fd_limit_per_thread = LOOP_CONNECTIONS,
        .timeout_secs = LOOP_HEADER_SECONDS,
        .keepalive_timeout = LOOP_IDLE_SECONDS,
        .retry_and_idle_policy = &keep_alive,
        .vhost_name = "imagined",
        .user = l,
    };
    l->context = lws_create_context(&info);
    if (l->context != NULL) l->vhost = lws_create_vhost(l->context, &info);
    if (l->vhost == NULL) {
        loop_free(l);
        return error_set(e, ERROR_INTERNAL, "libwebsockets could not be set up");
    }
    *out = l;
    return true;
}

void loop_free(loop *l) {
    if (l == NULL) return;
    if (l->context != NULL) lws_context_destroy(l->context);
    free(l);
}

void loop_run(loop *l) {
    while (!l->stopped && lws_service(l->context, 0) >= 0) continue;
}

void loop_stop(loop *l) {
    l->stopped = true;
    lws_cancel_service(l->context);
}

struct lws_context *loop_context(const loop *l) { return l->context; }
struct lws_vhost *loop_vhost(const loop *l) { return l->vhost; }
void loop_set_connection_context(loop *l, void *context) { l->connection_context = context; }

static int connection_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    (void)user;
    loop *l = wsi != NULL ? lws_context_user(lws_get_context(wsi)) : NULL;
    return l != NULL ? http_callback(l->connection_context, wsi, reason, in, size) : 0;
}

static void timer_due(lws_sorted_usec_list_t *sul) {
    loop_timer *t = (loop_timer *)sul;
    t->fire(t->context);
}

bool loop_timer_new(loop *l, loop_callback fire, void *context, loop_timer **out, error *e) {
    loop_timer *t = calloc(1, sizeof *t);
    if (t == NULL) return error_no_memory(e, "a timer", sizeof *t);
    *t = (loop_timer){.loop = l, .fire = fire, .context = context};
    *out = t;
    return true;
}

void loop_timer_set(loop_timer *t, int64_t ms) {
    if (ms < 0) lws_sul_cancel(&t->sul);
    else lws_sul_schedule(t->loop->context, 0, &t->sul, timer_due, ms == 0 ? 1 : ms * 1000);
}

void loop_timer_free(loop_timer *t) {
    if (t == NULL) return;
    lws_sul_cancel(&t->sul);
    free(t);
}

bool loop_watch_new(loop *l, int fd, loop_callback readable, void *context, loop_watch **out, error *e) {
    loop_watch *w = calloc(1, sizeof *w);
    if (w == NULL) return error_no_memory(e, "a watched descriptor", sizeof *w);
    *w = (loop_watch){.readable = readable, .context = context};
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        free(w);
        return error_system(e, "watch", "a descriptor");
    }
    lws_adopt_desc_t adopt = {
        .vh = l->vhost, .type = LWS_ADOPT_RAW_FILE_DESC, .fd = {.filefd = copy}, .vh_prot_name = "watch", .opaque = w};
    w->wsi = lws_adopt_descriptor_vhost_via_info(&adopt); /* closes the copy when it fails */
    if (w->wsi == NULL) {
        free(w);
        return error_set(e, ERROR_INTERNAL, "the event loop takes no further descriptor");
    }
    *out = w;
    return true;
}

bool loop_watch_alive(const loop_watch *w) { return w->wsi != NULL; }

void loop_watch_free(loop_watch *w) {
    if (w == NULL) return;
    if (w->wsi != NULL) {
        lws_set_opaque_user_data(w->wsi, NULL);
        lws_wsi_close(w->wsi, LWS_TO_KILL_ASYNC);
    }
    free(w);
}
