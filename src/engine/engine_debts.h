/* What an engine still has to answer: each task until its end, each command until its answer. A task that is suspended gets no slices, so
 * nothing is due for it. */
#ifndef IMAGINED_ENGINE_ENGINE_DEBTS_H
#define IMAGINED_ENGINE_ENGINE_DEBTS_H

#include <stdbool.h>

#include "engine/task_message.h"

/* More than a front has tasks (24) and commands (256) in an engine. Beside those, tasks that it gave up and others that took their places
 * are owed until the engine, which may be in a long slice, has read of it: how many those are nothing but this number bounds. Where it is
 * reached, nothing is sent that would add one, and what is sent of those there are goes on. */
enum { ENGINE_DEBTS_MAX = 512 };

typedef struct engine_debt {
    char id[ENGINE_ID_BYTES];
    bool task;  /* else a command */
    bool begun; /* the engine said something of it */
    bool suspended;
} engine_debt;

typedef struct engine_debts {
    int count; /* in the order in which they were sent */
    engine_debt list[ENGINE_DEBTS_MAX];
} engine_debts;

/* Whether a message of this kind adds one: it is answered, and needs room. */
bool engine_debts_adds(engine_message_kind kind);
/* A message was sent to the engine (its kind, its id). */
void engine_debts_sent(engine_debts *d, engine_message_kind kind, const char *id);
/* It told that it works on it. */
void engine_debts_begun(engine_debts *d, const char *id);
/* It answered: the task's end, the command's answer. Whatever it never owed is passed over. */
void engine_debts_answered(engine_debts *d, const char *id);
bool engine_debts_due(const engine_debts *d);
/* The task that an engine which hung while it worked on nothing is stuck over, as far as can be known: messages are read in their order, so
 * it is what is due longest of what the engine never said a word of, or else of all. "" where that is a command, or nothing is due. The
 * text is the debts'. */
const char *engine_debts_suspect(const engine_debts *d);

#endif
