/* A task: what a client asked for, where it stands, what came of it. Knows no engine and no HTTP. */
#ifndef IMAGINED_QUEUE_TASK_H
#define IMAGINED_QUEUE_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

typedef enum task_status { TASK_QUEUED, TASK_LOADING, TASK_RUNNING, TASK_COMPLETED, TASK_FAILED, TASK_CANCELLED } task_status;
typedef enum task_priority { PRIORITY_URGENT, PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW } task_priority;

const char *task_status_name(task_status s);     /* "queued", … */
const char *task_priority_name(task_priority p); /* "urgent", … */
bool task_status_parse(const char *text, task_status *out);
/* A name in any case, or "0"–"3". */
bool task_priority_parse(const char *text, task_priority *out);
bool task_status_is_final(task_status s);
bool task_status_holds_slot(task_status s); /* loading or running */

enum { TASK_ID_BYTES = 27, TASK_MAX_IMAGES = 16, TASK_MAX_CHARGES = 3, TASK_PLAN_STEPS = 8, TASK_PLAN_TEXT_BYTES = 160 };
#define TASK_ID_DIGITS "0123456789ABCDEFGHJKMNPQRSTVWXYZ" /* Crockford's base 32, in ASCII order */

/* 26 digits: 48 bits of milliseconds, 80 random bits; sorts by time. */
void task_id_format(int64_t unix_ms, const uint8_t random[10], char out[TASK_ID_BYTES]);
bool task_id_valid(const char *text); /* has the form of an id; says nothing about a task of that id */

/* What to make, complete and valid. Strings are borrowed on submission and copied into the task. */
typedef struct task_request {
    const char *model;                    /* its name in the model list */
    const char *prompt, *negative_prompt; /* negative_prompt NULL: none */
    const char *precision;
    int width, height, steps, count, max_sequence_length;
    double guidance_scale, true_cfg_scale;
    uint64_t seed;
    /* A picture to begin from, and what of it is to be painted anew; ids of stored inputs. NULL: from noise alone, all of it. */
    const char *image, *mask;
    double strength;    /* 0…1: the share of the steps that the picture gets; means nothing without one */
    bool mask_is_alpha; /* the mask paints what is transparent, else what is white */
    /* Whom to tell what becomes of it, and of what: WEBHOOK_… of server/tasks/webhooks.h, or'ed. NULL: nobody. */
    const char *webhook;
    uint64_t webhook_events;
    /* The API that it came by, and what that API wants back later, JSON that means nothing to anybody else; NULL: the native one,
     * nothing. */
    const char *adapter, *adapter_data;
    /* Who asked, and how; NULL and 0: nothing said. */
    const char *owner;           /* the API key's name */
    int64_t deadline_ms;         /* Unix milliseconds: of no use after that */
    const char *idempotency_key; /* with which it came, … */
    uint64_t body_hash, body_size; /* … and the body that the key stands for */
    bool awaited;                /* by a client that gets its pictures with the answer: of no use once that client is gone */
} task_request;

typedef struct task_image {
    bool stored; /* the file is on disk under its id: "<task id>-<index>" */
    uint64_t seed;
    uint64_t bytes; /* of the file; 0 unless stored */
} task_image;

/* What was done so that the task fits into memory, in words; none where it fits by itself. */
typedef struct task_plan {
    int count;
    char steps[TASK_PLAN_STEPS][TASK_PLAN_TEXT_BYTES];
} task_plan;

enum { TASK_WEBHOOK_ERROR_BYTES = 128 };
/* How the telling of request.webhook went (server/tasks/webhooks.h); means nothing without one. */
typedef struct task_webhook {
    bool started;                  /* its first start is in a message: there is no second one */
    int attempts;                  /* requests made, progress among them */
    int delivered, given_up;       /* messages */
    char last_error[TASK_WEBHOOK_ERROR_BYTES]; /* of the last attempt, "" where that went well */
} task_webhook;

struct lane;

