/* Finding the model a user means: a name of the list, or a folder. */
#ifndef IMAGINED_CLI_MODEL_CHOICE_H
#define IMAGINED_CLI_MODEL_CHOICE_H

#include "base/config.h"
#include "models/model_folder.h"

/* The list of the demo model and those in the models folder; unusable folders are told on standard error. */
bool model_choice_list(const config *c, model_list *out, error *e);
/* `wanted` is a listed name, or else the path of a folder; "" means the default model. */
bool model_choice_find(const config *c, const char *wanted, model_info *out, error *e);

#endif
