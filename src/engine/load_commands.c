#include "engine/load_commands.h"

#include <string.h>

#include "base/clock.h"

bool load_commands_add(load_commands *c, const engine_message *m, error *e) {
    if (c->count == LOAD_COMMANDS_MAX) return error_set(e, ERROR_BUSY, "%d models wait to be loaded already", LOAD_COMMANDS_MAX);
    load_command *l = &c->list[c->count++];
    *l = (load_command){.model = m->model, .ahead = m->kind == MESSAGE_PRELOAD};
    memcpy(l->id, m->id, sizeof l->id);
    return true;
}

/* NULL: none. */
static load_command *first(load_commands *c) {
    for (int i = 0; i < c->count; i++)
        if (!c->list[i].ahead) return &c->list[i];
    return c->count > 0 ? &c->list[0] : NULL;
}

const char *load_commands_next(const load_commands *c) {
    const load_command *l = first((load_commands *)c);
    return l != NULL ? l->id : NULL;
}

bool load_commands_waiting(const load_commands *c, bool pressing) {
    for (int i = 0; i < c->count; i++)
        if (!pressing || !c->list[i].ahead) return true;
    return false;
}

static bool begin(load_commands *c, load_command *l, error *e) {
    model_key key = {.name = l->model.model, .folder = l->model.folder};
    if (!precision_parse(l->model.precision, &key.precision))
        return error_field(e, ERROR_INVALID, "precision", "'%s' is no precision: auto, f32, bf16 or f16", l->model.precision);
    return model_manager_lease(c->models, &key, l->ahead && l->model.only_if_free ? LOAD_AHEAD_IF_FREE : LOAD_AHEAD, &l->lease, e);
}

static void drop(load_commands *c, load_command *l) {
    model_manager_release(c->models, l->lease);
    c->count--;
    memmove(l, l + 1, (size_t)(&c->list[c->count] - l) * sizeof *l);
}

bool load_commands_advance(load_commands *c, char id[ENGINE_ID_BYTES], engine_answer *answer) {
    load_command *l = first(c);
    if (l == NULL) return false;
    double start = clock_seconds();
    bool more = true, ok = (l->lease != NULL || begin(c, l, &answer->fault)) && model_lease_advance(l->lease, &more, &answer->fault);
    l->seconds += clock_seconds() - start;
    if (ok && more) return false;
    answer->ok = ok;
    answer->seconds = l->seconds;
    memcpy(id, l->id, sizeof l->id);
    drop(c, l);
    return true;
}

void load_commands_drop(load_commands *c) {
    while (c->count > 0) drop(c, &c->list[c->count - 1]);
}
