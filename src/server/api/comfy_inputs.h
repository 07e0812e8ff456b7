/* The names under which ComfyUI's clients know the pictures that they brought: <folder>/<name> → stored inputs
 * (server/pictures/input_store.h). Each API key has names of its own.
 *
 * Kept as one of the keeper's settings. One thread: the loop's. */
#ifndef IMAGINED_SERVER_API_COMFY_INPUTS_H
#define IMAGINED_SERVER_API_COMFY_INPUTS_H

#include "server/api/comfy_prompts.h"
#include "server/http/http.h"
#include "server/pictures/input_store.h"
#include "server/tasks/task_keeper.h"

enum { COMFY_INPUTS_MAX = 1000 }; /* names; beyond, the oldest are forgotten, though not their pictures */

typedef struct comfy_input_name {
    char owner[HTTP_CALLER_BYTES]; /* "": nobody's in particular */
    char name[2 * COMFY_NAME_BYTES]; /* "fox.png", "a/b/fox.png" */
    char image[INPUT_ID_BYTES], mask[INPUT_ID_BYTES];
} comfy_input_name;

typedef struct comfy_inputs comfy_inputs;

bool comfy_inputs_new(task_keeper *k, const input_store *store, comfy_inputs **out, error *e);
void comfy_inputs_free(comfy_inputs *n); /* NULL is fine */

/* Joins and checks: no empty, "." or ".." parts, no backslashes, no control characters. ERROR_INVALID. */
bool comfy_input_join(const char *folder, const char *name, char out[2 * COMFY_NAME_BYTES], error *e);
/* NULL: there is none, or its picture is gone. Borrowed until the next change. */
const comfy_input_name *comfy_inputs_find(const comfy_inputs *n, const char *owner, const char *name);
/* Gives the picture this name, or, unless `overwrite`, the first of "name (1).ext", … that is free or is this picture already. The name it
 * got; NULL without memory. Borrowed until the next change. */
const comfy_input_name *comfy_inputs_add(comfy_inputs *n, const comfy_input_name *wanted, bool overwrite);
/* What a LoadImage's `image` says: a name, "name [input]", or the id of a stored input. */
bool comfy_inputs_picture(const comfy_inputs *n, const char *owner, const char *image, comfy_picture *out);
size_t comfy_inputs_count(const comfy_inputs *n);
const comfy_input_name *comfy_inputs_at(const comfy_inputs *n, size_t index);

#endif
