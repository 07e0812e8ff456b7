/* The engine's end of the socket to the front: one function for each thing it tells. Waits for a front that is slow; when there is none any
 * more, `over` is set and nothing is sent. One thread. */
#ifndef IMAGINED_ENGINE_FRONT_LINK_H
#define IMAGINED_ENGINE_FRONT_LINK_H

#include "compute/device.h"
#include "engine/generation.h"
#include "engine/task_message.h"

typedef struct front_link {
    int socket;
    uint64_t engine; /* this engine's number */
    bool over;       /* told to stop, or the front is gone */
    engine_message in, out; /* large */
    engine_files files;     /* beside `in`: closed with the next message unless somebody took them (and set the count to 0) */
} front_link;

/* Takes the next message that is meant for this engine into link->in, and what came beside it into link->files; waits at most timeout_ms
 * (−1: until there is one). False: there is none, or it is over. */
bool front_link_receive(front_link *l, int timeout_ms);

void front_link_hello(front_link *l, const device *d);
/* A slice begins. `slice`: its number where tasks share it, else 0. */
void front_link_progress(front_link *l, const char *id, const generation_state *s, uint64_t slice);
bool front_link_image(front_link *l, const char *id, const generated_image *image, error *e);
/* Waits for nothing: false where the front takes none now. */
bool front_link_preview(front_link *l, const char *id, const generated_preview *preview);
void front_link_done(front_link *l, const char *id, const engine_metrics *metrics);
void front_link_failed(front_link *l, const char *id, const error *why);
void front_link_answer(front_link *l, const char *id, const engine_answer *answer);
void front_link_snapshot(front_link *l, const engine_snapshot *s);
void front_link_plan(front_link *l, const char *id, const engine_plan *plan);
void front_link_profile(front_link *l, const engine_profile *profile);

#endif
