/* A request's fields, checked once for every API: from JSON to a complete, valid task_request. */
#ifndef IMAGINED_SERVER_REQUESTS_REQUEST_FIELDS_H
#define IMAGINED_SERVER_REQUESTS_REQUEST_FIELDS_H

#include "base/json.h"
#include "models/model_folder.h"
#include "queue/task.h"

enum { REQUEST_PROMPT_BYTES = 8192, REQUEST_MAX_STEPS = 1000, REQUEST_MAX_TOKENS = 512, REQUEST_MAX_PIXELS = 64 << 20, REQUEST_MAX_DEADLINE_SECONDS = 30 * 24 * 3600 };

/* What the model makes when nothing else is said; a random seed; no prompt yet. ERROR_INTERNAL without random numbers. */
bool request_fields_defaults(const model_info *model, task_request *out, error *e);
/* Reads prompt, negative_prompt, width, height, num_inference_steps, guidance_scale, true_cfg_scale, max_sequence_length, precision, seed,
 * deadline_seconds (from now) and n (at most `max_count`) over what *io holds, then checks the whole. Texts are borrowed from the JSON
 * document. Errors name it. */
bool request_fields_read(json body, const model_info *model, int max_count, task_request *io, error *e);
/* "priority": a name in any case or 0–3, as number or text. */
bool request_fields_priority(json body, task_priority *io, error *e);
/* "precision"; borrows nothing. */
bool request_fields_precision(json body, const char **io, error *e);
/* Fails, naming it, when the object has a member that is not among `known` (NULL ends): a mistyped name must not go unnoticed. */
bool request_fields_only(json body, const char *const *known, error *e);

#endif
