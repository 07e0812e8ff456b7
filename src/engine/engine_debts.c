#include "engine/engine_debts.h"

#include <assert.h>
#include <string.h>

static engine_debt *find(engine_debts *d, const char *id) {
    for (int i = 0; i < d->count; i++)
        if (strcmp(d->list[i].id, id) == 0) return &d->list[i];
    return NULL;
}

static void add(engine_debts *d, engine_message_kind kind, const char *id) {
    assert(d->count < ENGINE_DEBTS_MAX);
    engine_debt *one = &d->list[d->count++];
    *one = (engine_debt){.task = kind == MESSAGE_ADMIT};
    memcpy(one->id, id, strnlen(id, sizeof one->id - 1));
}

static void set_suspended(engine_debts *d, const char *id, bool suspended) {
    engine_debt *one = find(d, id);
    if (one != NULL) one->suspended = suspended; /* else the engine was faster */
}

bool engine_debts_adds(engine_message_kind kind) {
    return kind == MESSAGE_ADMIT || kind == MESSAGE_LOAD || kind == MESSAGE_PRELOAD || kind == MESSAGE_UNLOAD || kind == MESSAGE_CLEANUP;
}

void engine_debts_sent(engine_debts *d, engine_message_kind kind, const char *id) {
    if (engine_debts_adds(kind)) add(d, kind, id);
    switch (kind) {
    case MESSAGE_SUSPEND: set_suspended(d, id, true); break;
    case MESSAGE_RESUME:
    case MESSAGE_CANCEL: set_suspended(d, id, false); break;
    default: break;
    }
}

void engine_debts_begun(engine_debts *d, const char *id) {
    engine_debt *one = find(d, id);
    if (one != NULL) one->begun = true;
}

void engine_debts_answered(engine_debts *d, const char *id) {
    engine_debt *one = find(d, id);
    if (one == NULL) return;
    d->count--;
    memmove(one, one + 1, (size_t)(d->list + d->count - one) * sizeof *one);
}

bool engine_debts_due(const engine_debts *d) {
    for (int i = 0; i < d->count; i++)
        if (!d->list[i].suspended) return true;
    return false;
}

const char *engine_debts_suspect(const engine_debts *d) {
    const engine_debt *suspect = NULL;
    for (int i = 0; i < d->count; i++) {
        const engine_debt *one = &d->list[i];
        if (!one->suspended && (suspect == NULL || (suspect->begun && !one->begun))) suspect = one;
    }
    return suspect != NULL && suspect->task ? suspect->id : "";
}
