#include "server/resources/engine_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COMMANDS = 256 };

typedef struct command {
    uint64_t handle;
    engine_message_kind kind;
    engine_model_name model;
    bool sent;
    engine_command_done done;
    void *context;
    struct command *next;
} command;

struct engine_view {
    bool ready;
    char device_kind[16], device_name[128];
    int threads;
    engine_snapshot told;   /* as the engine of now sent it */
    engine_snapshot before; /* counters of the engines before */
    engine_snapshot shown;  /* both together */
    command *first;         /* in the order in which they were given */
    size_t count;
    uint64_t handles; /* given out */
};

bool engine_view_new(engine_view **out, error *e) {
    engine_view *v = calloc(1, sizeof *v);
    if (v == NULL) return error_no_memory(e, "what is known of the engine", sizeof *v);
    *out = v;
    return true;
}

static void drop(engine_view *v, command **link) {
    command *c = *link;
    *link = c->next;
    v->count--;
    free(c);
}

void engine_view_free(engine_view *v) {
    if (v == NULL) return;
    while (v->first != NULL) drop(v, &v->first);
    free(v);
}

/* --- snapshots --- */

static void add_counters(engine_snapshot *to, const engine_snapshot *more) {
    to->loads += more->loads;
    for (int i = 0; i < EVICTION_CAUSES; i++) to->evictions[i] += more->evictions[i];
    to->prompt_hits += more->prompt_hits;
    to->prompt_misses += more->prompt_misses;
    to->steps += more->steps;
    to->batched_steps += more->batched_steps;
    to->batched_images += more->batched_images;
}

static void show(engine_view *v) {
    v->shown = v->told;
    add_counters(&v->shown, &v->before);
}

void engine_view_ready(engine_view *v, const engine_message *hello) {
    v->ready = true;
    memcpy(v->device_kind, hello->hello.device_kind, sizeof v->device_kind);
    memcpy(v->device_name, hello->hello.device_name, sizeof v->device_name);
    v->threads = hello->hello.threads;
}

void engine_view_snapshot_came(engine_view *v, const engine_snapshot *s) {
    if (!v->ready) return; /* of an engine that was told to stop */
    v->told = *s;
    show(v);
}

/* Takes the command out and then answers it: whoever hears may give commands and forget others. */
static void answer(engine_view *v, command **link, const engine_answer *a) {
    engine_command_done done = (*link)->done;
    void *context = (*link)->context;
    drop(v, link);
    if (done != NULL) done(context, a);
}

/* Those of an engine, or all. What is given meanwhile stays: it is for the next engine. */
static void answer_all(engine_view *v, bool sent_alone, const engine_answer *a) {
    for (uint64_t newest = v->handles;;) {
        command **link = &v->first;
        while (*link != NULL && ((*link)->handle > newest || (sent_alone && !(*link)->sent))) link = &(*link)->next;
        if (*link == NULL) return;
        answer(v, link, a);
    }
}

void engine_view_gone(engine_view *v, const char *reason) {
    bool was_ready = v->ready;
    const engine_snapshot last = v->told;
    v->ready = false;
    add_counters(&v->before, &last);
    v->told = (engine_snapshot){.amp_enabled = last.amp_enabled,
                                .flash_attention_available = last.flash_attention_available,
                                .dtype = last.dtype,
                                .attention = last.attention,
                                .vae = last.vae,
                                .tf32 = last.tf32};
    show(v);
    engine_answer a = {.ok = false};
    error_set(&a.fault, ERROR_DEVICE, "the engine ended before it could do that: %s", reason);
    answer_all(v, was_ready, &a);
}

void engine_view_refuse(engine_view *v, const char *reason) {
    engine_answer a = {.ok = false};
    error_set(&a.fault, ERROR_BUSY, "the engine can do nothing now: %s", reason);
    answer_all(v, false, &a);
}

bool engine_view_is_ready(const engine_view *v) { return v->ready; }
const engine_snapshot *engine_view_snapshot(const engine_view *v) { return &v->shown; }
const char *engine_view_device_kind(const engine_view *v) { return v->device_kind; }
const char *engine_view_device_name(const engine_view *v) { return v->device_name; }
int engine_view_threads(const engine_view *v) { return v->threads; }

const engine_model_row *engine_view_model(const engine_view *v, const char *name, const engine_model_row *after) {
    const engine_model_row *end = v->shown.models + v->shown.model_count;
    for (const engine_model_row *m = after == NULL ? v->shown.models : after + 1; m < end; m++)
        if (strcmp(m->name, name) == 0) return m;
    return NULL;
}

/* --- commands --- */

bool engine_view_command(engine_view *v, engine_message_kind kind, const engine_model_name *model, engine_command_done done, void *context,
                         uint64_t *handle, error *e) {
    if (v->count >= MAX_COMMANDS) return error_set(e, ERROR_BUSY, "%d commands wait for the engine already; try again later", MAX_COMMANDS);
    command *c = calloc(1, sizeof *c);
    if (c == NULL) return error_no_memory(e, "a command", sizeof *c);
    *c = (command){.handle = ++v->handles, .kind = kind, .done = done, .context = context};
    if (model != NULL) c->model = *model;
    command **link = &v->first;
    while (*link != NULL) link = &(*link)->next;
    *link = c;
    v->count++;
    if (handle != NULL) *handle = c->handle;
    return true;
}

void engine_view_forget(engine_view *v, uint64_t handle) {
    for (command *c = v->first; c != NULL; c = c->next)
        if (c->handle == handle) c->done = NULL;
}

static void name_command(const command *c, char id[ENGINE_ID_BYTES]) { snprintf(id, ENGINE_ID_BYTES, "command-%" PRIu64, c->handle); }

void engine_view_answer_came(engine_view *v, const char *id, const engine_answer *a) {
    for (command **link = &v->first; *link != NULL; link = &(*link)->next) {
        char own[ENGINE_ID_BYTES];
        name_command(*link, own);
        if (!(*link)->sent || strcmp(own, id) != 0) continue;
        answer(v, link, a);
        return;
    }
}

bool engine_view_send(engine_view *v, engine_client *client) {
    for (command *c = v->first; c != NULL; c = c->next) {
        if (c->sent) continue;
        char id[ENGINE_ID_BYTES];
        name_command(c, id);
        c->sent = engine_client_command(client, c->kind, id, &c->model, NULL);
        if (!c->sent) return true;
    }
    return false;
}

bool engine_view_busy(const engine_view *v) { return v->count > 0; }
