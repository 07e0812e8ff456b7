#include "server/tasks/webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "server/tasks/task_document.h"
#include "server/webhooks/webhook_schedule.h"
#include "server/webhooks/webhook_sender.h"

static const double progress_seconds = 0.5; /* between two messages of a task's progress */
enum {
    ID_BYTES = TASK_ID_BYTES + 32,
    NO_SENDER_MS = 5000,
    AT_ONCE = 100, /* messages handed over before the loop sees to others */
};

typedef struct message {
    stored_webhook kept; /* texts behind the struct */
    bool ready;          /* what it tells is on disk */
    bool sending;
    bool progress;       /* it is not kept */
    struct message *next, **link;
} message;

/* A task with a slot whose progress somebody wants to know. */
typedef struct progress {
    char task[TASK_ID_BYTES];
    bool sending, newer;
    double sent_at; /* clock_seconds */
    struct progress *next;
} progress;

typedef struct gone_url {
    struct gone_url *next;
    char url[];
} gone_url;

struct webhooks {
    webhooks_options options;
    task_keeper *keeper;
    webhook_secrets secrets;
    webhook_guard *guard;
    webhook_sender *sender; /* made for the first message */
    loop_watch *watch;
    loop_timer *timer;
    message *first;
    message *told;  /* progress, while it is under way */
    progress *running;
    gone_url *gone; /* newest first */
    size_t gone_count, sending;
    webhook_stats stats;
};

static void settle(webhooks *w);

/* --- messages --- */

static const char *put_text(char **at, const char *text) {
    char *copy = *at;
    size_t size = strlen(text) + 1;
    memcpy(copy, text, size);
    *at += size;
    return copy;
}

static message *message_new(const stored_webhook *from) {
    message *m = malloc(sizeof *m + strlen(from->id) + strlen(from->task) + strlen(from->url) + strlen(from->body) + 4);
    if (m == NULL) return NULL;
    char *at = (char *)(m + 1);
    *m = (message){.kept = *from};
    m->kept.id = put_text(&at, from->id);
    m->kept.task = put_text(&at, from->task);
    m->kept.url = put_text(&at, from->url);
    m->kept.body = put_text(&at, from->body);
    return m;
}

static void enlist(webhooks *w, message *m) {
    message **list = m->progress ? &w->told : &w->first;
    m->next = *list;
    m->link = list;
    if (m->next != NULL) m->next->link = &m->next;
    *list = m;
    w->stats.pending += !m->progress;
}

static void drop(webhooks *w, message *m) {
    *m->link = m->next;
    if (m->next != NULL) m->next->link = m->link;
    w->stats.pending -= !m->progress;
    free(m);
}

static message *find(const webhooks *w, const char *id) {
    message *m = w->first;
    while (m != NULL && strcmp(m->kept.id, id) != 0) m = m->next;
    return m;
}

/* {"type", "timestamp", "data": the task's document}; yours to free. NULL without memory. */
static char *write_body(const webhooks *w, const task *t, const char *type, int64_t at_ms) {
    char when[CLOCK_TEXT_BYTES];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    const struct previews *seen = task_status_is_final(t->status) ? NULL : w->options.previews; /* they go with the end */
    yyjson_mut_val *o = yyjson_mut_obj(doc), *data = task_document(doc, w->options.queue, seen, t, at_ms);
    yyjson_mut_obj_remove_key(data, "webhook"); /* how its telling went so far is no part of what is told */
    yyjson_mut_obj_add_str(doc, o, "type", type);
    yyjson_mut_obj_add_str(doc, o, "timestamp", clock_format(at_ms, when));
    yyjson_mut_obj_add_val(doc, o, "data", data);
    yyjson_mut_doc_set_root(doc, o);
    return json_write(doc, NULL);
}

