#include "server/resources/engine_care.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum { PRELOAD_DEATHS = 3 }; /* engines in a row that do not survive the operator's models, before those are given up */

struct engine_care {
    const char *preload;
    int idle_seconds;
    catalog *catalog;
    engine_view *view;
    double idle_since;  /* clock_seconds; 0: it is not idle */
    bool preload_died;  /* the engine of now did not survive the operator's models … */
    int preload_deaths; /* … nor so many before it */
    uint64_t asked;     /* the command for the next task's model that is under way; 0: none */
    engine_model_name asked_model;  /* the one asked for last, of this engine */
    engine_model_name deadly_model; /* the last one that an engine did not survive: its own task is to find that out, not others */
};

bool engine_care_new(const char *preload, int idle_seconds, catalog *c, engine_view *v, engine_care **out, error *e) {
    engine_care *k = calloc(1, sizeof *k);
    if (k == NULL) return error_no_memory(e, "the engine's care", sizeof *k);
    *k = (engine_care){.preload = preload, .idle_seconds = idle_seconds, .catalog = c, .view = v};
    *out = k;
    return true;
}

void engine_care_free(engine_care *k) { free(k); }

static bool fits(char *out, size_t capacity, const char *text) { return (size_t)snprintf(out, capacity, "%s", text) < capacity; }

bool engine_care_model_name(const model_info *m, const char *precision, engine_model_name *out, error *e) {
    *out = (engine_model_name){0};
    if (fits(out->model, sizeof out->model, m->name) && fits(out->folder, sizeof out->folder, m->folder) &&
        fits(out->precision, sizeof out->precision, precision))
        return true;
    return error_set(e, ERROR_INVALID, "the model's name, folder or precision is too long");
}

/* --- the operator's models --- */

/* The engine ended, or its device failed, before it had done what it was asked for. */
static bool ended(const engine_answer *a) { return !a->ok && a->fault.code == ERROR_DEVICE; }

static void preloaded(void *context, const engine_answer *a) {
    engine_care *k = context;
    k->preload_died |= ended(a);
    if (!a->ok) log_line(LOG_WARNING, "a model that was to be preloaded is not: %s", a->fault.text);
}

static void preload(engine_care *k, const char *name) {
    const model_info *m;
    engine_model_name model;
    error why = {0};
    if (!catalog_find(k->catalog, name, &m, &why) || !engine_care_model_name(m, "auto", &model, &why) ||
        !engine_view_command(k->view, MESSAGE_PRELOAD, &model, preloaded, k, NULL, &why))
        log_line(LOG_WARNING, "cannot preload '%s': %s", name, why.text);
}

void engine_care_engine_ready(engine_care *k) {
    k->asked_model = (engine_model_name){0};
    if (k->preload_deaths == PRELOAD_DEATHS) return;
    k->preload_deaths = k->preload_died ? k->preload_deaths + 1 : 0;
    k->preload_died = false;
    if (k->preload_deaths == PRELOAD_DEATHS) {
        log_line(LOG_ERROR, "%d engines in a row ended while models were preloaded into them: '%s' are no longer preloaded", PRELOAD_DEATHS,
                 k->preload);
        return;
    }
    for (const char *at = k->preload; *at != '\0'; at += strcspn(at, ","), at += *at == ',') {
        char name[MODEL_NAME_BYTES];
        at += strspn(at, " ");
        size_t n = strcspn(at, ",");
        while (n > 0 && at[n - 1] == ' ') n--;
        if (n == 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), at);
        preload(k, name);
    }
}

/* --- the next task's model --- */

static void next_answered(void *context, const engine_answer *a) {
    engine_care *k = context;
    k->asked = 0;
    if (ended(a)) k->deadly_model = k->asked_model;
    if (!a->ok) log_line(LOG_DEBUG, "the next task's model is not preloaded: %s", a->fault.text);
}

static bool is_called(const engine_model_name *m, const char *name, const char *precision) {
    return strcmp(m->model, name) == 0 && strcmp(m->precision, precision) == 0;
}

static bool is_cached(const engine_view *v, const char *name, const char *precision) {
    const engine_model_row *m = NULL;
    do m = engine_view_model(v, name, m);
    while (m != NULL && strcmp(m->precision, precision) != 0);
    return m != NULL;
}

void engine_care_next_model(engine_care *k, const char *name, const char *precision) {
    if (k->asked != 0 || !engine_view_is_ready(k->view)) return;
    if (is_cached(k->view, name, precision)) {
        if (is_called(&k->deadly_model, name, precision)) k->deadly_model = (engine_model_name){0}; /* it was not the model's doing */
        return;
    }
    if (is_called(&k->asked_model, name, precision) || is_called(&k->deadly_model, name, precision)) return;
    const model_info *m;
    engine_model_name model;
    if (!catalog_find(k->catalog, name, &m, NULL) || !engine_care_model_name(m, precision, &model, NULL)) return;
    model.only_if_free = true;
    if (!engine_view_command(k->view, MESSAGE_PRELOAD, &model, next_answered, k, &k->asked, NULL)) return;
    k->asked_model = model;
}

/* --- stopping and starting --- */

int engine_care_settle(engine_care *k, engine_client *c, bool needed) {
    if (needed) {
        k->idle_since = 0;
        engine_client_start(c);
        return -1;
    }
    if (k->idle_seconds == 0 || engine_client_stopped(c)) return -1;
    double now = clock_seconds();
    if (k->idle_since == 0) k->idle_since = now;
    double left = k->idle_since + k->idle_seconds - now;
    if (left > 0) return (int)(left * 1000.0) + 1;
    log_line(LOG_INFO, "nothing needs the engine for %d s: it is stopped until something does", k->idle_seconds);
    engine_client_stop(c);
    engine_view_gone(k->view, "it was idle and is stopped");
    return -1;
}
