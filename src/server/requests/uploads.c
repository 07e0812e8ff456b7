#include "server/requests/uploads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "server/access/owner.h"
#include "server/http/worker.h"
#include "server/requests/services.h"
#include "server/tasks/input_holds.h"

enum { TRIM_EACH_MS = 60 * 1000 };

typedef struct upload {
    worker_job job;
    http_exchange *exchange; /* the loop's; NULL: the client has left */
    upload_answer answer;
    void *context; /* the answer's */
    char key[OWNER_BYTES]; /* of whose it is to be; "": nobody's */
    upload_looked looked; /* not NULL: in place of the answer, and nothing is stored */
    char *path;           /* NULL, or the file that `body` is read from */
    buffer body;
    size_t offset, size;
    size_t charged;         /* against UPLOADS_MAX_BYTES */
    upload_prepare prepare; /* NULL: the body is a picture as it is */
    input result;
    error fault; /* code ERROR_NONE: stored */
} upload;

/* An upload is the worker's until it is done, but for its exchange and answer, which are the loop's. */
struct uploads {
    struct services *services;
    input_limits limits;
    size_t waiting_bytes; /* of bodies not yet answered; the loop's, as is the next */
    size_t count;         /* not yet answered */
    worker *worker;
    loop_timer *trim;
};

static void upload_free(upload *u) {
    buffer_free(&u->body);
    free(u->path);
    free(u);
}

/* On the worker's thread. */
static void store(void *context, worker_job *job) {
    const uploads *m = context;
    upload *u = (upload *)job;
    if (u->path != NULL && !file_read(u->path, UPLOADS_MAX_BYTES, &u->body, &u->fault)) return;
    if (u->prepare != NULL && !u->prepare(&u->body, &u->fault)) return;
    if (u->path != NULL || u->prepare != NULL) u->size = u->body.size;
    if (u->looked != NULL) return;
    input_store_write(m->services->inputs, u->key, u->body.data + u->offset, u->size, &u->result, &u->fault);
}

static void trim(void *context) {
    uploads *m = context;
    input_holds held;
    input_holds_collect(m->services->keeper, &held);
    input_store_trim(m->services->inputs, &m->limits, clock_unix_ms(), input_holds_has, &held);
    input_holds_free(&held);
    loop_timer_set(m->trim, TRIM_EACH_MS);
}

/* It was trimmed at once: what is kept in its place is held. */
static void tell_no_room(const uploads *m, upload *u) {
    if (m->limits.bytes > 0 && u->result.bytes > m->limits.bytes) error_set(&u->fault, ERROR_TOO_LARGE, "the picture alone is more than IMAGINED_KEEP_IMAGES_GB");
    else error_set(&u->fault, ERROR_BUSY, "pictures of tasks that are not over take all the room that there is for pictures (IMAGINED_KEEP_IMAGES_GB): come again when some are over");
}

static void finish(void *context, worker_job *job) {
    uploads *m = context;
    upload *u = (upload *)job;
    services *s = m->services;
    http_exchange *x = u->exchange;
    m->waiting_bytes -= u->charged;
    m->count--;
    if (u->looked != NULL) {
        if (x != NULL) http_when_left(x, NULL, NULL);
        u->looked(s, x, &u->body, u->fault.code != ERROR_NONE ? &u->fault : NULL);
        upload_free(u);
        return;
    }
    bool ok = u->fault.code == ERROR_NONE && input_store_add(s->inputs, &u->result, &u->fault);
    if (ok) trim(m);
    const input *stored = ok ? input_store_find(s->inputs, u->key, u->result.id) : NULL;
    if (ok && stored == NULL) tell_no_room(m, u);
    if (stored != NULL) log_line(LOG_DEBUG, "input %s is stored: %d × %d, bytes: %llu", stored->id, stored->info.width, stored->info.height,
                                 (unsigned long long)stored->bytes);
    if (x != NULL) http_when_left(x, NULL, NULL);
    u->answer(s, x, stored, stored == NULL ? &u->fault : NULL, u->context);
    upload_free(u);
}

