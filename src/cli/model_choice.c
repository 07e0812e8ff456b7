#include "cli/model_choice.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "cli/options.h"
#include "cli/paths.h"

static void complain(void *context, const char *folder, const error *e) {
    (void)context;
    fprintf(stderr, "imagined: leaving out %s: %s\n", folder, e->text);
}

bool model_choice_list(const config *c, model_list *out, error *e) {
    char demo[PATH_MAX], models[PATH_MAX];
    const char *folder = options_models_folder(c, models, sizeof models);
    paths_demo_folder(demo, sizeof demo);
    if (!file_exists(folder) && config_origin_of(c, OPTION_MODELS) != CONFIG_FROM_DEFAULT)
        fprintf(stderr, "imagined: there is no models folder %s: only the demo model is found\n", folder);
    return model_list_read(demo, folder, complain, NULL, out, e);
}

/* A folder on the command line is named after its last part. */
static bool read_folder(const char *path, model_info *out, error *e) {
    char real[PATH_MAX];
    if (realpath(path, real) == NULL) return error_system(e, "use the model folder", path);
    const char *slash = strrchr(real, '/');
    return model_folder_read(real, slash != NULL && slash[1] != '\0' ? slash + 1 : real, out, e);
}

bool model_choice_find(const config *c, const char *wanted, model_info *out, error *e) {
    model_list list;
    const char *name = wanted[0] != '\0' ? wanted : config_text(c, OPTION_DEFAULT_MODEL);
    if (strchr(name, '/') != NULL) return read_folder(name, out, e);
    if (!model_choice_list(c, &list, e)) return false;
    const model_info *found = model_list_find(&list, name);
    bool ok = found != NULL;
    if (ok) {
        *out = *found;
    } else {
        buffer names = {0};
        for (size_t i = 0; i < list.count; i++) buffer_printf(&names, "%s%s", i > 0 ? ", " : "", list.models[i].name);
        error_field(e, ERROR_NOT_FOUND, "model", "there is no model '%s'; there are: %s (a folder is given with a slash: ./%s)", name,
                    list.count > 0 ? buffer_text(&names) : "none", name);
        buffer_free(&names);
    }
    model_list_free(&list);
    return ok;
}
