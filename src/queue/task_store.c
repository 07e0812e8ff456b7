#include "queue/task_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static const double note_seconds = 0.1;  /* a note waits for company at most */
static const double retry_seconds = 1.0; /* between attempts while the disk takes nothing */
enum {
    SPARE_BYTES = 256 * 1024, /* that must be free before it is tried again: no space at all in between would only fail the next */
    LARGEST_GROUP = 1024,     /* changes in one transaction */
};

typedef enum change_kind { ADD_TASK, PUT_TASK, NOTE_TASK, DELETE_TASK, PUT_PROFILE, PUT_SETTING, PUT_WEBHOOK, DELETE_WEBHOOK, PUT_GONE, TROUBLE } change_kind;

typedef struct change {
    change_kind kind;
    char id[TASK_ID_BYTES];
    union {
        task task; /* ADD, PUT, NOTE */
        int images; /* DELETE */
        stored_profile profile;
        struct {
            char *key, *value;
        } setting;
        bool over; /* TROUBLE */
        char *text; /* DELETE_WEBHOOK: its id; PUT_GONE: an address */
    };
    stored_webhook *webhook; /* PUT_WEBHOOK, and of a PUT the message that goes with it; NULL: none. In one piece with its texts */
    task_store_done done;
    void *context;
    error fault;
    struct change *next;
} change;

typedef struct fifo {
    change *first, *last;
} fifo;

/* `mutex` guards `waiting`, `urgent`, `noted_at`, `finished` and `stop`; a change belongs to whoever took it out. The database is the
 * writer's once it runs, and so is what stands below it. */
struct task_store {
    task_store_options options;
    char *path;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    fifo waiting, finished;
    bool urgent;     /* something in `waiting` does not wait for company */
    double noted_at; /* clock_seconds of the first note in `waiting`; 0 none */
    bool stop, started;
    int event; /* an eventfd: not zero while `finished` holds something */
    task_database *database;
    fifo held;       /* what the disk did not take, before everything that waits */
    bool troubled;
    double retry_at; /* clock_seconds, while troubled */
};

static void push(fifo *f, change *c) {
    c->next = NULL;
    if (f->last != NULL) f->last->next = c;
    else f->first = c;
    f->last = c;
}

static void append(fifo *to, fifo *from) {
    if (from->first == NULL) return;
    if (to->last != NULL) to->last->next = from->first;
    else to->first = from->first;
    to->last = from->last;
    *from = (fifo){0};
}

static change *pop(fifo *f) {
    change *c = f->first;
    if (c == NULL) return NULL;
    f->first = c->next;
    if (f->first == NULL) f->last = NULL;
    return c;
}

static void change_free(change *c) {
    if (c->kind == ADD_TASK || c->kind == PUT_TASK || c->kind == NOTE_TASK) arena_free(&c->task.memory);
    if (c->kind == PUT_SETTING) {
        free(c->setting.key);
        free(c->setting.value);
    }
    if (c->kind == DELETE_WEBHOOK || c->kind == PUT_GONE) free(c->text);
    free(c->webhook);
    free(c);
}

/* --- the writer --- */

static bool write_one(task_store *s, const change *c, error *e) {
    switch (c->kind) {
    case ADD_TASK:
    case PUT_TASK:
    case NOTE_TASK:
        return task_database_put_task(s->database, &c->task, e) &&
               (c->webhook == NULL || task_database_put_webhook(s->database, c->webhook, e));
    case DELETE_TASK: return task_database_delete_task(s->database, c->id, e);
    case PUT_PROFILE: return task_database_put_profile(s->database, &c->profile, e);
    case PUT_SETTING: return task_database_put_setting(s->database, c->setting.key, c->setting.value, e);
    case PUT_WEBHOOK: return task_database_put_webhook(s->database, c->webhook, e);
    case DELETE_WEBHOOK: return task_database_delete_webhook(s->database, c->text, e);
    case PUT_GONE: return task_database_put_gone_webhook(s->database, c->text, e);
    case TROUBLE: break;
    }
    return true;
}

/* From `first` up to, not with, `end` in one transaction. */
static bool write_group(task_store *s, const change *first, const change *end, error *e) {
    bool ok = task_database_begin(s->database, e);
    for (const change *c = first; ok && c != end; c = c->next) ok = write_one(s, c, e);
    ok = ok && task_database_commit(s->database, e);
    if (!ok) task_database_rollback(s->database);
    return ok;
}

