#include "engine/engine_death.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

bool engine_death_is_charged(int status, bool oom_kills_rose) {
    if (!WIFSIGNALED(status)) return false;
    switch (WTERMSIG(status)) {
    case SIGABRT:
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL: return true;
    case SIGKILL: return oom_kills_rose;
    default: return false;
    }
}

void engine_death_describe(int status, bool oom_kills_rose, char *out, size_t capacity) {
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        const char *name = sigabbrev_np(number);
        if (name != NULL) snprintf(out, capacity, "killed by SIG%s%s", name, number == SIGKILL && oom_kills_rose ? " (out of memory)" : "");
        else snprintf(out, capacity, "killed by signal %d", number);
    } else {
        snprintf(out, capacity, "exited with status %d", WEXITSTATUS(status));
    }
}

/* The number after `key` at the start of a line of a small kernel file. */
static bool read_counter(const char *path, const char *key, uint64_t *out) {
    FILE *f = fopen(path, "re");
    if (f == NULL) return false;
    char line[256];
    size_t n = strlen(key);
    bool found = false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, key, n) != 0 || line[n] != ' ') continue;
        *out = strtoull(line + n, NULL, 10);
        found = true;
    }
    fclose(f);
    return found;
}

/* The path of this process's memory cgroup, "/" and up, from lines like "0::/system.slice/x.service" (version 2) and
 * "4:cpu,memory:/docker/…" (version 1; it wins, as then version 2 has no memory controller). */
static bool find_cgroup(const char *root, char *out, size_t capacity, bool *version1) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (f == NULL) return false;
    char line[PATH_MAX];
    bool found = false;
    *version1 = false;
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *folder = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (folder == NULL) continue;
        *folder++ = '\0';
        controllers++;
        bool is_memory = false;
        for (char *rest = controllers, *word; (word = strsep(&rest, ",")) != NULL;) is_memory |= strcmp(word, "memory") == 0;
        if (!is_memory && (found || strncmp(line, "0:", 2) != 0)) continue;
        snprintf(out, capacity, "%s", folder);
        found = true;
        if (is_memory) {
            *version1 = true;
            break;
        }
    }
    fclose(f);
    return found;
}

uint64_t engine_oom_kills(const char *root) {
    char folder[PATH_MAX], path[2 * PATH_MAX + 64];
    uint64_t count = 0;
    bool version1;
    if (find_cgroup(root, folder, sizeof folder, &version1)) {
        const char *mount = version1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup",
                   *file = version1 ? "memory.oom_control" : "memory.events";
        snprintf(path, sizeof path, "%s%s%s/%s", root, mount, folder, file);
        if (read_counter(path, "oom_kill", &count)) return count;
        /* In a container the path may be the host's while the mount shows only our own cgroup. */
        snprintf(path, sizeof path, "%s%s/%s", root, mount, file);
        if (read_counter(path, "oom_kill", &count)) return count;
    }
    snprintf(path, sizeof path, "%s/proc/vmstat", root);
    return read_counter(path, "oom_kill", &count) ? count : 0;
}
