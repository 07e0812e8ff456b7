/* A client of fake engines (fake_engine.c) that keeps what it is told of them. */
#ifndef IMAGINED_TESTS_ENGINE_RECORD_H
#define IMAGINED_TESTS_ENGINE_RECORD_H

#include "base/buffer.h"
#include "engine/engine_client.h"

/* What the client told, in order. */
typedef struct record {
    buffer told; /* "ready;progress a;image a;done a;died a;" with progress told once in a row */
    int ready, progress, images, done, failed, died;
    engine_death death; /* the last */
    error fault;        /* of the last failed */
} record;

/* Once, before all else; false where there is no fake engine. */
bool record_set_up(void);

/* What keeps it: for a client that a test starts itself. */
engine_events record_events(record *r);
/* Starts a client, and an engine of this behaviour ("" is a good one); FAKE_ENGINE says what the next will be. */
engine_client *record_start(record *r, const char *behaviour);
engine_client *record_start_with(record *r, const char *behaviour, int timeout_seconds, bool hears_previews);
/* Frees, then asks the kernel whether a child is left, and gives the record back. */
void record_finish(engine_client *c, record *r);

/* One turn of an event loop: sleeps until the client has something to do, or `most` seconds. */
void record_turn(engine_client *c, double most);
/* Turns until the counter is there; false when it was not in so many seconds. */
bool record_until(engine_client *c, const int *counter, int value, double seconds);
bool record_admit(engine_client *c, const char *id, const char *what); /* the prompt: what the fake engine does with it */

#endif
