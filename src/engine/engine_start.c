#include "engine/engine_start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What the child tells before its exec succeeds, and nothing when it does. */
typedef struct start_fault {
    int number; /* errno */
} start_fault;

enum { OUT_OF_THE_WAY = 16 }; /* a descriptor number above those that are given a meaning */

/* Between fork and exec only calls that are safe in a signal handler are allowed: another thread may have held any lock. */
static bool prepare_child(pid_t parent, int socket, int *report) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return false;
    if (getppid() != parent) _exit(1); /* it ended before the line above: nobody is there to serve */
    for (int i = 1; i < NSIG; i++) {
        bool for_the_front = i == SIGINT || i == SIGTERM || i == SIGHUP;
        struct sigaction action = {.sa_handler = for_the_front ? SIG_IGN : SIG_DFL};
        sigaction(i, &action, NULL); /* fails for SIGKILL, SIGSTOP and the C library's own: rightly */
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    int away = fcntl(*report, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    if (away < 0) return false;
    *report = away;
    int end = fcntl(socket, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (end < 0 || nothing < 0) return false;
    if (nothing != STDIN_FILENO && dup2(nothing, STDIN_FILENO) < 0) return false;
    if (nothing == STDIN_FILENO && fcntl(nothing, F_SETFD, 0) != 0) return false;
    if (dup2(end, ENGINE_SOCKET) < 0) return false;
    /* Everything is opened close-on-exec; this is for libraries that forget. Where the kernel lacks the call there is nothing to add. */
    syscall(SYS_close_range, ENGINE_SOCKET + 1, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
    return true;
}

static _Noreturn void run_child(const char *executable, const char *const argv[], pid_t parent, int socket, int report) {
    if (prepare_child(parent, socket, &report)) execve(executable, (char *const *)argv, environ);
    start_fault fault = {errno};
    ssize_t n = write(report, &fault, sizeof fault);
    _exit(n == sizeof fault ? 127 : 126);
}

/* Waits until the exec closed the pipe (success) or the child wrote why not. */
static bool exec_succeeded(int report, start_fault *fault) {
    ssize_t n;
    do n = read(report, fault, sizeof *fault);
    while (n < 0 && errno == EINTR);
    return n == 0;
}

bool engine_start(const char *executable, const char *const argv[], int socket, pid_t *pid, error *e) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) return error_system(e, "make", "a pipe");
    /* No handler of this process may run in the child. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid(), child = fork();
    if (child == 0) run_child(executable, argv, parent, socket, report[1]);
    int number = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    start_fault fault = {number};
    bool ok = child > 0 && exec_succeeded(report[0], &fault);
    close(report[0]);
    if (ok) {
        *pid = child;
        return true;
    }
    if (child > 0)
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    errno = fault.number;
    return error_system(e, "start the engine", executable);
}