/* NULL without memory, which is logged. */
static message *make(const webhooks *w, const task *t, const char *id, const char *type, int64_t at_ms) {
    char *body = write_body(w, t, type, at_ms);
    const stored_webhook of = {.id = id, .task = t->id, .url = t->request.webhook, .body = body, .due_ms = clock_unix_ms()};
    message *m = body != NULL ? message_new(&of) : NULL;
    free(body);
    if (m == NULL) log_line(LOG_ERROR, "task %s: not enough memory for its webhook's message", t->id);
    return m;
}

static const char *id_of(const task *t, const char *what, char id[ID_BYTES]) {
    snprintf(id, ID_BYTES, "%s-%s", t->id, what);
    return id;
}

/* --- addresses that want no more --- */

static bool is_gone(const webhooks *w, const char *url) {
    const gone_url *g = w->gone;
    while (g != NULL && strcmp(g->url, url) != 0) g = g->next;
    return g != NULL;
}

static void add_gone(webhooks *w, const char *url) {
    gone_url *g = is_gone(w, url) ? NULL : malloc(sizeof *g + strlen(url) + 1);
    if (g == NULL) return;
    strcpy(g->url, url);
    g->next = w->gone;
    w->gone = g;
    if (++w->gone_count <= STORED_GONE) return;
    gone_url **last = &w->gone;
    while ((*last)->next != NULL) last = &(*last)->next;
    free(*last);
    *last = NULL;
    w->gone_count--;
}

/* --- attempts --- */

static uint64_t random_number(void) {
    uint64_t n = 0;
    return getrandom(&n, sizeof n, 0) == sizeof n ? n : 0;
}

/* How it went, in the task's own words; t NULL: it is forgotten. */
static void tell_task(webhooks *w, task *t, const char *fault) {
    if (t == NULL) return;
    snprintf(t->webhook.last_error, sizeof t->webhook.last_error, "%s", fault);
    /* The end of one that is closing is written with its message, and never without. */
    if (!t->closing) task_keeper_note(w->keeper, t);
}

/* The message has been delivered, or never will be. */
static void conclude(webhooks *w, message *m, task *t, bool delivered, const char *fault) {
    if (t != NULL && delivered) t->webhook.delivered++;
    if (t != NULL && !delivered) t->webhook.given_up++;
    if (delivered) log_line(LOG_DEBUG, "webhook %s is delivered", m->kept.id);
    else log_line(LOG_WARNING, "webhook %s is given up after attempts: %d: %s", m->kept.id, m->kept.attempts, fault);
    tell_task(w, t, fault);
    task_keeper_delete_webhook(w->keeper, m->kept.id);
    drop(w, m);
}

static void try_again(webhooks *w, message *m, task *t, const webhook_result *r) {
    int64_t wait = webhook_schedule_next(m->kept.attempts, random_number(), r->retry_after_seconds);
    if (wait < 0) {
        w->stats.given_up++;
        conclude(w, m, t, false, r->error);
        return;
    }
    w->stats.failed++;
    m->kept.due_ms = clock_unix_ms() + wait;
    log_line(LOG_INFO, "webhook %s: attempt %d failed: %s; the next is in %lld s", m->kept.id, m->kept.attempts, r->error,
             (long long)(wait + 500) / 1000);
    tell_task(w, t, r->error);
    task_keeper_put_webhook(w->keeper, &m->kept);
}

static void close_address(webhooks *w, const char *url) {
    w->stats.gone++;
    add_gone(w, url);
    task_keeper_put_gone_webhook(w->keeper, url);
}

static progress *progress_of(const webhooks *w, const char *task_id) {
    progress *p = w->running;
    while (p != NULL && strcmp(p->task, task_id) != 0) p = p->next;
    return p;
}

static void progress_told(webhooks *w, message *m, task *t, const webhook_result *r) {
    progress *p = progress_of(w, m->kept.task);
    bool delivered = r->error[0] == '\0';
    if (p != NULL) p->sending = false;
    w->stats.delivered += delivered;
    w->stats.failed += !delivered;
    if (t != NULL && delivered) t->webhook.delivered++;
    if (t != NULL) snprintf(t->webhook.last_error, sizeof t->webhook.last_error, "%s", r->error);
    drop(w, m);
}

