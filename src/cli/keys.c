#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "server/access/api_keys.h"

static const config_command keys = {
    .name = "keys",
    .bit = FOR_KEYS,
    .arguments = "add NAME",
    .min_arguments = 2,
    .max_arguments = 2,
    .summary = "make API keys",
    .details = "Makes a key, prints it, this once, and adds its name and hash to the file of API keys. A server that runs reads the file again on SIGHUP.\n"
               "A key is taken back by removing its line.",
};

static bool add(const config *c, error *e) {
    const char *path = config_text(c, OPTION_API_KEYS_FILE);
    char key[API_KEY_TEXT_BYTES];
    if (strcmp(config_argument(c, 0), "add") != 0)
        return error_set(e, ERROR_INVALID, "there is no 'keys %.32s'; try: imagined keys add NAME", config_argument(c, 0));
    if (path[0] == '\0')
        return error_set(e, ERROR_INVALID, "name the file of keys with --api-keys-file or IMAGINED_API_KEYS_FILE, as for the server");
    if (!api_keys_add(path, config_argument(c, 1), key, e)) return false;
    if (printf("%s\n", key) < 0 || fflush(stdout) != 0)
        return error_set(e, ERROR_IO, "the key was added but could not be printed: remove the line of '%s' from %s", config_argument(c, 1),
                         path);
    return true;
}

int command_keys(int argc, char **argv) {
    int status;
    config *c = options_load(&keys, argc, argv, &status);
    if (c == NULL) return status;
    error e = {0};
    bool ok = add(c, &e);
    if (!ok) fprintf(stderr, "imagined keys: %s\n", e.text);
    config_free(c);
    return ok ? 0 : e.code == ERROR_INVALID ? 2 : 1;
}