/* Hands results to the loop's thread. */
static void deliver(task_store *s, fifo *results) {
    if (results->first == NULL) return;
    const uint64_t one = 1;
    pthread_mutex_lock(&s->mutex);
    append(&s->finished, results);
    pthread_mutex_unlock(&s->mutex);
    while (write(s->event, &one, sizeof one) < 0 && errno == EINTR) continue;
}

static void tell_trouble(task_store *s, bool over, const error *why, fifo *results) {
    change *c = calloc(1, sizeof *c);
    if (c == NULL) return; /* told again with the next change of the kind */
    c->kind = TROUBLE;
    c->over = over;
    if (why != NULL) c->fault = *why;
    push(results, c);
    s->troubled = !over;
}

/* Of what could not be written, additions are refused, and what was promised is kept. */
static void hold(task_store *s, fifo *group, const error *why, fifo *results) {
    fifo kept = {0};
    for (change *c; (c = pop(group)) != NULL;) {
        if (c->kind == ADD_TASK) {
            c->fault = *why;
            push(results, c);
        } else {
            push(&kept, c);
        }
    }
    append(&kept, &s->held);
    s->held = kept;
    s->retry_at = clock_seconds() + retry_seconds;
    if (!s->troubled) tell_trouble(s, false, why, results);
}

/* Whether trying the same again later makes sense: the disk's fault, not the change's. */
static bool may_pass(const error *why) { return why->code != ERROR_INTERNAL && why->code != ERROR_INVALID; }

/* A group in which one change is at fault: each by itself, so that the others are written. What the disk does not take stays in the group,
 * and *why is the disk's. */
static void write_singly(task_store *s, fifo *group, fifo *results, error *why) {
    for (change *c; (c = group->first) != NULL; push(results, pop(group))) {
        error fault = {0};
        if (write_group(s, c, c->next, &fault)) {
            if (s->troubled) tell_trouble(s, true, NULL, results);
            continue;
        }
        if (fault.code == ERROR_NONE) fault.code = ERROR_INTERNAL;
        if (may_pass(&fault)) {
            *why = fault;
            return;
        }
        c->fault = fault;
    }
}

/* Takes out at most LARGEST_GROUP changes. Files go before their rows: what is interrupted between the two is deleted again at the next
 * start. */
static fifo next_group(task_store *s, fifo *from) {
    fifo group = {0};
    for (int i = 0; i < LARGEST_GROUP && from->first != NULL; i++) {
        change *c = pop(from);
        push(&group, c);
        if (c->kind == DELETE_TASK && s->options.remove_files != NULL) s->options.remove_files(s->options.context, c->id, c->images);
    }
    return group;
}

/* Everything that is held or in `work`. Stops at the first group that the disk does not take. */
static void write_all(task_store *s, fifo *work) {
    append(&s->held, work);
    while (s->held.first != NULL) {
        fifo group = next_group(s, &s->held), results = {0};
        error why = {0};
        bool ok = write_group(s, group.first, NULL, &why);
        if (ok && s->troubled) tell_trouble(s, true, NULL, &results);
        if (ok) append(&results, &group);
        else if (!may_pass(&why)) write_singly(s, &group, &results, &why);
        bool stuck = group.first != NULL;
        if (stuck) {
            /* What stands behind the group must not overtake it, but its additions need not wait for an answer. */
            append(&group, &s->held);
            hold(s, &group, &why, &results);
        }
        deliver(s, &results);
        if (stuck) return;
    }
}

