#include "cli/paths.h"

#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

/* HOME, or what the system knows; nothing below /tmp, where anybody could have put a folder of that name. */
static const char *home_folder(void) {
    const char *home = getenv("HOME");
    if (home != NULL && home[0] == '/') return home;
    const struct passwd *user = getpwuid(geteuid());
    return user != NULL && user->pw_dir[0] == '/' ? user->pw_dir : "/nonexistent";
}

/* XDG: a relative path in the variable counts as unset. */
static void xdg(char *out, size_t capacity, const char *variable, const char *below_home, const char *rest) {
    const char *base = getenv(variable);
    if (base != NULL && base[0] == '/') snprintf(out, capacity, "%s/%s", base, rest);
    else snprintf(out, capacity, "%s/%s/%s", home_folder(), below_home, rest);
}

void paths_models_folder(char *out, size_t capacity) { xdg(out, capacity, "XDG_DATA_HOME", ".local/share", "imagined/models"); }

void paths_state_folder(char *out, size_t capacity) { xdg(out, capacity, "XDG_STATE_HOME", ".local/state", "imagined"); }

void paths_demo_folder(char *out, size_t capacity) {
    static const char *const places[] = {"../demo/model", "../share/imagined/demo"};
    char self[PATH_MAX], place[PATH_MAX], real[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    out[0] = '\0';
    if (n <= 0) return;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash == NULL) return;
    *slash = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!file_join(place, sizeof place, self, places[i], NULL) || realpath(place, real) == NULL || strlen(real) >= capacity) continue;
        snprintf(out, capacity, "%s", real);
        return;
    }
}
