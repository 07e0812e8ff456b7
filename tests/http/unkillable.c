/* Preloaded into a server: while the file that UNKILLABLE names is there, no signal of its reaches a process, as if that were stuck in the
 * kernel. */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int kill(pid_t pid, int number) {
    int (*original)(pid_t, int);
    const char *file = getenv("UNKILLABLE");
    *(void **)&original = dlsym(RTLD_NEXT, "kill"); /* ISO C has no cast from an object's address to a function's */
    return file != NULL && access(file, F_OK) == 0 ? 0 : original(pid, number);
}
