#include "server/webhooks/webhook_sender.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "build_config.h"

enum { HOST_BUCKETS = 256, CONNECT_SECONDS = 10, IDLE_CONNECTIONS = 16, POLL_MS = 60 * 1000 };

struct host;

typedef struct job {
    webhook_result result;
    const char *id, *url, *body; /* behind the struct */
    webhook_sender *owner;
    struct host *host;
    webhook_target target;
    CURL *easy;
    struct curl_slist *headers;
    size_t answered;         /* bytes of the answer's body */
    bool enough;             /* it was cut off for its size */
    char refused[INET6_ADDRSTRLEN]; /* the last address that was not connected to */
    struct job *next, **link;       /* in the list of those under way, …; `next` also in a fifo */
} job;

typedef struct fifo {
    job *first, *last;
} fifo;

/* A host and port with something to do. */
typedef struct host {
    char name[WEBHOOK_HOST_BYTES];
    int port, active;
    fifo waiting;
    struct host *next;          /* in its bucket */
    struct host *before, *behind; /* in the round of those that may start something; itself when alone */
    bool in_round;
} host;

/* `mutex` guards `added`, `finished` and `stop`; the rest is the thread's. A job belongs to whoever took it out. */
struct webhook_sender {
    webhook_sender_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    fifo added, finished;
    bool stop, started, global;
    int event; /* an eventfd: not zero while `finished` holds something */
    CURLM *multi;
    job *active;
    int active_count;
    host *buckets[HOST_BUCKETS];
    host *round; /* whose turn it is */
};

static void push(fifo *f, job *j) {
    j->next = NULL;
    if (f->last != NULL) f->last->next = j;
    else f->first = j;
    f->last = j;
}

static job *pop(fifo *f) {
    job *j = f->first;
    if (j == NULL) return NULL;
    f->first = j->next;
    if (f->first == NULL) f->last = NULL;
    return j;
}

static void drop_request(job *j) {
    if (j->easy != NULL) curl_easy_cleanup(j->easy);
    curl_slist_free_all(j->headers);
    j->easy = NULL;
    j->headers = NULL;
}

static void job_free(job *j) {
    drop_request(j);
    free(j);
}

static void finish(webhook_sender *s, job *j) {
    const uint64_t one = 1;
    drop_request(j);
    pthread_mutex_lock(&s->mutex);
    push(&s->finished, j);
    pthread_mutex_unlock(&s->mutex);
    while (write(s->event, &one, sizeof one) < 0 && errno == EINTR) continue;
}

/* --- hosts --- */

static host **bucket_of(webhook_sender *s, const webhook_target *t) {
    uint32_t hash = 2166136261u ^ (uint32_t)t->port; /* FNV-1a */
    for (const char *c = t->host; *c != '\0'; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    return &s->buckets[hash % HOST_BUCKETS];
}

static host *host_of(webhook_sender *s, const webhook_target *t) {
    host **bucket = bucket_of(s, t), *h = *bucket;
    while (h != NULL && (h->port != t->port || strcmp(h->name, t->host) != 0)) h = h->next;
    if (h != NULL) return h;
    h = calloc(1, sizeof *h);
    if (h == NULL) return NULL;
    h->port = t->port;
    memcpy(h->name, t->host, sizeof h->name);
    h->next = *bucket;
    *bucket = h;
    return h;
}

static void leave_round(webhook_sender *s, host *h) {
    if (!h->in_round) return;
    h->in_round = false;
    if (s->round == h) s->round = h->behind != h ? h->behind : NULL;
    h->before->behind = h->behind;
    h->behind->before = h->before;
}

/* At the end of the round: before the one whose turn it is. */
static void join_round(webhook_sender *s, host *h) {
    if (h->in_round) return;
    h->in_round = true;
    h->before = h->behind = h;
    if (s->round == NULL) {
        s->round = h;
        return;
    }
    h->behind = s->round;
    h->before = s->round->before;
    h->before->behind = h->behind->before = h;
}

/* After its jobs have changed: whether it may start one, or is of no more use. */
static void settle_host(webhook_sender *s, host *h, const webhook_target *t) {
    if (h->waiting.first != NULL && h->active < WEBHOOK_SENDING_TO_ONE) join_round(s, h);
    else leave_round(s, h);
    if (h->waiting.first != NULL || h->active > 0) return;
    host **at = bucket_of(s, t);
    while (*at != h) at = &(*at)->next;
    *at = h->next;
    free(h);
}

/* --- one request --- */

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    job *j = context;
    (void)purpose;
    if (!webhook_guard_allows(j->owner->options.guard, j->target.host, &address->addr)) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)&address->addr;
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)&address->addr;
        bool is_six = address->addr.sa_family == AF_INET6;
        if (inet_ntop(address->addr.sa_family, is_six ? (const void *)&six->sin6_addr : (const void *)&four->sin_addr, j->refused,
                      sizeof j->refused) == NULL)
            snprintf(j->refused, sizeof j->refused, "an address");
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Nobody reads it; whoever sends without end is cut off. */
static size_t take_answer(char *bytes, size_t size, size_t count, void *context) {
    job *j = context;
    (void)bytes;
    j->answered += size * count;
    j->enough = j->answered > WEBHOOK_ANSWER_BYTES;
    return j->enough ? 0 : size * count;
}

