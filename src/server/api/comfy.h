/* A subset of ComfyUI's API: graphs of its standard text-to-image and image-to-image nodes run through the one queue (docs/comfyui.md).
 *
 * Its routes stand at the root, and below /api/ where no native route does. Loop's thread. */
#ifndef IMAGINED_SERVER_API_COMFY_H
#define IMAGINED_SERVER_API_COMFY_H

#include "server/api/comfy_events.h"
#include "server/api/comfy_inputs.h"
#include "server/http/router.h"
#include "server/pictures/encoder.h"

/* What this API keeps between requests. */
typedef struct comfy {
    struct services *services;
    comfy_prompts *prompts;
    comfy_inputs *inputs;
    comfy_events *events;
} comfy;

extern const route_table comfy_api;

/* The queue's tasks were read from disk before, and everything else in *s is there. */
bool comfy_new(struct services *s, loop *l, comfy **out, error *e);
void comfy_free(comfy *c); /* sockets were closed before. NULL is fine */
/* Something happened to a task. */
void comfy_task_changed(comfy *c, const task *t, task_change what);
/* The texts that a prompt's picture carries beside its settings: `prompt` and, where the client sent one, `workflow`. None for another
 * task. */
void comfy_picture_texts(const task *t, encoder_job *job);

/* --- what its files share --- */

/* Errors that are no graph's, as ComfyUI's server tells them. */
void comfy_answer_error(http_exchange *x, int status, const error *why);
const char *comfy_owner(const http_exchange *x); /* http_caller, or "" */
/* The model that a file's name stands for: "demo", "demo.safetensors". NULL: none. */
const model_info *comfy_model(struct services *s, const char *file_name);
/* Whose eyes see what there is. */
typedef struct comfy_view {
    struct services *services;
    const char *owner; /* comfy_owner */
} comfy_view;
yyjson_mut_val *comfy_number_document(yyjson_mut_doc *doc, double number); /* whole where it is */
/* Adds what there is of a list that only run time knows. context: a comfy_view. */
void comfy_list_choices(void *context, comfy_choices c, yyjson_mut_doc *doc, yyjson_mut_val *list);
/* Reads a body that is an object, or none where that may be. Answers and returns false. */
bool comfy_read_body(http_exchange *x, bool optional, yyjson_doc **out);

/* comfy_submit.c, comfy_files.c, comfy_info.c: handlers */
void comfy_post_prompt(struct services *s, http_exchange *x, const char *id);
void comfy_get_view(struct services *s, http_exchange *x, const char *id);
void comfy_post_image(struct services *s, http_exchange *x, const char *id);
void comfy_post_mask(struct services *s, http_exchange *x, const char *id);
void comfy_get_object_info(struct services *s, http_exchange *x, const char *id);
void comfy_get_stats(struct services *s, http_exchange *x, const char *id);
void comfy_get_models(struct services *s, http_exchange *x, const char *id);
void comfy_get_model_folder(struct services *s, http_exchange *x, const char *id);
void comfy_get_features(struct services *s, http_exchange *x, const char *id);
void comfy_get_empty_list(struct services *s, http_exchange *x, const char *id);
/* comfy_history.c */
void comfy_get_queue(struct services *s, http_exchange *x, const char *id);
void comfy_post_queue(struct services *s, http_exchange *x, const char *id);
void comfy_get_history(struct services *s, http_exchange *x, const char *id);
void comfy_post_history(struct services *s, http_exchange *x, const char *id);
void comfy_post_interrupt(struct services *s, http_exchange *x, const char *id);

#endif
