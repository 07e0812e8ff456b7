/* What crosses the socket between the front and an engine process, and the picture that is asked for.
 *
 * One SOCK_SEQPACKET datagram a message: a fixed struct, the same binary on both sides, so no parser. Pixels travel beside an IMAGE or
 * PREVIEW message as a memfd (SCM_RIGHTS), the files of a picture to begin from and of its mask beside ADMIT. */
#ifndef IMAGINED_ENGINE_TASK_MESSAGE_H
#define IMAGINED_ENGINE_TASK_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine_snapshot.h"
#include "models/model_folder.h"

enum {
    ENGINE_ID_BYTES = 40,             /* a task's id, NUL included */
    ENGINE_PROMPT_BYTES = 8 * 1024,   /* the longest prompt, without its NUL */
    ENGINE_MAX_IMAGES = 16,
    ENGINE_MAX_STEPS = 1000,
    ENGINE_MAX_SLICE_TASKS = 16,      /* tasks that share one slice */
    ENGINE_PREVIEW_SIDE = 1024,       /* of a preview, in its pixels, at most */
    ENGINE_MAX_FILES = 2,             /* descriptors beside a message */
};

/* A picture (or `count` of them) to make. Every field is filled in and validated: defaults were applied before. */
typedef struct engine_request {
    char model[MODEL_NAME_BYTES]; /* its name, for figures and messages */
    char model_folder[MODEL_PATH_BYTES];
    char precision[8]; /* "auto", "f32", "bf16", "f16" */
    char prompt[ENGINE_PROMPT_BYTES + 1];
    char negative_prompt[ENGINE_PROMPT_BYTES + 1];
    bool has_negative_prompt;
    int32_t width, height; /* pixels */
    int32_t steps;
    int32_t count;         /* image i uses seed + i (modulo 2^64) */
    int32_t max_sequence_length;
    double guidance_scale; /* embedded guidance; ignored by models without it */
    double true_cfg_scale; /* classifier-free guidance runs iff > 1 and there is a negative prompt */
    uint64_t seed;
    int32_t priority; /* 0 urgent … 3 low: whose slice is next */
    bool alone;       /* shares no slice with other tasks: an engine died while it ran */
    /* Image to image. The files, PNG, JPEG or WebP as a client brought them, come beside the request: the picture, then the mask. */
    bool has_image, has_mask; /* no mask without an image */
    bool mask_is_alpha;       /* what is transparent is painted anew; else what is white */
    double strength;          /* above 0, to 1: the share of the steps that is run; means nothing without an image */
} engine_request;

/* A model that a command is about. */
typedef struct engine_model_name {
    char model[MODEL_NAME_BYTES], folder[MODEL_PATH_BYTES], precision[8];
    bool only_if_free; /* PRELOAD: give it up rather than evict anything */
} engine_model_name;

/* The answer to a command. */
typedef struct engine_answer {
    bool ok;
    uint64_t ram_bytes, vram_bytes; /* freed */
    int32_t unloaded_count, skipped_count;
    char unloaded[ENGINE_MODEL_ROWS][MODEL_NAME_BYTES]; /* models that went */
    char skipped[ENGINE_MODEL_ROWS][MODEL_NAME_BYTES];  /* models in use, which stayed */
    double seconds; /* LOAD: what it took; 0 when the model was there */
    error fault;    /* unless ok */
} engine_answer;

/* How a task's memory is planned: one text for each step down that was needed, none where all fits. */
typedef struct engine_plan {
    int32_t level; /* 0: all fits */
    int32_t step_count;
    char steps[ENGINE_PLAN_STEPS][ENGINE_REASON_BYTES];
    uint64_t peak_bytes, available_bytes;
} engine_plan;

typedef enum engine_phase { PHASE_LOAD, PHASE_ENCODE, PHASE_DENOISE, PHASE_DECODE } engine_phase;
const char *engine_phase_name(engine_phase p); /* "load", "encode", "denoise", "decode" */

/* Seconds and bytes a task took, reported with its end. */
typedef struct engine_metrics {
    double load_seconds, encode_seconds, denoise_seconds, decode_seconds;
    uint64_t memory_before, memory_after, memory_peak; /* resident bytes of the engine */
    int32_t steps_run;
    int32_t largest_batch;  /* images that shared a step with one of this task's, itself among them */
    double mean_batch;      /* over its steps */
    bool encode_cached;     /* the prompt's embeddings were there already */
    uint64_t device_peak;   /* most of the device's memory that was ours at once while it ran */
} engine_metrics;

