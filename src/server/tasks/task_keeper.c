#include "server/tasks/task_keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "server/tasks/webhooks.h"

enum { RETRY_MS = 1000 };

/* A task that is being written for the first time. */
typedef struct submission {
    task_keeper *keeper;
    task *task;
    task_keeper_submitted done;
    void *context;
    struct submission *next, **link; /* in the keeper's list */
} submission;

typedef struct setting {
    char *key, *value;
    struct setting *next;
} setting;

struct task_keeper {
    task_keeper_options options;
    task_keeper_listener listener;
    task_store *store;
    loop_watch *watch;
    loop_timer *timer;
    submission *submissions;
    setting *settings;
    bool accepting;  /* the queue's change is one that is on disk already */
    bool owed;       /* an end could not be handed over, for want of memory */
    uint64_t picture_bytes; /* of the queue's tasks */
    size_t ends;     /* handed over and not yet on disk */
    error store_trouble, picture_trouble; /* code ERROR_NONE: none */
};

/* --- trouble --- */

const error *task_keeper_trouble(const task_keeper *k) {
    return k->store_trouble.code != ERROR_NONE ? &k->store_trouble : k->picture_trouble.code != ERROR_NONE ? &k->picture_trouble : NULL;
}

static void set_trouble(task_keeper *k, error *which, const error *why) {
    bool before = task_keeper_trouble(k) != NULL;
    if (why != NULL) *which = *why;
    else *which = (error){0};
    const error *now = task_keeper_trouble(k);
    if (now != NULL) queue_manager_hold(k->options.queue, now->text);
    else queue_manager_release(k->options.queue);
    if (!before && now != NULL)
        log_line(LOG_ERROR, "the queue is paused: %s; it goes on by itself once the disk takes what it must keep", now->text);
    if (!before || now != NULL) return;
    log_line(LOG_INFO, "the disk takes everything again: the queue goes on");
    if (k->listener.eased != NULL) k->listener.eased(k->listener.context);
}

static void store_trouble(void *context, const error *why) {
    task_keeper *k = context;
    set_trouble(k, &k->store_trouble, why);
}

void task_keeper_picture_trouble(task_keeper *k, const error *why) { set_trouble(k, &k->picture_trouble, why); }

/* --- the queue's changes --- */

static void end_written(void *context, const char *id, const error *fault) {
    task_keeper *k = context;
    task *t = queue_manager_find(k->options.queue, id);
    k->ends--;
    if (t == NULL || !t->closing) return;
    /* Only a fault of this program gets here: the disk's own are tried again. */
    if (fault != NULL) log_line(LOG_ERROR, "the end of task %s could not be written: %s", id, fault->text);
    queue_manager_finish(k->options.queue, t);
    if (k->listener.ended != NULL) k->listener.ended(k->listener.context, t);
}

static void write_end(task_keeper *k, const task *t) {
    error fault = {0};
    const stored_webhook *message = k->options.webhooks != NULL ? webhooks_ending(k->options.webhooks, t) : NULL;
    if (message != NULL ? task_store_put_task_and_webhook(k->store, t, message, end_written, k, &fault)
                        : task_store_put_task(k->store, t, end_written, k, &fault)) {
        k->ends++;
        return;
    }
    log_line(LOG_ERROR, "the end of task %s cannot be written yet: %s", t->id, fault.text);
    k->owed = true;
    loop_timer_set(k->timer, RETRY_MS);
}

void task_keeper_note(task_keeper *k, const task *t) {
    error fault = {0};
    if (!task_store_note_task(k->store, t, &fault)) log_line(LOG_WARNING, "task %s: its state is not written: %s", t->id, fault.text);
}

static void changed(void *context, task *t) {
    task_keeper *k = context;
    if (k->accepting || task_status_is_final(t->status)) return;
    if (t->closing) write_end(k, t);
    else task_keeper_note(k, t);
}

static uint64_t bytes_of(const task *t) {
    uint64_t bytes = 0;
    for (int i = 0; i < t->request.count; i++) bytes += t->images[i].bytes;
    return bytes;
}