/* While troubled and with nothing to write: would anything be taken? */
static void probe(task_store *s) {
    char text[24];
    struct statvfs disk;
    fifo results = {0};
    error why = {0};
    snprintf(text, sizeof text, "%lld", (long long)clock_unix_ms());
    s->retry_at = clock_seconds() + retry_seconds;
    if (statvfs(s->path, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < SPARE_BYTES) return;
    bool ok = task_database_begin(s->database, &why) && task_database_put_setting(s->database, "probed_ms", text, &why) &&
              task_database_commit(s->database, &why);
    if (!ok) task_database_rollback(s->database);
    if (!ok) return;
    tell_trouble(s, true, NULL, &results);
    deliver(s, &results);
}

/* Seconds until the writer has something to do; 0 now, −1 nothing. Called with the mutex held. */
static double due_in(const task_store *s) {
    if (s->stop || s->urgent) return 0;
    double now = clock_seconds(), at = -1;
    if (s->noted_at != 0 && !s->troubled) at = s->noted_at + note_seconds;
    if ((s->troubled || s->held.first != NULL) && (at < 0 || s->retry_at < at)) at = s->retry_at;
    return at < 0 ? -1 : at > now ? at - now : 0;
}

static void wait_for_work(task_store *s) {
    for (double seconds; (seconds = due_in(s)) != 0;) {
        if (seconds < 0) {
            pthread_cond_wait(&s->wake, &s->mutex);
            continue;
        }
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        long long nanoseconds = at.tv_nsec + (long long)(seconds * 1e9) + 1;
        at.tv_sec += (time_t)(nanoseconds / 1000000000);
        at.tv_nsec = (long)(nanoseconds % 1000000000);
        pthread_cond_timedwait(&s->wake, &s->mutex, &at);
    }
}

static void *run(void *context) {
    task_store *s = context;
    pthread_mutex_lock(&s->mutex);
    for (bool stop = false; !stop;) {
        wait_for_work(s);
        stop = s->stop;
        fifo work = s->waiting;
        s->waiting = (fifo){0};
        s->urgent = false;
        s->noted_at = 0;
        pthread_mutex_unlock(&s->mutex);
        if (s->troubled && s->held.first == NULL && work.first == NULL) probe(s);
        else write_all(s, &work);
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* --- life --- */

static bool read_everything(task_store *s, const task_store_readers *r, error *e) {
    return task_database_read_tasks(s->database, &r->tasks, e) &&
           (r->profile == NULL || task_database_read_profiles(s->database, r->profile, r->context, e)) &&
           (r->setting == NULL || task_database_read_settings(s->database, r->setting, r->context, e)) &&
           (r->webhook == NULL || task_database_read_webhooks(s->database, r->webhook, r->context, e)) &&
           (r->gone_webhook == NULL || task_database_read_gone_webhooks(s->database, r->gone_webhook, r->context, e));
}

static bool start_writer(task_store *s, error *e) {
    s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->started = s->event >= 0 && pthread_create(&s->thread, NULL, run, s) == 0;
    return s->started || error_set(e, ERROR_OUT_OF_MEMORY, "the thread that writes the database could not be started");
}

bool task_store_open(const task_store_options *options, const task_store_readers *readers, task_database_report *report, task_store **out,
                     error *e) {
    *report = (task_database_report){0};
    task_store *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "the task store", sizeof *s);
    s->options = *options;
    s->event = -1;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->path = strdup(options->path);
    bool ok = (s->path != NULL || error_no_memory(e, "the task store", strlen(options->path))) &&
              task_database_open(s->path, report, &s->database, e) && read_everything(s, readers, e) && start_writer(s, e);
    if (!ok) {
        task_store_free(s);
        return false;
    }
    *out = s;
    return true;
}

static void drop_all(fifo *f) {
    for (change *c; (c = pop(f)) != NULL;) change_free(c);
}

void task_store_free(task_store *s) {
    if (s == NULL) return;
    if (s->started) {
        pthread_mutex_lock(&s->mutex);
        s->stop = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
    }
    drop_all(&s->waiting);
    drop_all(&s->held);
    drop_all(&s->finished);
    task_database_close(s->database);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mutex);
    if (s->event >= 0) close(s->event);
    free(s->path);
    free(s);
}

int task_store_fd(const task_store *s) { return s->event; }

void task_store_service(task_store *s) {
    uint64_t count;
    while (read(s->event, &count, sizeof count) < 0 && errno == EINTR) continue;
    pthread_mutex_lock(&s->mutex);
    fifo results = s->finished;
    s->finished = (fifo){0};
    pthread_mutex_unlock(&s->mutex);
    for (change *c; (c = pop(&results)) != NULL;) {
        if (c->kind == TROUBLE && s->options.trouble != NULL) s->options.trouble(s->options.context, c->over ? NULL : &c->fault);
        if (c->done != NULL) c->done(c->context, c->id, c->fault.code != ERROR_NONE ? &c->fault : NULL);
        change_free(c);
    }
}

/* --- handing over --- */

static change *change_new(change_kind kind, const char *id, task_store_done done, void *context, error *e) {
    change *c = calloc(1, sizeof *c);
    if (c == NULL) {
        error_no_memory(e, "a change to write", sizeof *c);
        return NULL;
    }
    c->kind = kind;
    c->done = done;
    c->context = context;
    memcpy(c->id, id, strnlen(id, sizeof c->id - 1));
    return c;
}

static void hand_over(task_store *s, change *c) {
    pthread_mutex_lock(&s->mutex);
    push(&s->waiting, c);
    if (c->kind == NOTE_TASK) {
        if (s->noted_at == 0) s->noted_at = clock_seconds();
    } else {
        s->urgent = true;
    }
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

static const char *put_text(char **at, const char *text) {
    char *copy = *at;
    size_t size = strlen(text) + 1;
    memcpy(copy, text, size);
    *at += size;
    return copy;
}

static stored_webhook *copy_webhook(const stored_webhook *w, error *e) {
    size_t size = sizeof *w + strlen(w->id) + strlen(w->task) + strlen(w->url) + strlen(w->body) + 4;
    stored_webhook *copy = malloc(size);
    if (copy == NULL) {
        error_no_memory(e, "a message to write", size);
        return NULL;
    }
    char *at = (char *)(copy + 1);
    *copy = (stored_webhook){
        put_text(&at, w->id), put_text(&at, w->task), put_text(&at, w->url), put_text(&at, w->body), w->attempts, w->due_ms};
    return copy;
}

/* w NULL: alone. */
static bool hand_over_task(task_store *s, change_kind kind, const task *t, const stored_webhook *w, task_store_done done, void *context,
                           error *e) {
    change *c = change_new(kind, t->id, done, context, e);
    if (c == NULL) return false;
    if ((w != NULL && (c->webhook = copy_webhook(w, e)) == NULL) || !task_copy(t, &c->task, e)) {
        free(c->webhook);
        free(c);
        return false;
    }
    hand_over(s, c);
    return true;
}

bool task_store_add_task(task_store *s, const task *t, task_store_done done, void *context, error *e) {
    return hand_over_task(s, ADD_TASK, t, NULL, done, context, e);
}

bool task_store_put_task(task_store *s, const task *t, task_store_done done, void *context, error *e) {
    return hand_over_task(s, PUT_TASK, t, NULL, done, context, e);
}

bool task_store_put_task_and_webhook(task_store *s, const task *t, const stored_webhook *w, task_store_done done, void *context, error *e) {
    return hand_over_task(s, PUT_TASK, t, w, done, context, e);
}

bool task_store_note_task(task_store *s, const task *t, error *e) { return hand_over_task(s, NOTE_TASK, t, NULL, NULL, NULL, e); }

void task_store_hurry(task_store *s) {
    pthread_mutex_lock(&s->mutex);
    s->urgent |= s->waiting.first != NULL;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

bool task_store_delete_task(task_store *s, const char *id, int images, error *e) {
    change *c = change_new(DELETE_TASK, id, NULL, NULL, e);
    if (c == NULL) return false;
    c->images = images;
    hand_over(s, c);
    return true;
}

bool task_store_put_profile(task_store *s, const stored_profile *p, error *e) {
    change *c = change_new(PUT_PROFILE, "", NULL, NULL, e);
    if (c == NULL) return false;
    c->profile = *p;
    hand_over(s, c);
    return true;
}

bool task_store_put_setting(task_store *s, const char *key, const char *value, error *e) {
    change *c = change_new(PUT_SETTING, key, NULL, NULL, e);
    if (c == NULL) return false;
    c->setting.key = strdup(key);
    c->setting.value = value != NULL ? strdup(value) : NULL;
    if (c->setting.key == NULL || (value != NULL && c->setting.value == NULL)) {
        change_free(c);
        return error_no_memory(e, "a setting", strlen(key));
    }
    hand_over(s, c);
    return true;
}

bool task_store_put_webhook(task_store *s, const stored_webhook *w, error *e) {
    change *c = change_new(PUT_WEBHOOK, w->task, NULL, NULL, e);
    if (c == NULL) return false;
    c->webhook = copy_webhook(w, e);
    if (c->webhook == NULL) {
        free(c);
        return false;
    }
    hand_over(s, c);
    return true;
}

static bool hand_over_text(task_store *s, change_kind kind, const char *text, error *e) {
    change *c = change_new(kind, "", NULL, NULL, e);
    if (c == NULL) return false;
    c->text = strdup(text);
    if (c->text == NULL) {
        free(c);
        return error_no_memory(e, "a change to write", strlen(text));
    }
    hand_over(s, c);
    return true;
}

bool task_store_delete_webhook(task_store *s, const char *id, error *e) { return hand_over_text(s, DELETE_WEBHOOK, id, e); }
bool task_store_put_gone_webhook(task_store *s, const char *url, error *e) { return hand_over_text(s, PUT_GONE, url, e); }
