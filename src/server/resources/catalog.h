/* The models there are, read again when asked for and a little old, so that a folder copied in shows up without a restart.
 *
 * One thread. What is returned is borrowed until the next call. */
#ifndef IMAGINED_SERVER_RESOURCES_CATALOG_H
#define IMAGINED_SERVER_RESOURCES_CATALOG_H

#include "models/model_folder.h"

typedef struct catalog catalog;

/* The strings are borrowed for the catalog's life. */
bool catalog_new(const char *demo_folder, const char *models_folder, const char *default_model, catalog **out, error *e);
void catalog_free(catalog *c); /* NULL is fine */
/* All models; the list is empty when it could not be read (logged). */
const model_list *catalog_list(catalog *c);
void catalog_refresh(catalog *c); /* the next call reads them anew, however young they are */
const char *catalog_default(const catalog *c);
/* ERROR_INVALID, field "model", with the names there are. NULL name: the default model. */
bool catalog_find(catalog *c, const char *name, const model_info **out, error *e);

#endif
