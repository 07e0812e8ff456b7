/* ComfyUI's prompts: what of them the queue does not know. Each is a task whose adapter is "comfy" and whose adapter_data holds what
 * outlives a restart (its id, number, client, graph, nodes and output names); one that asks for what is there already has no task of its
 * own and shows another's pictures.
 *
 * One thread: the loop's. What is returned is borrowed until the next call that adds or removes. */
#ifndef IMAGINED_SERVER_API_COMFY_PROMPTS_H
#define IMAGINED_SERVER_API_COMFY_PROMPTS_H

#include "queue/queue_manager.h"
#include "server/api/comfy_graph.h"

#define COMFY_ADAPTER "comfy"

enum {
    COMFY_ID_BYTES = 80,       /* of a prompt's or a client's id */
    COMFY_NAME_BYTES = 160,    /* of a file's name or a folder's */
    COMFY_OUTPUTS_MAX = 16,    /* nodes that show pictures */
    COMFY_DATA_BYTES = 512 << 10, /* of a prompt's adapter_data */
    COMFY_DATA_ALL_BYTES = 256 << 20, /* of all prompts', in memory; beyond, the oldest are forgotten, with their pictures */
    COMFY_CACHED_MAX = 1000,   /* prompts that have no task */
};

/* A node that shows pictures, and what their files are called: <subfolder>/<prefix>_<number>_.png, from `first` on. */
typedef struct comfy_output {
    char node[COMFY_NODE_ID_BYTES];
    char subfolder[COMFY_NAME_BYTES], prefix[COMFY_NAME_BYTES];
    bool temporary; /* of a preview: type "temp", else "output" */
    int64_t first;
} comfy_output;

typedef struct comfy_prompt_node {
    char id[COMFY_NODE_ID_BYTES];
    const comfy_class *class;
    char signature[SHA256_TEXT_BYTES]; /* "" after a restart */
    bool cached;
} comfy_prompt_node;

typedef struct comfy_prompt {
    char id[COMFY_ID_BYTES], client[COMFY_ID_BYTES]; /* client "": none */
    char task[TASK_ID_BYTES];     /* its own, or the one whose pictures it shows */
    char signature[SHA256_TEXT_BYTES]; /* of all that it shows */
    bool cached;                  /* it has no task of its own */
    bool hidden;                  /* deleted from the history */
    bool previews;                /* its client asked for them */
    double number;
    int64_t created_ms;
    size_t data_bytes;
    comfy_output outputs[COMFY_OUTPUTS_MAX];
    int output_count;
    /* While it is not over, and always where it failed, was stopped while it ran, or is cached: */
    comfy_prompt_node *nodes; /* in the order in which they run */
    int node_count, sampler, shown_steps;
    bool known, started; /* to its client */
    int told;     /* nodes that were told to run */
    int progress; /* steps that were told */
    struct comfy_prompt *newer, *older;
} comfy_prompt;

typedef struct comfy_prompts comfy_prompts;

/* Takes those of the queue's tasks. data_limit: bytes of adapter_data that all may take, COMFY_DATA_ALL_BYTES. */
bool comfy_prompts_new(queue_manager *q, size_t data_limit, comfy_prompts **out, error *e);
/* Whether one more with so many bytes of adapter_data may come: those that are not over are never forgotten. */
bool comfy_prompts_have_room(comfy_prompts *p, size_t bytes);
void comfy_prompts_free(comfy_prompts *p); /* NULL is fine */

/* The prompt of a task, made of its adapter_data where it is new; NULL: it is no prompt, or there is no memory. */
comfy_prompt *comfy_prompts_of(comfy_prompts *p, const task *t);
comfy_prompt *comfy_prompts_find(comfy_prompts *p, const char *id);
/* The newest, and the next older; NULL ends. Those whose tasks are gone are left out. */
comfy_prompt *comfy_prompts_newest(comfy_prompts *p);
comfy_prompt *comfy_prompts_older(comfy_prompts *p, comfy_prompt *than);
task *comfy_prompts_task(const comfy_prompts *p, const comfy_prompt *one); /* its own or the other's; NULL: gone */
/* It is over. Where it came to its end, or never began, its nodes are not needed any more. Those that made something are remembered as
 * what the next prompt need not run again. */
void comfy_prompts_ended(comfy_prompts *p, comfy_prompt *one, bool completed);

double comfy_prompts_next_number(comfy_prompts *p);
/* Marks the plan's nodes of which nothing has to be run again, by what the last prompt that ran held. */
bool comfy_prompts_is_fresh(const comfy_prompts *p, const comfy_step *node);
/* What the plan shows, as one name. */
void comfy_prompts_sign(const comfy_plan *plan, char out[SHA256_TEXT_BYTES]);
/* The prompt that shows just this, for the same owner, with its pictures still there; NULL: none. */
comfy_prompt *comfy_prompts_same(comfy_prompts *p, const char *signature, const char *owner);
/* A prompt that shows another's pictures and runs nothing. NULL: no memory. */
comfy_prompt *comfy_prompts_repeat(comfy_prompts *p, const comfy_prompt *other, const comfy_plan *plan, const char *id, const char *client,
                                   double number);

/* Takes it out of the history. What its task holds says so, too, but is still to be written. */
void comfy_prompts_hide(comfy_prompts *p, comfy_prompt *one);
extern const char comfy_hidden_mark[]; /* how a prompt's adapter_data begins */

/* The number that the next file of this name gets; `count` are given out. */
int64_t comfy_prompts_next_file(comfy_prompts *p, const comfy_output *name, int count);
/* The picture that has this name: its task and number; NULL: none. */
task *comfy_prompts_picture(comfy_prompts *p, const char *subfolder, const char *name, bool temporary, int *index);

#endif
