/* A front to an engine process of a test's own, over stand_in_engine.c: starts it, gives it tasks, and reads what it says. */
#ifndef IMAGINED_TESTS_ENGINE_FRONT_H
#define IMAGINED_TESTS_ENGINE_FRONT_H

#include <sys/types.h>

#include "engine/task_message.h"

enum { ENGINE_NUMBER = 7 };

typedef struct front {
    int socket;
    pid_t pid;
    uint64_t snapshots; /* number of the last */
    bool fresh;         /* the message before was a snapshot */
    uint64_t peak_bytes; /* of its model */
    uint64_t latent_bytes;
    int profiles;
    engine_profile profile; /* the last */
    engine_message last;
} front;

front front_start(void); /* and takes its hello */
front front_start_with(const char *device_name);
int front_end(front *f); /* waits for it; its status as waitpid gives it */

void front_send(front *f, engine_message_kind kind, const char *id, const engine_request *request); /* the request may be NULL */
void front_admit(front *f, const char *id, const char *prompt, int steps, int count);
void front_admit_as(front *f, const char *id, const char *prompt, int steps, int count, int priority, bool alone);

/* The next message but snapshots and profiles into f->last; false at the end. *fd (−1 where none came) may be NULL when no descriptor may
 * come. Snapshots are numbered and come before each result. */
bool front_next(front *f, int *fd);
/* The next message but progress is this one; where progress is what is expected, it is that. */
void front_expect(front *f, engine_message_kind kind, const char *id);

#endif