uint64_t task_keeper_picture_bytes(const task_keeper *k) { return k->picture_bytes; }

static void forgotten(void *context, task *t) {
    task_keeper *k = context;
    k->picture_bytes -= bytes_of(t);
    error fault = {0};
    if (!task_store_delete_task(k->store, t->id, t->request.count, &fault))
        log_line(LOG_WARNING, "task %s stays on disk until the next start: %s", t->id, fault.text);
}

static void write_owed(void *context) {
    task_keeper *k = context;
    if (!k->owed) return;
    k->owed = false;
    for (const task *t = queue_manager_first(k->options.queue); t != NULL; t = queue_manager_after(t))
        if (t->closing) write_end(k, t);
}

void task_keeper_picture_stored(task_keeper *k, task *t, int index, uint64_t bytes) {
    k->picture_bytes += bytes - t->images[index].bytes;
    t->images[index].stored = true;
    t->images[index].bytes = bytes;
    /* A task's only picture is written with its end, which comes at once. */
    if (t->request.count > 1 || task_status_is_final(t->status)) task_keeper_note(k, t);
}

void task_keeper_picture_removed(task_keeper *k, task *t, int index) {
    k->picture_bytes -= t->images[index].bytes;
    t->images[index].stored = false;
    t->images[index].bytes = 0;
    /* The file first: a row that still counts it after a crash is harmless, a file that no row knows stays for ever. */
    picture_store_remove_one(k->options.pictures, t->id, index);
    task_keeper_note(k, t);
    task_store_hurry(k->store);
}

void task_keeper_hurry(task_keeper *k) { task_store_hurry(k->store); }

/* --- submissions --- */

static void submission_free(submission *s) {
    *s->link = s->next;
    if (s->next != NULL) s->next->link = s->link;
    free(s);
}

static void submission_written(void *context, const char *id, const error *fault) {
    submission s = *(submission *)context;
    task_keeper *k = s.keeper;
    submission_free(context);
    if (fault != NULL) {
        queue_manager_discard_task(k->options.queue, s.task);
        s.done(s.context, id, NULL, fault);
        return;
    }
    k->accepting = true;
    queue_manager_accept_task(k->options.queue, s.task);
    k->accepting = false;
    s.done(s.context, id, s.task, NULL);
}

bool task_keeper_submit(task_keeper *k, const task_request *request, task_priority priority, task_keeper_submitted done, void *context,
                        char id[TASK_ID_BYTES], error *e) {
    const error *why = task_keeper_trouble(k);
    if (why != NULL) return error_set(e, why->code, "no task can be taken at the moment: %s", why->text);
    submission *s = calloc(1, sizeof *s);
    if (s == NULL) return error_no_memory(e, "a submission", sizeof *s);
    if (!queue_manager_prepare_task(k->options.queue, request, priority, clock_unix_ms(), &s->task, e)) {
        free(s);
        return false;
    }
    *s = (submission){.keeper = k, .task = s->task, .done = done, .context = context, .next = k->submissions, .link = &k->submissions};
    if (s->next != NULL) s->next->link = &s->next;
    k->submissions = s;
    memcpy(id, s->task->id, TASK_ID_BYTES);
    if (task_store_add_task(k->store, s->task, submission_written, s, e)) return true;
    queue_manager_discard_task(k->options.queue, s->task);
    submission_free(s);
    return false;
}

void task_keeper_each_unfinished(const task_keeper *k, void (*visit)(void *context, const task *t), void *context) {
    for (const task *t = queue_manager_first(k->options.queue); t != NULL; t = queue_manager_after(t))
        if (!task_status_is_final(t->status)) visit(context, t);
    for (const submission *s = k->submissions; s != NULL; s = s->next) visit(context, s->task);
}

bool task_keeper_busy(const task_keeper *k) { return k->submissions != NULL || k->ends > 0 || k->owed; }

/* --- settings --- */