static void attempted(webhooks *w, const webhook_result *r) {
    message *m = r->context;
    task *t = queue_manager_find(w->options.queue, m->kept.task);
    w->sending--;
    m->sending = false;
    m->kept.attempts += !r->unsent;
    if (t != NULL) t->webhook.attempts += !r->unsent;
    if (r->status == 410 && !r->unsent) close_address(w, m->kept.url);
    if (m->progress) {
        progress_told(w, m, t, r);
    } else if (r->error[0] == '\0') {
        w->stats.delivered++;
        conclude(w, m, t, true, "");
    } else if (r->status == 410) {
        conclude(w, m, t, false, r->unsent ? r->error : "answered 410: this address gets no messages any more");
    } else {
        try_again(w, m, t, r);
    }
}

static void on_results(void *context) {
    webhooks *w = context;
    webhook_result r;
    while (webhook_sender_next(w->sender, &r)) attempted(w, &r);
    settle(w);
}

/* A file that cannot be made for want of space is made later: a full disk keeps nobody from starting. */
static bool read_secrets(webhooks *w, error *e) {
    char path[PATH_MAX];
    bool made;
    if (w->options.secret[0] != '\0') return webhook_secrets_parse(w->options.secret, "IMAGINED_WEBHOOK_SECRET", &w->secrets, e);
    if (!file_join(path, sizeof path, w->options.state_folder, "webhook_secret", e) || !webhook_secrets_keep(path, &w->secrets, &made, e))
        return false;
    if (made) log_line(LOG_INFO, "webhooks are signed with a new secret, kept in %s", path);
    return true;
}

/* The thread and what it needs are there once somebody wants to be told something. */
static bool have_sender(webhooks *w) {
    error why = {0};
    const webhook_sender_options options = {w->guard, &w->secrets, w->options.authorities};
    if (w->sender != NULL) return true;
    bool ok = (w->secrets.count > 0 || read_secrets(w, &why)) && webhook_sender_new(&options, &w->sender, &why) &&
              loop_watch_new(w->options.loop, webhook_sender_fd(w->sender), on_results, w, &w->watch, &why);
    if (ok) return true;
    webhook_sender_free(w->sender);
    w->sender = NULL;
    log_line(LOG_ERROR, "webhooks cannot be sent yet: %s", why.text);
    return false;
}

static bool hand_over(webhooks *w, message *m) {
    const webhook_message request = {m->kept.id, m->kept.url, m->kept.body, m};
    m->sending = have_sender(w) && webhook_sender_add(w->sender, &request, NULL);
    w->sending += m->sending;
    return m->sending;
}

/* --- progress --- */

static void tell_progress(webhooks *w, progress *p) {
    char what[24], id[ID_BYTES];
    const task *t = queue_manager_find(w->options.queue, p->task);
    p->newer = false;
    p->sent_at = clock_seconds();
    if (t == NULL || is_gone(w, t->request.webhook)) return;
    snprintf(what, sizeof what, "progress-%lld", (long long)clock_unix_ms());
    message *m = make(w, t, id_of(t, what, id), "task.progress", clock_unix_ms());
    if (m == NULL) return;
    m->progress = true;
    enlist(w, m);
    p->sending = hand_over(w, m);
    if (!p->sending) drop(w, m);
}

static void progress_came(webhooks *w, const task *t) {
    progress *p = progress_of(w, t->id);
    if (p == NULL) {
        p = calloc(1, sizeof *p);
        if (p == NULL) return;
        memcpy(p->task, t->id, sizeof p->task);
        p->next = w->running;
        w->running = p;
    }
    p->newer = true;
}

static void progress_ends(webhooks *w, const char *task_id) {
    progress **at = &w->running, *p;
    while (*at != NULL && strcmp((*at)->task, task_id) != 0) at = &(*at)->next;
    if ((p = *at) == NULL) return;
    *at = p->next;
    free(p);
}

/* --- what goes out when --- */

static void sooner(int64_t *wait, int64_t ms) {
    if (ms < 1) ms = 1;
    if (*wait < 0 || ms < *wait) *wait = ms;
}