/* Its exchange was left before; the context is for the callee to free. */
static void dropped(void *context, worker_job *job) {
    const uploads *m = context;
    upload *u = (upload *)job;
    error why;
    error_set(&why, ERROR_BUSY, "the server stops");
    if (u->looked != NULL) u->looked(m->services, NULL, NULL, &why);
    else u->answer(m->services, NULL, NULL, &why, u->context);
    upload_free(u);
}

bool uploads_new(loop *l, struct services *s, const input_limits *limits, uploads **out, error *e) {
    uploads *m = calloc(1, sizeof *m);
    if (m == NULL) return error_no_memory(e, "the uploads", sizeof *m);
    m->services = s;
    m->limits = *limits;
    const worker_duties duties = {m, store, finish, dropped};
    if (!worker_new(l, "the uploads", &duties, &m->worker, e) || !loop_timer_new(l, trim, m, &m->trim, e)) {
        uploads_free(m);
        return false;
    }
    loop_timer_set(m->trim, 0);
    *out = m;
    return true;
}

void uploads_free(uploads *m) {
    if (m == NULL) return;
    worker_free(m->worker);
    loop_timer_free(m->trim);
    free(m);
}

bool uploads_idle(const uploads *m) { return m->count == 0; }

static void left(void *context, http_exchange *x) {
    (void)x;
    ((upload *)context)->exchange = NULL;
}

static void hand_over(uploads *m, upload *u) {
    const char *key = http_caller(u->exchange);
    snprintf(u->key, sizeof u->key, "%s", key != NULL ? key : "");
    m->waiting_bytes += u->charged;
    m->count++;
    http_when_left(u->exchange, left, u);
    worker_add(m->worker, &u->job);
}

/* Takes the body; the rest of *what is the caller's. */
static bool add(uploads *m, http_exchange *x, buffer *body, const upload *what, error *e) {
    bool busy = body->capacity > UPLOADS_MAX_BYTES || m->waiting_bytes > UPLOADS_MAX_BYTES - body->capacity;
    upload *u = busy ? NULL : malloc(sizeof *u);
    if (u == NULL) {
        buffer_free(body);
        if (busy) return error_set(e, ERROR_BUSY, "too many pictures wait to be stored: come again");
        return error_no_memory(e, "an upload", sizeof *u);
    }
    *u = *what;
    u->exchange = x;
    u->body = *body;
    u->charged = body->capacity;
    *body = (buffer){0};
    hand_over(m, u);
    return true;
}

bool uploads_add_file(uploads *m, http_exchange *x, const char *path, upload_answer answer, void *context, error *e) {
    upload *u = calloc(1, sizeof *u);
    if (u != NULL) *u = (upload){.exchange = x, .answer = answer, .context = context, .path = strdup(path)};
    if (u == NULL || u->path == NULL) {
        free(u);
        return error_no_memory(e, "an upload", sizeof *u);
    }
    hand_over(m, u);
    return true;
}

bool uploads_add(uploads *m, http_exchange *x, buffer *body, size_t offset, size_t size, upload_answer answer, void *context, error *e) {
    return add(m, x, body, &(upload){.answer = answer, .context = context, .offset = offset, .size = size}, e);
}

bool uploads_add_prepared(uploads *m, http_exchange *x, buffer *body, upload_prepare prepare, upload_answer answer, void *context,
                          error *e) {
    return add(m, x, body, &(upload){.answer = answer, .context = context, .size = body->size, .prepare = prepare}, e);
}

bool uploads_look(uploads *m, http_exchange *x, buffer *body, upload_prepare look, upload_looked answer, error *e) {
    return add(m, x, body, &(upload){.looked = answer, .prepare = look}, e);
}
