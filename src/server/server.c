#include "server/server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "build_config.h"
#include "server/api/apis.h"
#include "server/api/comfy.h"
#include "server/http/http_socket.h"
#include "server/notify.h"
#include "server/requests/services.h"
#include "server/tasks/retention.h"

enum {
    MAX_SUSPENDED = 8, /* tasks at once that urgent ones took their slots from; an engine holds 16 + 8 */
    DRAIN_MS = 30 * 1000, /* running tasks and answers on their way get this long */
    DRAIN_POLL_MS = 20,
    DRAIN_WEBHOOKS_MS = 5 * 1000, /* messages on their way, once all else is done; others wait for the next start */
};

typedef struct server {
    const server_options *options;
    loop *loop;
    http_server *http;
    auth *auth;
    services services;
    retention *retention;
    int signals; /* a signalfd */
    sigset_t signals_before;
    loop_watch *signal_watch;
    loop_timer *drain_timer;
    int drain_ms; /* since the drain began, … */
    int done_ms;  /* … and since nothing but webhooks was under way */
} server;

static void handle(void *context, http_exchange *x) {
    server *s = context;
    int status = 0;
    error why = {0};
    auth_verdict verdict = auth_admit(s->auth, x, &status, &why);
    if (verdict == AUTH_REFUSED) router_answer_error(apis, api_count, x, status, &why);
    if (verdict == AUTH_PASS) router_handle(apis, api_count, &s->services, x);
}

/* Of a request that the gate will refuse nothing is kept. */
static size_t body_bytes(void *context, const http_exchange *x) {
    const server *s = context;
    return !auth_would_pass(s->auth, x) ? 0 : router_body_bytes(apis, api_count, x);
}

/* What is too large by the gate's word is answered with the gate's reason. */
static void refuse(void *context, http_exchange *x, int status, const error *why) {
    const server *s = context;
    int gate_status = 0;
    error gate_why = {0};
    auth_verdict verdict = status == 413 ? auth_admit(s->auth, x, &gate_status, &gate_why) : AUTH_PASS;
    if (verdict == AUTH_ANSWERED) return;
    if (verdict == AUTH_REFUSED) router_answer_error(apis, api_count, x, gate_status, &gate_why);
    else router_answer_error(apis, api_count, x, status, why);
}

static void task_finished(void *context, task *t) {
    server *s = context;
    waits_task_finished(s->services.waits, t);
}

static void task_changed(void *context, const task *t, task_change what) {
    server *s = context;
    bool anew = what == CHANGE_QUEUED && t->status == TASK_QUEUED && !t->suspended; /* and not only another priority */
    if (anew || what == CHANGE_ENDED) previews_drop(s->services.previews, t->id);
    events_changed(s->services.events, t, what);
    watches_changed(s->services.watches, t, what);
    webhooks_changed(s->services.webhooks, t, what);
    comfy_task_changed(s->services.comfy, t, what);
}

/* --- the end --- */

/* Every DRAIN_POLL_MS: over when no task runs and every answer is out, or when the time is up. */
static void drain_further(void *context) {
    server *s = context;
    s->drain_ms += DRAIN_POLL_MS;
    waits_give_up_queued(s->services.waits); /* also those whose engine died meanwhile */
    watches_give_up_queued(s->services.watches);
    if (dispatch_idle(s->services.dispatch)) {
        events_end(s->services.events);
        http_server_close_sockets(s->http, HTTP_SOCKET_GOING_AWAY);
    }
    bool done = dispatch_idle(s->services.dispatch) && uploads_idle(s->services.uploads) && transcoder_idle(s->services.transcoder) &&
                http_server_sending(s->http) == 0;
    if (done) s->done_ms += DRAIN_POLL_MS;
    bool over = done && (webhooks_sending(s->services.webhooks) == 0 || s->done_ms >= DRAIN_WEBHOOKS_MS);
    if (over || s->drain_ms >= DRAIN_MS) loop_stop(s->loop);
    else loop_timer_set(s->drain_timer, DRAIN_POLL_MS);
}

static void reload_keys(server *s) {
    error why = {0};
    if (s->options->auth.keys_file[0] == '\0') log_line(LOG_INFO, "SIGHUP: there is no file of API keys to read again");
    else if (auth_reload(s->auth, &why)) log_line(LOG_INFO, "API keys read again: %zu", auth_key_count(s->auth));
    else log_line(LOG_ERROR, "the API keys stay as they were: %s", why.text);
}

