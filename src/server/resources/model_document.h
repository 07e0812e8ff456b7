/* Models as the native API shows them: what is in a folder, and what of it an engine holds. */
#ifndef IMAGINED_SERVER_RESOURCES_MODEL_DOCUMENT_H
#define IMAGINED_SERVER_RESOURCES_MODEL_DOCUMENT_H

#include <yyjson.h>

#include "models/model_folder.h"
#include "server/resources/engine_profiles.h"
#include "server/resources/engine_view.h"

/* A model of the catalog, with "cached": its rows, "state", "last_used" and "profiles". NULL without memory; borrows nothing. */
yyjson_mut_val *model_document(yyjson_mut_doc *doc, const model_info *m, bool is_default, const engine_view *v,
                               const engine_profiles *profiles);
/* A model in the cache of the engine that computes on `device`. */
yyjson_mut_val *model_row_document(yyjson_mut_doc *doc, const engine_model_row *m, const char *device);
/* What a task of one shape took. */
yyjson_mut_val *model_profile_document(yyjson_mut_doc *doc, const engine_profile *p);

#endif