static bool add_header(job *j, const char *name, const char *value) {
    char line[WEBHOOK_SIGNATURE_BYTES + 64];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(j->headers, line);
    if (longer != NULL) j->headers = longer;
    return longer != NULL;
}

static bool add_headers(job *j) {
    char signature[WEBHOOK_SIGNATURE_BYTES], seconds[24];
    int64_t now = clock_unix_ms() / 1000;
    snprintf(seconds, sizeof seconds, "%lld", (long long)now);
    if (!webhook_sign(j->owner->options.secrets, j->id, now, j->body, strlen(j->body), signature, NULL)) return false;
    struct curl_slist *none = curl_slist_append(NULL, "expect:"); /* a body of some kilobytes asks nobody first */
    j->headers = none;
    return none != NULL && add_header(j, "content-type", "application/json") && add_header(j, "webhook-id", j->id) &&
           add_header(j, "webhook-timestamp", seconds) && add_header(j, "webhook-signature", signature);
}

static bool set_up(job *j) {
    CURL *c = j->easy = curl_easy_init();
    const char *authorities = j->owner->options.authorities;
    if (c == NULL || !add_headers(j)) return false;
    curl_easy_setopt(c, CURLOPT_PRIVATE, j);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PROXY, ""); /* one that the environment names would be judged in the target's place */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* a name that is still being looked up is waited for by nobody */
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, WEBHOOK_SECONDS * 1000L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_SECONDS * 1000L);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, j);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, j);
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, j->body);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(j->body));
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, j->headers);
    /* Those that copy a text may lack memory. */
    return curl_easy_setopt(c, CURLOPT_USERAGENT, "imagined/" IMAGINED_VERSION) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_URL, j->url) == CURLE_OK &&
           (authorities[0] == '\0' || curl_easy_setopt(c, CURLOPT_CAINFO, authorities) == CURLE_OK);
}

/* What a person can do something about, in words. */
static void explain(job *j, CURLcode code) {
    webhook_result *r = &j->result;
    if (r->status >= 300 && r->status < 400) snprintf(r->error, sizeof r->error, "answered %d: redirects are not followed", r->status);
    else if (r->status > 0 && code == CURLE_OK) snprintf(r->error, sizeof r->error, "answered %d", r->status);
    else if (j->refused[0] != '\0')
        snprintf(r->error, sizeof r->error, "%s is no public address: the operator can allow it with IMAGINED_WEBHOOK_ALLOW", j->refused);
    else if (code == CURLE_OPERATION_TIMEDOUT) snprintf(r->error, sizeof r->error, "no answer within %d seconds", WEBHOOK_SECONDS);
    else snprintf(r->error, sizeof r->error, "%s", curl_easy_strerror(code));
}