/* False where nothing can be sent now. */
static bool send_message(webhooks *w, message *m) {
    static const char gone[] = "this address has answered 410 before: it gets no messages any more";
    if (!is_gone(w, m->kept.url)) return hand_over(w, m);
    conclude(w, m, queue_manager_find(w->options.queue, m->kept.task), false, gone);
    return true;
}

/* Sends what is due, and has the loop come back when the next is. */
static void settle(webhooks *w) {
    int64_t now = clock_unix_ms(), wait = -1;
    int handled = 0;
    if (w->keeper == NULL) return;
    for (message *m = w->first, *next; m != NULL; m = next) {
        next = m->next;
        if (!m->ready || m->sending) continue;
        if (m->kept.due_ms > now) {
            sooner(&wait, m->kept.due_ms - now);
        } else if (handled++ == AT_ONCE) {
            sooner(&wait, 0);
            break;
        } else if (!send_message(w, m)) {
            sooner(&wait, NO_SENDER_MS);
            break;
        }
    }
    for (progress *p = w->running; p != NULL; p = p->next) {
        if (!p->newer || p->sending) continue;
        double left = p->sent_at + progress_seconds - clock_seconds();
        if (p->sent_at == 0 || left <= 0) tell_progress(w, p);
        else sooner(&wait, (int64_t)(left * 1000) + 1);
    }
    loop_timer_set(w->timer, wait);
}

static void timer_due(void *context) { settle(context); }

/* --- what happens to tasks --- */

static void started(webhooks *w, const task *t) {
    char id[ID_BYTES];
    task *own = queue_manager_find(w->options.queue, t->id);
    message *m = own != NULL ? make(w, t, id_of(t, "started", id), "task.started", t->started_ms) : NULL;
    if (m == NULL) return;
    m->ready = true;
    enlist(w, m);
    /* First the message, then that there is one: what is cut off between the two is told again at its next start. */
    task_keeper_put_webhook(w->keeper, &m->kept);
    own->webhook.started = true;
    task_keeper_note(w->keeper, own);
}

const stored_webhook *webhooks_ending(webhooks *w, const task *t) {
    char id[ID_BYTES];
    if (t->request.webhook == NULL || (t->request.webhook_events & WEBHOOK_COMPLETED) == 0) return NULL;
    message *m = find(w, id_of(t, "completed", id));
    if (m != NULL) return &m->kept;
    /* As it will be shown once this is on disk. */
    task over = *t;
    over.status = t->end;
    over.closing = over.suspended = false;
    over.phase[0] = '\0';
    m = make(w, &over, id, "task.completed", t->finished_ms);
    if (m == NULL) return NULL;
    enlist(w, m);
    return &m->kept;
}

static void ended(webhooks *w, const task *t) {
    char id[ID_BYTES];
    message *m = find(w, id_of(t, "completed", id));
    progress_ends(w, t->id);
    if ((t->request.webhook_events & WEBHOOK_COMPLETED) == 0) return;
    if (m == NULL) { /* there was no memory for it before */
        m = make(w, t, id, "task.completed", t->finished_ms);
        if (m == NULL) return;
        enlist(w, m);
        task_keeper_put_webhook(w->keeper, &m->kept);
    }
    m->ready = true;
}

void webhooks_changed(webhooks *w, const task *t, task_change what) {
    uint64_t events = t->request.webhook_events;
    if (t->request.webhook == NULL) return;
    if (what == CHANGE_ENDED) ended(w, t);
    else if (what == CHANGE_QUEUED && t->status == TASK_QUEUED) progress_ends(w, t->id); /* and not only another priority */
    else if (what == CHANGE_STARTED && (events & WEBHOOK_START) != 0 && !t->webhook.started) started(w, t);
    else if (what == CHANGE_PROGRESS && (events & WEBHOOK_PROGRESS) != 0) progress_came(w, t);
    else return;
    settle(w);
}

/* --- requests --- */