typedef enum engine_message_kind {
    /* front → engine */
    MESSAGE_ADMIT,  /* .request: start this task (the engine may hold several and interleave them) */
    MESSAGE_CANCEL, /* .id */
    MESSAGE_STOP,   /* finish nothing, exit 0 */
    MESSAGE_SUSPEND, /* .id: keep the task and its latents, but give it no slices */
    MESSAGE_RESUME,  /* .id: go on with it */
    MESSAGE_PRIORITY, /* .id, .priority: from the next slice on */
    /* Commands; .id is the front's own, not a task's. Each is answered by one MESSAGE_ANSWER with the same id. */
    MESSAGE_LOAD,    /* .model: answered when the model is in the cache */
    MESSAGE_PRELOAD, /* .model: as LOAD, but in the gaps that tasks leave */
    MESSAGE_UNLOAD,  /* .model; precision "": every precision. ERROR_BUSY while it is in use, ERROR_NOT_FOUND when it is not cached */
    MESSAGE_CLEANUP, /* frees compute buffers, embeddings and every model that is not in use */
    MESSAGE_KNOWN_PROFILE, /* .profile: measured by an earlier engine; not answered */
    /* engine → front */
    MESSAGE_HELLO,    /* .hello: ready for tasks */
    MESSAGE_PROGRESS, /* .progress: a slice begins; the task's phase, image, step. With a command's id: a part of its model is about to be loaded */
    MESSAGE_IMAGE,    /* .image, with a memfd of width × height × 3 bytes RGB */
    MESSAGE_PREVIEW,  /* .preview, with a memfd as IMAGE: after a step, before the next PROGRESS; left out where the socket is full or the last is fresh */
    MESSAGE_DONE,     /* .metrics: all images were sent */
    MESSAGE_SNAPSHOT, /* .snapshot: before each IMAGE, end and ANSWER, and after slices, at most each 50 ms */
    MESSAGE_PLAN,     /* .plan: the task's memory was planned, or planned anew */
    MESSAGE_PROFILE,  /* .profile: measured just now; no id */
    MESSAGE_ANSWER,   /* .answer */
    MESSAGE_FAILED,   /* .fault; code ERROR_CANCELLED after a cancel. With no id: the engine itself could not start, and ends */
} engine_message_kind;

typedef struct engine_message {
    engine_message_kind kind;
    uint64_t engine; /* number of the engine process that sent or is meant: a stale message is dropped */
    char id[ENGINE_ID_BYTES];
    union {
        engine_request request;
        struct {
            char device_kind[16], device_name[128];
            int32_t threads;
        } hello;
        struct {
            engine_phase phase;
            int32_t image, images, step, steps; /* step: finished steps of this image */
            uint64_t slice;                     /* tasks that share a slice tell its number, one after the other; 0: not shared */
            uint64_t bytes_done, bytes_total;   /* of weights, while loading; else 0 */
        } progress;
        struct {
            int32_t index, width, height;
            uint64_t seed;
        } image;
        struct {
            int32_t index, step, width, height; /* of which image, after how many of its steps; its own pixels */
        } preview;
        int32_t priority; /* as engine_request's */
        engine_metrics metrics;
        engine_model_name model;
        engine_answer answer;
        engine_snapshot snapshot;
        engine_plan plan;
        engine_profile profile;
        error fault;
    };
} engine_message;

/* Descriptors that travel beside a message: IMAGE and PREVIEW have one, ADMIT as many as its request names. */
typedef struct engine_files {
    int count;
    int fds[ENGINE_MAX_FILES];
} engine_files;

void engine_files_close(engine_files *f); /* and forgets them; takes a zeroed one */

/* Makes the two ends, close-on-exec, with room for some hundred progress messages. */
bool engine_message_pair(int ends[2], error *e);
/* Sends one message, with `fd` beside it when ≥ 0 (the caller keeps its fd). Does not block: ERROR_BUSY when the socket is full,
 * ERROR_IO when the peer is gone. */
bool engine_message_send(int socket, const engine_message *m, int fd, error *e);
/* The same with several files beside it, which the caller keeps. */
bool engine_message_send_files(int socket, const engine_message *m, const engine_files *files, error *e);
/* As engine_message_send, but waits up to timeout_ms (−1: for ever) for room: for the engine's side, which the front may keep waiting. */
bool engine_message_send_within(int socket, const engine_message *m, int fd, int timeout_ms, error *e);
/* Waits at most timeout_ms (−1: forever, 0: not at all) for one message. *got tells whether there was one; *files gets the received
 * descriptors (yours, close-on-exec). False (ERROR_IO) when the peer is gone or sent something that is no message: wrong
 * size, a number out of range, a text without its NUL, a descriptor too many or too few. What a descriptor is of, nobody has looked at. */
bool engine_message_receive(int socket, int timeout_ms, engine_message *m, engine_files *files, bool *got, error *e);

#endif