static void on_signal(void *context) {
    server *s = context;
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof info) != (ssize_t)sizeof info) return;
    if (info.ssi_signo == SIGHUP) {
        reload_keys(s);
        return;
    }
    if (dispatch_draining(s->services.dispatch)) {
        log_line(LOG_INFO, "asked again to stop: at once");
        loop_stop(s->loop);
        return;
    }
    log_line(LOG_INFO, "asked to stop: running tasks end first; ask again to stop at once");
    notify_service_manager("STOPPING=1");
    dispatch_drain(s->services.dispatch);
    drain_further(s);
}

static bool watch_signals(server *s, error *e) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    /* A daemon is told by it to read its keys again, which must not end one that has none. One without keys in a terminal ends when that is
     * closed, as programs do. */
    bool in_terminal = isatty(STDIN_FILENO) || isatty(STDOUT_FILENO) || isatty(STDERR_FILENO);
    if (s->options->auth.keys_file[0] != '\0' || !in_terminal) sigaddset(&wanted, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &wanted, &s->signals_before);
    s->signals = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->signals < 0) return error_system(e, "receive", "signals");
    return loop_watch_new(s->loop, s->signals, on_signal, s, &s->signal_watch, e) &&
           loop_timer_new(s->loop, drain_further, s, &s->drain_timer, e);
}

/* --- the beginning --- */

static void greet(const server *s) {
    const char *at = http_server_address(s->http);
    log_line(LOG_INFO, "listening on http://%s", at);
    if (s->options->quiet) return;
    printf("imagined %s is listening on http://%s\n"
           "A first picture, into fox.png:\n"
           "  curl -s http://%s/v1/images/generations -H 'Content-Type: application/json' -d '{\"prompt\": \"a fox on a blue background\"}'"
           " | sed 's/.*\"b64_json\":\"\\([^\"]*\\)\".*/\\1/' | base64 -d > fox.png\n",
           IMAGINED_VERSION, at, at);
    fflush(stdout);
    clearerr(stdout); /* the log has told the address, too: a server that nobody listened to here has not failed */
}

static void warn_of_strangers(const server *s) {
    const char *at = http_server_address(s->http);
    if (s->options->auth.keys_file[0] != '\0' || strncmp(at, "127.", 4) == 0 || strncmp(at, "[::1]", 5) == 0) return;
    log_line(LOG_WARNING, "whoever reaches %s may use the server and see all that is in it: make API keys (imagined keys --help), or listen on 127.0.0.1", at);
}

/* Serving goes on without a default model: others can be named, and its folder may still come. */
static void warn_of_models(server *s) {
    const model_info *model;
    error why = {0};
    if (!file_exists(s->options->models_folder))
        log_line(LOG_INFO, "there is no models folder %s: only the demo model is found", s->options->models_folder);
    if (!catalog_find(s->services.catalog, NULL, &model, &why)) log_line(LOG_WARNING, "the default model (--default-model): %s", why.text);
}