static bool read_event(json body, yyjson_val *v, uint64_t *events, error *e) {
    static const char *const names[] = {"start", "progress", "completed"};
    for (int i = 0; i < 3; i++) {
        if (!yyjson_equals_str(v, names[i])) continue;
        *events |= (uint64_t)1 << i;
        return true;
    }
    return json_complain(body, "webhook_events_filter", e, "must be a list of start, progress and completed");
}

bool webhooks_read(const webhooks *w, json body, task_request *io, error *e) {
    const char *url = NULL;
    json filter = {0};
    webhook_target target;
    uint64_t events = 0;
    if (!json_text(body, "webhook", WEBHOOK_URL_BYTES - 1, &url, e) || !json_array(body, "webhook_events_filter", &filter, e)) return false;
    yyjson_arr_iter items = yyjson_arr_iter_with(filter.value);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&items)) != NULL;)
        if (!read_event(body, v, &events, e)) return false;
    if (filter.value != NULL && events == 0)
        return json_complain(body, "webhook_events_filter", e, "must name one of start, progress and completed");
    if (url == NULL) return true;
    if (!webhook_target_parse(url, &target, e) || !webhook_guard_admits(w->guard, &target, e)) return false;
    if (w->stats.pending >= WEBHOOKS_PENDING)
        return error_field(e, ERROR_BUSY, "webhook",
                           "%d webhooks' messages wait for their receivers: no task with another is taken until some are delivered",
                           WEBHOOKS_PENDING);
    io->webhook = url;
    io->webhook_events = filter.value != NULL ? events : WEBHOOK_COMPLETED;
    return true;
}

/* --- life --- */

/* Told at the start, and not by the first delivery. */
static bool can_read_authorities(const char *path, error *e) {
    if (path[0] == '\0' || access(path, R_OK) == 0) return true;
    error_system(e, "read", path);
    return error_prefix(e, "IMAGINED_WEBHOOK_CA_FILE: ");
}

bool webhooks_new(const webhooks_options *options, webhooks **out, error *e) {
    if (!can_read_authorities(options->authorities, e)) return false;
    webhooks *w = calloc(1, sizeof *w);
    if (w == NULL) return error_no_memory(e, "the webhooks", sizeof *w);
    w->options = *options;
    error why = {0};
    bool ok = read_secrets(w, &why);
    if (!ok && why.code == ERROR_DISK_FULL) log_line(LOG_WARNING, "webhooks have no secret yet: %s", why.text);
    else if (!ok && e != NULL) *e = why;
    ok = ok || why.code == ERROR_DISK_FULL;
    if (!ok || !webhook_guard_new(options->allowed, &w->guard, e) || !loop_timer_new(options->loop, timer_due, w, &w->timer, e)) {
        webhooks_free(w);
        return false;
    }
    *out = w;
    return true;
}

void webhooks_free(webhooks *w) {
    if (w == NULL) return;
    loop_watch_free(w->watch);
    loop_timer_free(w->timer);
    webhook_sender_free(w->sender);
    while (w->first != NULL) drop(w, w->first);
    while (w->told != NULL) drop(w, w->told);
    while (w->running != NULL) progress_ends(w, w->running->task);
    for (gone_url *g; (g = w->gone) != NULL;) {
        w->gone = g->next;
        free(g);
    }
    webhook_guard_free(w->guard);
    free(w);
}

void webhooks_restore(webhooks *w, const stored_webhook *kept) {
    message *m = message_new(kept);
    if (m == NULL) {
        log_line(LOG_ERROR, "webhook %s stays on disk until the next start: there is not enough memory", kept->id);
        return;
    }
    m->ready = true;
    enlist(w, m);
}

void webhooks_restore_gone(webhooks *w, const char *url) { add_gone(w, url); }

void webhooks_begin(webhooks *w, task_keeper *keeper) {
    w->keeper = keeper;
    loop_timer_set(w->timer, 0);
}

size_t webhooks_sending(const webhooks *w) { return w->sending; }
webhook_stats webhooks_get_stats(const webhooks *w) { return w->stats; }
