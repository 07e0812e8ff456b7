/* Where things lie when nobody says otherwise. */
#ifndef IMAGINED_CLI_PATHS_H
#define IMAGINED_CLI_PATHS_H

#include <stddef.h>

/* $XDG_DATA_HOME/imagined/models, else ~/.local/share/imagined/models. */
void paths_models_folder(char *out, size_t capacity);
/* $XDG_STATE_HOME/imagined, else ~/.local/state/imagined. */
void paths_state_folder(char *out, size_t capacity);
/* The demo model, from the executable's own place: ../demo/model beside a build folder, ../share/imagined/demo when installed; "" when it
 * is in neither. */
void paths_demo_folder(char *out, size_t capacity);

#endif