/* Its host is settled after. */
static void end(job *j, CURLcode code) {
    webhook_result *r = &j->result;
    long status = 0;
    curl_off_t retry_after = 0;
    if (j->enough) code = CURLE_OK;
    if (j->easy != NULL) {
        curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(j->easy, CURLINFO_RETRY_AFTER, &retry_after);
    }
    /* An answer that broke off after its head is none. */
    r->status = code == CURLE_OK ? (int)status : 0;
    r->retry_after_seconds = (status == 429 || status == 503) && retry_after > 0 ? (int64_t)retry_after : 0;
    if (r->status < 200 || r->status > 299) explain(j, code);
}

/* What waits for this address. */
static fifo take_waiting(host *h, const char *url) {
    fifo taken = {0}, others = {0};
    for (job *j; (j = pop(&h->waiting)) != NULL;) push(strcmp(j->url, url) == 0 ? &taken : &others, j);
    h->waiting = others;
    return taken;
}

static void retire(webhook_sender *s, job *j, CURLcode code) {
    host *h = j->host;
    const webhook_target target = j->target;
    curl_multi_remove_handle(s->multi, j->easy);
    *j->link = j->next;
    if (j->next != NULL) j->next->link = j->link;
    s->active_count--;
    h->active--;
    end(j, code);
    fifo unsent = j->result.status == 410 ? take_waiting(h, j->url) : (fifo){0};
    finish(s, j);
    while ((j = pop(&unsent)) != NULL) {
        j->result.status = 410;
        j->result.unsent = true;
        snprintf(j->result.error, sizeof j->result.error, "the address has answered 410 meanwhile: it gets no messages any more");
        finish(s, j);
    }
    settle_host(s, h, &target);
}

static void start(webhook_sender *s, job *j) {
    bool ok = set_up(j) && curl_multi_add_handle(s->multi, j->easy) == CURLM_OK;
    if (!ok) {
        end(j, CURLE_OUT_OF_MEMORY);
        finish(s, j);
        return;
    }
    j->next = s->active;
    j->link = &s->active;
    if (j->next != NULL) j->next->link = &j->next;
    s->active = j;
    s->active_count++;
    j->host->active++;
}

/* --- the thread --- */

static void sort_in(webhook_sender *s, fifo *added) {
    for (job *j; (j = pop(added)) != NULL;) {
        error why = {0};
        bool ok = webhook_target_parse(j->url, &j->target, &why);
        j->host = ok ? host_of(s, &j->target) : NULL;
        if (j->host == NULL) {
            snprintf(j->result.error, sizeof j->result.error, "%.100s", ok ? curl_easy_strerror(CURLE_OUT_OF_MEMORY) : why.text);
            finish(s, j);
            continue;
        }
        push(&j->host->waiting, j);
        settle_host(s, j->host, &j->target);
    }
}

static void start_some(webhook_sender *s) {
    while (s->round != NULL && s->active_count < WEBHOOK_SENDING) {
        host *h = s->round;
        job *j = pop(&h->waiting);
        const webhook_target target = j->target;
        s->round = h->behind; /* the next one's turn */
        start(s, j);
        settle_host(s, h, &target);
    }
}

static void collect(webhook_sender *s) {
    int left;
    for (const CURLMsg *m; (m = curl_multi_info_read(s->multi, &left)) != NULL;) {
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode code = m->data.result;
        char *context = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &context);
        retire(s, (job *)(void *)context, code);
    }
}