static void remember(task_keeper *k, const char *key, const char *value) {
    setting **link = &k->settings;
    while (*link != NULL && strcmp((*link)->key, key) != 0) link = &(*link)->next;
    setting *old = *link;
    if (old != NULL) {
        *link = old->next;
        free(old->key);
        free(old->value);
        free(old);
    }
    setting *s = value != NULL ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) return;
    *s = (setting){.key = strdup(key), .value = strdup(value), .next = k->settings};
    if (s->key != NULL && s->value != NULL) {
        k->settings = s;
        return;
    }
    free(s->key);
    free(s->value);
    free(s);
}

static void take_setting(void *context, const char *key, const char *value) { remember(context, key, value); }

const char *task_keeper_setting(const task_keeper *k, const char *key) {
    for (const setting *s = k->settings; s != NULL; s = s->next)
        if (strcmp(s->key, key) == 0) return s->value;
    return NULL;
}

void task_keeper_set(task_keeper *k, const char *key, const char *value) {
    error fault = {0};
    remember(k, key, value);
    if (!task_store_put_setting(k->store, key, value, &fault))
        log_line(LOG_WARNING, "the setting '%s' is not written: %s", key, fault.text);
}

/* --- webhooks --- */

static void tell_lost(const char *what, const error *fault) {
    log_line(LOG_WARNING, "the webhook %s: its state is not written: %s", what, fault->text);
}

void task_keeper_put_webhook(task_keeper *k, const stored_webhook *w) {
    error fault = {0};
    if (!task_store_put_webhook(k->store, w, &fault)) tell_lost(w->id, &fault);
}

void task_keeper_delete_webhook(task_keeper *k, const char *id) {
    error fault = {0};
    if (!task_store_delete_webhook(k->store, id, &fault)) tell_lost(id, &fault);
}

void task_keeper_put_gone_webhook(task_keeper *k, const char *url) {
    error fault = {0};
    if (!task_store_put_gone_webhook(k->store, url, &fault)) tell_lost("that answered 410", &fault);
}

static void take_webhook(void *context, const stored_webhook *w) {
    const task_keeper *k = context;
    if (k->options.webhooks != NULL) webhooks_restore(k->options.webhooks, w);
}

static void take_gone_webhook(void *context, const char *url) {
    const task_keeper *k = context;
    if (k->options.webhooks != NULL) webhooks_restore_gone(k->options.webhooks, url);
}

/* --- the beginning --- */

/* A picture that the row counts as stored may have been taken away meanwhile; what is not final makes it again. */
static void forget_lost_pictures(const task_keeper *k, task *t) {
    for (int i = 0; i < t->request.count; i++) {
        char id[PICTURE_ID_BYTES], path[PATH_MAX];
        picture_id_format(t->id, i, id);
        if (t->images[i].stored && picture_store_path(k->options.pictures, id, path, NULL) && !file_exists(path))
            t->images[i] = (task_image){.seed = t->images[i].seed};
    }
}

static void take_task(void *context, task *t) {
    task_keeper *k = context;
    const task_request *r = &t->request;
    if (!task_status_is_final(t->status)) forget_lost_pictures(k, t);
    if (r->idempotency_key != NULL && strlen(r->idempotency_key) < IDEMPOTENCY_KEY_BYTES)
        idempotency_add(k->options.idempotency, r->owner, r->idempotency_key, r->body_hash, r->body_size, t->id);
    error fault = {0};
    if (queue_manager_restore_task(k->options.queue, t, &fault)) {
        k->picture_bytes += bytes_of(t);
        return;
    }
    log_line(LOG_ERROR, "task %s is left out until the next start: %s", t->id, fault.text);
    arena_free(&t->memory);
    free(t);
}