/* Where the queue manager has put a task: its business alone, and no part of a copy. */
typedef struct task_place {
    struct lane *lane;            /* its kind; NULL once it is final */
    struct task *before, *behind; /* its neighbours, in its lane while it waits, among the finished once it is */
    struct task *newer;           /* the task submitted next */
    size_t head, deadline;        /* indices among the heads and the deadlines; SIZE_MAX: not there */
    uint64_t batch;               /* policy_head.batch */
    uint64_t peak_bytes;          /* measured need of memory; 0: not known */
    double cost;                  /* of service, charged to its key at its start */
    int64_t passed_ms;            /* when it first gave way for affinity; 0: not yet */
    int64_t suspended_ms;
    task_status held_status;      /* while suspended: loading or running */
    bool cancel_owed, cancel_told; /* the engine must be told of the wish; it was */
    bool through;                 /* the engine is through with it */
    bool waited;                  /* its wait was counted */
    uint64_t forecast;            /* number of the forecast that knows it; 0: none */
    size_t position;              /* by that forecast, 1 for the next; 0: it holds a slot */
    double end_seconds;           /* by that forecast, from then on; below 0: not known */
} task_place;

typedef struct task {
    char id[TASK_ID_BYTES];
    task_status status;
    task_priority priority;
    task_request request;                        /* strings in .memory */
    uint64_t sequence;                           /* order of submission */
    uint64_t started;                            /* order of starts, from the same numbers; 0: not yet */
    bool suspended;                              /* queued, while the engine keeps what is done of it */
    int64_t created_ms, started_ms, finished_ms; /* Unix milliseconds; 0 not yet */
    char phase[16];                              /* "load", "encode", "denoise", "decode" or "" */
    int step, steps, image;
    uint64_t bytes_done, bytes_total; /* of the model's weights, while phase is "load"; total 0: not known */
    task_plan *plan; /* in .memory; NULL until it was planned */
    int charges; /* engines whose end this task is to blame for */
    bool cancel_requested;
    bool closing;    /* its end is decided but not yet told: nothing starts or changes it any more, it keeps its status until then */
    task_status end; /* while closing: the status to come; finished_ms and failure are those to come, too */
    task_image images[TASK_MAX_IMAGES];
    error failure; /* code ERROR_NONE unless failed, or about to be */
    struct {
        double load_seconds, encode_seconds, denoise_seconds, decode_seconds, wait_seconds;
        uint64_t memory_before, memory_after, memory_peak;
        uint64_t device_peak;   /* most of the device's memory that was the engine's at once */
        uint64_t largest_batch; /* images that shared a step with one of this task's, itself among them */
        double mean_batch;      /* over its steps */
        uint64_t encode_cached; /* 1: its prompts had been encoded before */
    } metrics;
    task_webhook webhook;
    arena memory;      /* everything the task owns besides itself */
    struct task *next; /* the manager's list */
    task_place place;
} task;

enum { TASK_SHAPE_BYTES = 256 };
/* "model|precision|WxH|guidance|batch": measured figures are kept by it. */
void task_shape(const task_request *r, int batch, char out[TASK_SHAPE_BYTES]);
/* Equal for requests whose images can share steps, and as good as never for others; not 0. */
uint64_t task_batch_key(const task_request *r);
bool task_has_guidance_pair(const task_request *r); /* classifier-free guidance: each step runs twice */
/* Denoising steps that each of its images gets: those that strength leaves of a picture to begin from. */
int task_steps_run(const task_request *r);
/* Pixels times these steps over all its images, doubled for a guidance pair: its work where no times are known. */
double task_step_pixels(const task_request *r);
/* What of it is done, 0…1, by the steps of its images. */
double task_done_fraction(const task *t);

/* A copy that owns its texts, in *to's own arena, and is in no list. On failure *to is empty. */
bool task_copy(const task *from, task *to, error *e);
/* Takes copies of the request's texts into the task's arena, in their place. False without memory; what was copied stays. */
bool task_keep_texts(task *t);

#endif