static void *run(void *context) {
    webhook_sender *s = context;
    for (;;) {
        pthread_mutex_lock(&s->mutex);
        fifo added = s->added;
        s->added = (fifo){0};
        bool stop = s->stop;
        pthread_mutex_unlock(&s->mutex);
        sort_in(s, &added);
        if (stop) break;
        start_some(s);
        int running;
        curl_multi_perform(s->multi, &running);
        collect(s);
        if (s->round != NULL && s->active_count < WEBHOOK_SENDING) continue; /* what ended made room */
        curl_multi_poll(s->multi, NULL, 0, POLL_MS, NULL);
    }
    return NULL;
}

/* --- life --- */

bool webhook_sender_new(const webhook_sender_options *options, webhook_sender **out, error *e) {
    webhook_sender *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "the sender of webhooks", sizeof *s);
    s->options = *options;
    pthread_mutex_init(&s->mutex, NULL);
    s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->global = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    s->multi = s->global ? curl_multi_init() : NULL;
    bool ok = s->event >= 0 || error_system(e, "make", "an eventfd");
    ok = ok && (s->multi != NULL || error_set(e, ERROR_OUT_OF_MEMORY, "libcurl could not be set up"));
    if (ok) {
        curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS);
        /* A receiver that goes away while it is written to is an error, not a signal; the thread's own threads inherit it. */
        sigset_t pipe, before;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe, &before);
        s->started = pthread_create(&s->thread, NULL, run, s) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        ok = s->started || error_set(e, ERROR_OUT_OF_MEMORY, "the thread that sends webhooks could not be started");
    }
    if (!ok) {
        webhook_sender_free(s);
        return false;
    }
    *out = s;
    return true;
}

static void drop_all(fifo *f) {
    for (job *j; (j = pop(f)) != NULL;) job_free(j);
}

static void drop_hosts(webhook_sender *s) {
    for (int i = 0; i < HOST_BUCKETS; i++) {
        for (host *h; (h = s->buckets[i]) != NULL;) {
            s->buckets[i] = h->next;
            drop_all(&h->waiting);
            free(h);
        }
    }
}

void webhook_sender_free(webhook_sender *s) {
    if (s == NULL) return;
    if (s->started) {
        pthread_mutex_lock(&s->mutex);
        s->stop = true;
        pthread_mutex_unlock(&s->mutex);
        curl_multi_wakeup(s->multi);
        pthread_join(s->thread, NULL);
    }
    for (job *j; (j = s->active) != NULL;) {
        s->active = j->next;
        curl_multi_remove_handle(s->multi, j->easy);
        job_free(j);
    }
    drop_all(&s->added);
    drop_all(&s->finished);
    drop_hosts(s);
    if (s->multi != NULL) curl_multi_cleanup(s->multi);
    if (s->global) curl_global_cleanup();
    pthread_mutex_destroy(&s->mutex);
    if (s->event >= 0) close(s->event);
    free(s);
}

int webhook_sender_fd(const webhook_sender *s) { return s->event; }

bool webhook_sender_add(webhook_sender *s, const webhook_message *m, error *e) {
    size_t id = strlen(m->id) + 1, url = strlen(m->url) + 1, body = strlen(m->body) + 1;
    job *j = malloc(sizeof *j + id + url + body);
    if (j == NULL) return error_no_memory(e, "a webhook's message", sizeof *j + id + url + body);
    char *at = (char *)(j + 1);
    *j = (job){.result = {.context = m->context}, .owner = s, .id = memcpy(at, m->id, id), .url = memcpy(at + id, m->url, url),
               .body = memcpy(at + id + url, m->body, body)};
    pthread_mutex_lock(&s->mutex);
    push(&s->added, j);
    pthread_mutex_unlock(&s->mutex);
    curl_multi_wakeup(s->multi);
    return true;
}

bool webhook_sender_next(webhook_sender *s, webhook_result *out) {
    uint64_t count;
    while (read(s->event, &count, sizeof count) < 0 && errno == EINTR) continue;
    pthread_mutex_lock(&s->mutex);
    job *j = pop(&s->finished);
    pthread_mutex_unlock(&s->mutex);
    if (j == NULL) return false;
    *out = j->result;
    job_free(j);
    return true;
}