/* For the next engine, and for estimates. */
static void take_profile(void *context, const stored_profile *kept) {
    task_keeper *k = context;
    engine_profile p;
    char shape[TASK_SHAPE_BYTES];
    if (!engine_profiles_restore(k->options.profiles, kept, &p)) return;
    const task_request r = {.model = p.model,
                            .precision = p.precision,
                            .width = p.width,
                            .height = p.height,
                            .negative_prompt = p.guidance_pair ? "" : NULL,
                            .true_cfg_scale = p.guidance_pair ? 2 : 1};
    const profile known = {.step_seconds = p.step_seconds,
                           .load_seconds = p.load_seconds,
                           .encode_seconds = p.encode_seconds,
                           .decode_seconds = p.decode_seconds,
                           .peak_bytes = p.peak_bytes};
    task_shape(&r, p.batch, shape);
    profile_table_restore(queue_manager_profiles(k->options.queue), shape, &known);
}

static void keep_profile(void *context, const stored_profile *measured) {
    error fault = {0};
    if (!task_store_put_profile(((task_keeper *)context)->store, measured, &fault))
        log_line(LOG_WARNING, "what a task took is not written: %s", fault.text);
}

static void skip_task(void *context, const error *why) {
    (void)context;
    log_line(LOG_ERROR, "%s; it is left out, its row stays as it is", why->text);
}

static void remove_files(void *context, const char *id, int images) {
    const task_keeper *k = context; /* on the store's thread: options do not change */
    picture_store_remove(k->options.pictures, id, images);
}

static void serve_store(void *context) { task_store_service(((task_keeper *)context)->store); }

static bool open_store(task_keeper *k, error *e) {
    char path[PATH_MAX];
    task_database_report report;
    const task_store_options storing = {.path = path, .context = k, .trouble = store_trouble, .remove_files = remove_files};
    const task_store_readers readers = {{k, take_task, skip_task}, k, take_profile, take_setting, take_webhook, take_gone_webhook};
    if (!file_join(path, sizeof path, k->options.state_folder, "imagined.db", e)) return false;
    bool ok = task_store_open(&storing, &readers, &report, &k->store, e);
    if (report.moved_to[0] != '\0')
        log_line(LOG_ERROR, "THE DATABASE OF TASKS IS DAMAGED (%s). It was moved to %s, and a new one is begun: tasks that waited must be submitted again, pictures stay",
                 report.damage.text, report.moved_to);
    return ok;
}

/* What nobody wants any more: a wish to cancel was recorded before its end, or the client that waited is gone with the process. */
static void end_unwanted(task_keeper *k) {
    for (task *t = queue_manager_first(k->options.queue), *next; t != NULL; t = next) {
        next = queue_manager_after(t);
        if (t->status == TASK_QUEUED && (t->cancel_requested || t->request.awaited))
            queue_manager_close(k->options.queue, t, TASK_CANCELLED, NULL, clock_unix_ms());
    }
}

bool task_keeper_new(const task_keeper_options *options, task_keeper **out, error *e) {
    task_keeper *k = calloc(1, sizeof *k);
    if (k == NULL) return error_no_memory(e, "the keeper of tasks", sizeof *k);
    k->options = *options;
    const queue_hooks hooks = {k, changed, forgotten};
    if (!loop_timer_new(options->loop, write_owed, k, &k->timer, e) || !open_store(k, e) ||
        !loop_watch_new(options->loop, task_store_fd(k->store), serve_store, k, &k->watch, e)) {
        task_keeper_free(k);
        return false;
    }
    queue_manager_set_hooks(options->queue, &hooks);
    engine_profiles_listen(options->profiles, keep_profile, k);
    end_unwanted(k);
    *out = k;
    return true;
}

void task_keeper_listen(task_keeper *k, const task_keeper_listener *l) { k->listener = *l; }

void task_keeper_free(task_keeper *k) {
    if (k == NULL) return;
    const queue_hooks none = {0};
    queue_manager_set_hooks(k->options.queue, &none);
    engine_profiles_listen(k->options.profiles, NULL, NULL);
    loop_watch_free(k->watch);
    loop_timer_free(k->timer);
    task_store_free(k->store);
    while (k->submissions != NULL) {
        queue_manager_discard_task(k->options.queue, k->submissions->task);
        submission_free(k->submissions);
    }
    while (k->settings != NULL) remember(k, k->settings->key, NULL);
    free(k);
}
