#include "server/requests/command_waits.h"

#include <stdlib.h>
#include <string.h>

#include "server/requests/services.h"

typedef struct waiting {
    services *services;
    http_exchange *exchange;
    engine_message_kind kind;
    char model[MODEL_NAME_BYTES];
    command_answer answer;
    uint64_t command;
} waiting;

bool command_holds_nothing(const services *s) {
    const char *state = dispatch_engine_state(s->dispatch);
    return strcmp(state, "stopped") == 0 || strcmp(state, "stuck") == 0;
}

static void answered(void *context, const engine_answer *a) {
    static const engine_answer nothing = {.ok = true};
    waiting *w = context;
    bool frees = w->kind == MESSAGE_UNLOAD || w->kind == MESSAGE_CLEANUP;
    if (!a->ok && frees && command_holds_nothing(w->services)) a = &nothing;
    w->answer(w->services, w->exchange, w->kind, w->model, a);
    free(w);
}

static void left(void *context, http_exchange *x) {
    waiting *w = context;
    (void)x;
    dispatch_forget_command(w->services->dispatch, w->command);
    free(w);
}

bool command_give(services *s, http_exchange *x, engine_message_kind kind, const engine_model_name *model, command_answer answer,
                  error *e) {
    waiting *w = calloc(1, sizeof *w);
    if (w == NULL) return error_no_memory(e, "a command", sizeof *w);
    *w = (waiting){.services = s, .exchange = x, .kind = kind, .answer = answer};
    if (model != NULL) memcpy(w->model, model->model, sizeof w->model);
    http_when_left(x, left, w);
    if (dispatch_command(s->dispatch, kind, model, answered, w, &w->command, e)) return true;
    http_when_left(x, NULL, NULL);
    free(w);
    return false;
}
