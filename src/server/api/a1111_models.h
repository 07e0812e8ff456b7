/* Models as A1111's clients name them, and the one that is chosen. */
#ifndef IMAGINED_SERVER_API_A1111_MODELS_H
#define IMAGINED_SERVER_API_A1111_MODELS_H

#include "models/model_folder.h"
#include "server/http/http.h"

struct services;

/* By name, as titles, file names and hashes' suffixes write it ("demo", "Demo.safetensors", "demo.safetensors [8a1b2c3d4e]"). NULL: there
 * is none. Borrowed until the list is read again. */
const model_info *a1111_model_named(struct services *s, const char *name);
/* What requests run on that name none: as chosen with a1111_choose_model, while it exists, else the server's default. */
bool a1111_model_chosen(struct services *s, const model_info **out, error *e);
/* Outlives the server. */
void a1111_choose_model(struct services *s, const model_info *m);

/* GET sd-models · POST refresh-checkpoints · unload-checkpoint · reload-checkpoint */
void a1111_get_models(struct services *s, http_exchange *x, const char *id);
void a1111_refresh_models(struct services *s, http_exchange *x, const char *id);
void a1111_unload_model(struct services *s, http_exchange *x, const char *id);
void a1111_reload_model(struct services *s, http_exchange *x, const char *id);

#endif
