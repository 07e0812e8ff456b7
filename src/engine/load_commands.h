/* Models that the front wants loaded: LOAD now, PRELOAD in the gaps that tasks leave; one part of one model a slice, so that a task waits
 * for one part's load at most. In the order of their coming, LOAD before PRELOAD. One thread. */
#ifndef IMAGINED_ENGINE_LOAD_COMMANDS_H
#define IMAGINED_ENGINE_LOAD_COMMANDS_H

#include "engine/model_manager.h"
#include "engine/task_message.h"

enum { LOAD_COMMANDS_MAX = 32 };

typedef struct load_command {
    char id[ENGINE_ID_BYTES];
    engine_model_name model;
    bool ahead; /* PRELOAD */
    model_lease *lease;
    double seconds; /* spent on it */
} load_command;

typedef struct load_commands {
    model_manager *models; /* borrowed */
    load_command list[LOAD_COMMANDS_MAX];
    int count;
} load_commands;

/* Takes a MESSAGE_LOAD or MESSAGE_PRELOAD. ERROR_BUSY when there are too many. */
bool load_commands_add(load_commands *c, const engine_message *m, error *e);
/* Whether there is a command to work on; with `pressing`, a LOAD. */
bool load_commands_waiting(const load_commands *c, bool pressing);
/* The id of the command that is worked on next; NULL: none. */
const char *load_commands_next(const load_commands *c);
/* Loads a part of the first one. When that ended the command, *id and *answer (which may be a failure) are filled in and the result is
 * true. */
bool load_commands_advance(load_commands *c, char id[ENGINE_ID_BYTES], engine_answer *answer);
void load_commands_drop(load_commands *c); /* all of them, unanswered */

#endif
