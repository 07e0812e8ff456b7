/* What an engine still has to answer: each task until its end, each command until its answer. A task that is suspended gets no slices, so
 * nothing is due for it. */
#ifndef IMAGINED_ENGINE_ENGINE_DEBTS_H
#define IMAGINED_ENGINE_ENGINE_DEBTS_H

#include <stdbool.h>

#include "engine/task_message.h"

enum { ENGINE_DEBTS_MAX = 512 }; /* more than a front has tasks in an engine (24, and as many that it gave up) and commands (256) */

typedef struct engine_debt {
    char id[ENGINE_ID_BYTES];
    bool suspended;
} engine_debt;

typedef struct engine_debts {
    int count;
    engine_debt list[ENGINE_DEBTS_MAX];
} engine_debts;

/* A message was sent to the engine (its kind, its id). There must be room where the kind is one that is answered. */
void engine_debts_sent(engine_debts *d, engine_message_kind kind, const char *id);
/* It answered: the task's end, the command's answer. Whatever it never owed is passed over. */
void engine_debts_answered(engine_debts *d, const char *id);
bool engine_debts_due(const engine_debts *d);

#endif
