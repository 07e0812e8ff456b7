#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "cli/commands.h"
#include "cli/model_choice.h"
#include "cli/options.h"

static const config_command models = {
    .name = "models",
    .bit = FOR_MODELS,
    .summary = "list the models there are",
    .details =
        "A model is a folder in diffusers layout (model_index.json, transformer/, vae/, …) below the models folder, or the demo model.",
};

static bool print_json(const model_list *l) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_arr(d);
    yyjson_mut_doc_set_root(d, root);
    for (size_t i = 0; i < l->count; i++) {
        const model_info *m = &l->models[i];
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d, root);
        yyjson_mut_obj_add_str(d, o, "id", m->name);
        yyjson_mut_obj_add_str(d, o, "folder", m->folder);
        yyjson_mut_obj_add_str(d, o, "class", m->class_name);
        yyjson_mut_obj_add_uint(d, o, "size_bytes", m->size_bytes);
        yyjson_mut_obj_add_int(d, o, "width", m->width);
        yyjson_mut_obj_add_int(d, o, "height", m->height);
        yyjson_mut_obj_add_int(d, o, "steps", m->steps);
        yyjson_mut_obj_add_real(d, o, "guidance", m->guidance);
    }
    size_t size;
    char *text = yyjson_mut_write(d, YYJSON_WRITE_PRETTY_TWO_SPACES, &size);
    if (text != NULL) printf("%s\n", text);
    free(text);
    yyjson_mut_doc_free(d);
    return text != NULL;
}

static void print_table(const model_list *l) {
    int width = 4;
    for (size_t i = 0; i < l->count; i++)
        if ((int)strlen(l->models[i].name) > width) width = (int)strlen(l->models[i].name);
    printf("%-*s  %8s  %-11s  %5s  %s\n", width, "NAME", "SIZE", "PICTURE", "STEPS", "FOLDER");
    for (size_t i = 0; i < l->count; i++) {
        const model_info *m = &l->models[i];
        char size[16], picture[16];
        if (m->size_bytes >= 1000000000) snprintf(size, sizeof size, "%.1f GB", (double)m->size_bytes / 1e9);
        else snprintf(size, sizeof size, "%.1f MB", (double)m->size_bytes / 1e6);
        snprintf(picture, sizeof picture, "%dx%d", m->width, m->height);
        printf("%-*s  %8s  %-11s  %5d  %s\n", width, m->name, size, picture, m->steps, m->folder);
    }
}

int command_models(int argc, char **argv) {
    int status;
    config *c = options_load(&models, argc, argv, &status);
    if (c == NULL) return status;
    model_list list = {0};
    error e = {0};
    bool ok = model_choice_list(c, &list, &e);
    if (ok && config_boolean(c, OPTION_JSON)) ok = print_json(&list) || error_no_memory(&e, "the list", 0);
    else if (ok) print_table(&list);
    if (!ok) fprintf(stderr, "imagined models: %s\n", e.text);
    model_list_free(&list);
    config_free(c);
    return ok ? 0 : 1;
}
