/* The front's side of an engine process: starts it, speaks with it, notices its death and starts the next one.
 *
 * The engine is this same binary (or IMAGINED_ENGINE_EXECUTABLE names another), re-executed as `imagined engine --device NAME --threads N
 * --max-models N --max-cache-size-gb X --[no-]memory-efficient-loading --vram-limit-mb N --batch-images N --prompt-cache-mb N --log-level
 * debug|info|warning|error --engine NUMBER`, with one end of a SOCK_SEQPACKET pair as descriptor 3 (engine_start.h); it gets a parent-death
 * signal, sees end of file when the front goes, and its compute threads are niced. It may die at any instruction, and hang at any: one that
 * is to say hello, to answer or to read and gives no sign of life for timeout_seconds (watchdog.h) is aborted, killed 5 s later, and counts
 * as dead 10 s after that even where its process stays, stuck in the kernel; then the next one waits for that to end. While nothing is
 * awaited of the engine nobody looks. The client belongs to the front's event loop thread, which must live as long as the client (the
 * parent-death signal is the thread's): poll engine_client_fd for reading, call engine_client_service when it is readable or when
 * engine_client_wait_ms have passed. */
#ifndef IMAGINED_ENGINE_ENGINE_CLIENT_H
#define IMAGINED_ENGINE_ENGINE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "engine/task_message.h"

typedef struct engine_client engine_client;

typedef struct engine_death {
    int status;       /* as waitpid gives it; 0 where the process is still there */
    uint64_t engine;  /* its number */
    pid_t pid;
    bool hung;        /* it gave no sign of life and was ended for that */
    bool charged;     /* ABRT, SEGV, BUS, FPE, ILL, the OOM killer or a hang: the task whose slice was running, or `owed`, is to blame */
    char running[ENGINE_ID_BYTES]; /* that task, or the command whose model was being loaded, or "" when no slice was running */
    char sharing[ENGINE_MAX_SLICE_TASKS - 1][ENGINE_ID_BYTES]; /* the others that shared the slice */
    int sharing_count;
    char owed[ENGINE_ID_BYTES]; /* it hung and no slice was running: the task that was due longest (engine_debts_suspect); else "" */
    char reason[ERROR_TEXT_BYTES]; /* in words: "killed by SIGSEGV"; why the engine could not start: "there is no device …" */
} engine_death;

/* Whether this task is to blame. */
bool engine_death_charges(const engine_death *d, const char *id);

/* Called from engine_client_service, on its thread. Ids and messages are borrowed for the call, in which admit and cancel may be called,
 * free not. What an engine sent before it died is told before its death, each death once. An image's or a preview's memfd is sealed against
 * shrinking and has the promised size: it can be mapped and read without a fault. */
typedef struct engine_events {
    void *context;
    void (*ready)(void *context, const engine_message *hello);
    void (*progress)(void *context, const engine_message *m);
    void (*image)(void *context, const engine_message *m, int memfd); /* memfd is yours now */
    void (*done)(void *context, const engine_message *m);
    void (*failed)(void *context, const engine_message *m);
    /* Every task admitted and not finished is gone with the engine: put them back. A new engine is already on its way (after a pause that
     * doubles from 0 to 5 s while engines die without a finished task between). */
    void (*died)(void *context, const engine_death *d);
    /* These may be NULL. */
    void (*snapshot)(void *context, const engine_snapshot *s);
    void (*plan)(void *context, const engine_message *m);
    void (*profile)(void *context, const engine_profile *p);
    void (*answer)(void *context, const char *command, const engine_answer *a); /* a command that an engine's death ends is not answered */
    void (*preview)(void *context, const engine_message *m, int memfd); /* memfd is yours now */
} engine_events;

typedef struct engine_options {
    const char *device;   /* "auto", "cpu", "vulkan", … */
    int threads;          /* 0: one a core */
    int max_models;
    double max_cache_gb;           /* × 2^30 bytes of weights */
    bool memory_efficient_loading; /* false: weights are read into memory and no file is held */
    int vram_limit_mb;   /* 0: no limit */
    int batch_images;    /* that share a step at most; 0: as many as pay */
    int prompt_cache_mb; /* of encoded prompts; 0: none are kept */
    int log_level;
    int timeout_seconds; /* the front's alone: without a sign of life for so long, an engine that is awaited has hung; 0: never */
} engine_options;

/* Starts the first engine. The options' strings are copied. */
bool engine_client_new(const engine_options *options, const engine_events *events, engine_client **out, error *e);
/* Stops the engine (a polite message, then SIGKILL after 2 s; one that does not end of that is left after 10 s) and frees. NULL is fine. */
void engine_client_free(engine_client *c);
/* The descriptor to poll; it changes when an engine is replaced: −1 while there is none. Ask for it and for the wait before each poll. */
int engine_client_fd(const engine_client *c);
/* Milliseconds until engine_client_service has something to do without the descriptor being readable; −1: nothing planned. */
int engine_client_wait_ms(const engine_client *c);
void engine_client_service(engine_client *c);
bool engine_client_ready(const engine_client *c); /* an engine said hello, and was not told to stop */
/* Ends the engine, which must hold no task (politely, then SIGKILL after 2 s), and starts none until engine_client_start: that alone gives
 * every byte back to the machine. Its end is no death and not told. */
void engine_client_stop(engine_client *c);
/* Starts an engine again, as soon as the stopped one has ended; engine_client_service does it. */
void engine_client_start(engine_client *c);
bool engine_client_stopped(const engine_client *c); /* between the two */
pid_t engine_client_pid(const engine_client *c);  /* 0 while there is none */
bool engine_client_stuck(const engine_client *c); /* an engine was killed and does not end: there is no other until it has */
/* It is awaited and has given no sign of life for some of the watchdog's looks (three twentieths of the timeout), or was ended for that or
 * killed: it may wait in the kernel, with its memory's lock held or wanted, and who asks for that waits as long. Without a timeout nobody
 * looks, and only the last can be told. */
bool engine_client_still(const engine_client *c);

/* Hands a task to the engine, with the files that the request names, which stay the caller's. ERROR_BUSY when no engine is ready or its
 * socket is full: try again later. */
bool engine_client_admit(engine_client *c, const char *id, const engine_request *request, const engine_files *files, error *e);
/* Asks for an end at the next slice boundary; `failed` with ERROR_CANCELLED (or `done`, if it was faster) follows. */
bool engine_client_cancel(engine_client *c, const char *id, error *e);
/* Keeps the task's latents but gives it no slices until it is resumed. ERROR_BUSY as above. */
bool engine_client_suspend(engine_client *c, const char *id, error *e);
bool engine_client_resume(engine_client *c, const char *id, error *e);
/* Whose slices come first is decided anew, with the next. 0 urgent … 3 low. ERROR_BUSY as above. */
bool engine_client_set_priority(engine_client *c, const char *id, int priority, error *e);
/* Sends a command: MESSAGE_LOAD, MESSAGE_PRELOAD, MESSAGE_UNLOAD (with the model) or MESSAGE_CLEANUP (model NULL). `id` is the caller's and
 * comes back with the answer. ERROR_BUSY as above. */
bool engine_client_command(engine_client *c, engine_message_kind kind, const char *id, const engine_model_name *model, error *e);
/* Tells the engine what an earlier one measured. */
bool engine_client_tell_profile(engine_client *c, const engine_profile *p, error *e);

#endif