static bool start(server *s, error *e) {
    const server_options *o = s->options;
    services *v = &s->services;
    const queue_limits limits = {.max_queued = (size_t)o->max_queued,
                                 .max_active = (size_t)o->max_active,
                                 .keep_finished = (size_t)o->keep_tasks,
                                 .max_suspended = MAX_SUSPENDED,
                                 .age_ms = (int64_t)o->aging_seconds * 1000,
                                 .affinity_ms = (int64_t)o->affinity_seconds * 1000};
    /* First what can refuse to start, then the port, then what takes time: nothing slow stands before listening. */
    if (!auth_new(&o->auth, &s->auth, e) || !picture_store_new(o->state_folder, &v->pictures, e) || !loop_new(&s->loop, e) ||
        !http_server_new(s->loop, o->listen, handle, refuse, s, &s->http, e))
        return false;
    v->http = s->http;
    v->loop = s->loop;
    http_server_allow_bodies(s->http, body_bytes);
    if (!watch_signals(s, e) || !machine_figures_new(&v->machine, e) || !engine_profiles_new(&v->profiles, e) ||
        !queue_manager_new(&limits, &v->queue, e) || !idempotency_new(&v->idempotency, e) || !waits_new(s->loop, v, &v->waits, e) ||
        !watches_new(v->queue, &v->watches, e) || !submissions_new(v, &v->submissions, e) || !previews_new(&v->previews, e) ||
        !events_new(s->loop, v->queue, v->previews, &v->events, e) ||
        !catalog_new(o->demo_folder, o->models_folder, o->default_model, &v->catalog, e))
        return false;
    const webhooks_options hooks = {.loop = s->loop,
                                    .queue = v->queue,
                                    .previews = v->previews,
                                    .state_folder = o->state_folder,
                                    .secret = o->webhook_secret,
                                    .allowed = o->webhook_allow,
                                    .authorities = o->webhook_ca_file};
    if (!webhooks_new(&hooks, &v->webhooks, e)) return false;
    const task_keeper_options keeping = {.loop = s->loop,
                                         .queue = v->queue,
                                         .idempotency = v->idempotency,
                                         .pictures = v->pictures,
                                         .profiles = v->profiles,
                                         .webhooks = v->webhooks,
                                         .state_folder = o->state_folder};
    const retention_limits keep = {.tasks = (size_t)o->keep_tasks,
                                   .age_ms = (int64_t)(o->keep_images_days * 24 * 3600 * 1000 + 0.5),
                                   .bytes = (uint64_t)(o->keep_images_gb * (double)(1 << 30))};
    if (!task_keeper_new(&keeping, &v->keeper, e) || !retention_new(s->loop, v->queue, v->keeper, &keep, &s->retention, e)) return false;
    const input_limits keep_inputs = {.age_ms = keep.age_ms, .bytes = keep.bytes};
    if (!input_store_new(o->state_folder, &v->inputs, e) || !uploads_new(s->loop, v, &keep_inputs, &v->uploads, e) ||
        !transcoder_new(s->loop, &v->transcoder, e) || !comfy_new(v, s->loop, &v->comfy, e))
        return false;
    const dispatch_options dispatching = {
        .loop = s->loop,
        .queue = v->queue,
        .catalog = v->catalog,
        .pictures = v->pictures,
        .previews = v->previews,
        .inputs = v->inputs,
        .keeper = v->keeper,
        .profiles = v->profiles,
        .engine = o->engine,
        .preload = o->preload,
        .engine_idle_seconds = o->engine_idle_seconds,
        .max_held = o->max_active + MAX_SUSPENDED,
        .finished = task_finished,
        .changed = task_changed,
        .picture_texts = comfy_picture_texts,
        .context = s,
    };
    if (!dispatch_new(&dispatching, &v->dispatch, e)) return false;
    webhooks_begin(v->webhooks, v->keeper);
    return true;
}

static void stop(server *s) {
    services *v = &s->services;
    http_server_free(s->http); /* waiting requests are left: they cancel their tasks */
    uploads_free(v->uploads);
    transcoder_free(v->transcoder);
    input_store_free(v->inputs);
    retention_free(s->retention);
    dispatch_free(v->dispatch);
    webhooks_free(v->webhooks);
    comfy_free(v->comfy);
    task_keeper_free(v->keeper);
    engine_profiles_free(v->profiles);
    submissions_free(v->submissions);
    waits_free(v->waits);
    watches_free(v->watches);
    events_free(v->events);
    previews_free(v->previews);
    machine_figures_free(v->machine);
    idempotency_free(v->idempotency);
    queue_manager_free(v->queue);
    catalog_free(v->catalog);
    picture_store_free(v->pictures);
    auth_free(s->auth);
    loop_watch_free(s->signal_watch);
    loop_timer_free(s->drain_timer);
    loop_free(s->loop);
    if (s->signals >= 0) {
        close(s->signals);
        pthread_sigmask(SIG_SETMASK, &s->signals_before, NULL);
    }
}

bool server_run(const server_options *options, error *e) {
    server s = {.options = options, .signals = -1};
    bool ok = start(&s, e);
    if (ok) {
        greet(&s);
        warn_of_strangers(&s);
        warn_of_models(&s);
        notify_service_manager("READY=1");
        loop_run(s.loop);
        log_line(LOG_INFO, "stopped");
    }
    stop(&s);
    return ok;
}
