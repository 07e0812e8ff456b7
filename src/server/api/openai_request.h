/* What a request to OpenAI's Images API asks for: of the queue, and of the answer. */
#ifndef IMAGINED_SERVER_API_OPENAI_REQUEST_H
#define IMAGINED_SERVER_API_OPENAI_REQUEST_H

#include "base/json.h"
#include "image/image.h"
#include "models/model_folder.h"
#include "queue/task.h"

enum { OPENAI_MAX_IMAGES = 10, OPENAI_MAX_PARTIALS = 3, OPENAI_CHOICES_BYTES = 192, OPENAI_PROMPT_CHARACTERS = 32000 };

struct services;

/* How the answer is to be. */
typedef struct openai_choices {
    image_format format;
    int compression;     /* 0–100: the quality that JPEG and WebP are to have */
    const char *quality; /* what the answer says of it: "low", "medium" or "high"; means nothing here */
    bool as_url;
    bool stream, edit;   /* event by event; the events are called image_edit… */
    int partial_images;  /* of a stream, at most */
} openai_choices;

/* The model of this name. OpenAI's own names, and NULL, stand for the default model, unless a model here is really called so.
 * ERROR_NOT_FOUND, field "model". */
bool openai_find_model(struct services *s, const char *name, const model_info **out, error *e);
/* Reads a body's fields. `from` is the picture that is to be edited, and `masked` whether a part of it only; NULL where there is none, or
 * none known yet. Texts are borrowed from the body; `data` is what the task keeps for its answer. Errors name the field. */
bool openai_read_request(struct services *s, json body, const image_info *from, bool masked, task_request *out, openai_choices *choices,
                         char data[OPENAI_CHOICES_BYTES], error *e);
/* A body's choices alone. */
bool openai_read_choices(json body, openai_choices *out, error *e);
/* As they were kept with the task. */
bool openai_choices_of(const task *t, openai_choices *out, error *e);
int openai_quality(const openai_choices *c); /* as image_encode takes it */

#endif
