#include "engine/engine_client.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine_death.h"
#include "engine/engine_debts.h"
#include "engine/engine_start.h"
#include "engine/process_time.h"
#include "engine/watchdog.h"

static const double first_pause = 0.1, longest_pause = 5.0; /* seconds before a new start */
static const double stop_seconds = 2.0;                     /* a stopped engine gets before SIGKILL */
static const double death_poll_seconds = 0.005;             /* between the end of the socket and the end of the process */
static const double death_seconds = 1.0;                    /* after which the second is brought about */
static const double abort_seconds = 5.0;                    /* a hung engine gets between SIGABRT and SIGKILL: to write a core */
static const double stuck_seconds = 10.0;                   /* after SIGKILL, an engine that is still there cannot be ended */
static const double stuck_poll_seconds = 1.0;               /* between two looks whether it has ended */
static const double oom_count_seconds = 1.0;                /* between two readings of the count of OOM kills while slices run */
enum { MESSAGES_AT_ONCE = 256 }; /* read in one service call, so that a flooding engine cannot hold the event loop */

/* An engine's life: none (pid 0, start_at set) → starting (pid, socket) → ready (hello) → gone (socket −1, process ending) → none. While
 * `parked` none stays none; `ending` is an engine that was told to stop; `hung` one that was aborted; `stuck` one that SIGKILL did not end:
 * its death is told, and none follows it before its process is gone. */
struct engine_client {
    engine_options options;
    engine_events events;
    char *device;     /* options.device */
    char *executable;
    uint64_t number;  /* of the newest engine */
    pid_t pid;
    int socket;
    bool ready;
    bool parked, ending, hung, stuck;
    double kill_at;   /* clock_seconds; then what there still is of it is killed; INFINITY: nothing is planned */
    double killed_at; /* clock_seconds; 0: it was not */
    bool malformed;   /* it sent something that is no message */
    bool on_cpu;      /* where it computes, as its hello told */
    char last_words[ERROR_TEXT_BYTES]; /* why it could not start */
    uint64_t slice;   /* its number, where one runs */
    char running[ENGINE_MAX_SLICE_TASKS][ENGINE_ID_BYTES]; /* the tasks in it */
    int running_count; /* 0: no slice runs */
    uint64_t oom_kills; /* when the slice of `running` began, or a little earlier: one more is the engine's own end */
    uint64_t counted;   /* read last, when the engine had nothing more to say */
    double counted_at;  /* clock_seconds */
    double start_at;    /* clock_seconds */
    double pause;       /* before the start after the next death */
    engine_debts debts;
    bool unread; /* its socket is full */
    bool heard;  /* a message came since the watchdog looked last */
    watchdog watchdog;
    engine_message message; /* scratch: too large for a comfortable stack frame in callbacks that send */
    engine_message outgoing;
};

/* --- start --- */

static const char *level_name(int level) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return names[level < 0 ? 0 : level > 3 ? 3 : level];
}

static uint64_t count_oom_kills(engine_client *c) {
    c->counted_at = clock_seconds();
    return c->counted = engine_oom_kills("");
}

static bool start(engine_client *c, error *e) {
    int ends[2];
    if (!engine_message_pair(ends, e)) return false;
    char threads[16], max_models[16], max_cache[32], vram_limit[16], batch[16], prompts[16], number[32];
    snprintf(threads, sizeof threads, "%d", c->options.threads);
    snprintf(max_models, sizeof max_models, "%d", c->options.max_models);
    snprintf(max_cache, sizeof max_cache, "%.17g", c->options.max_cache_gb);
    snprintf(vram_limit, sizeof vram_limit, "%d", c->options.vram_limit_mb);
    snprintf(batch, sizeof batch, "%d", c->options.batch_images);
    snprintf(prompts, sizeof prompts, "%d", c->options.prompt_cache_mb);
    snprintf(number, sizeof number, "%" PRIu64, c->number + 1);
    const char *argv[] = {"imagined", "engine", "--device", c->device, "--threads", threads, "--max-models", max_models,
                    "--max-cache-size-gb", max_cache,
                    c->options.memory_efficient_loading ? "--memory-efficient-loading" : "--no-memory-efficient-loading", "--vram-limit-mb",
                    vram_limit, "--batch-images", batch, "--prompt-cache-mb", prompts, "--log-level", level_name(c->options.log_level), "--engine", number, NULL};
    bool ok = engine_start(c->executable, argv, ends[1], &c->pid, e);
    close(ends[1]);
    if (!ok) {
        close(ends[0]);
        return false;
    }
    c->number++;
    c->socket = ends[0];
    c->ready = c->malformed = c->ending = c->hung = c->on_cpu = c->unread = c->heard = false;
    c->kill_at = INFINITY;
    c->killed_at = 0;
    c->last_words[0] = '\0';
    c->running_count = c->debts.count = 0;
    c->oom_kills = count_oom_kills(c);
    watchdog_begin(&c->watchdog, clock_seconds());
    return true;
}

bool engine_client_new(const engine_options *options, const engine_events *events, engine_client **out, error *e) {
    const char *executable = getenv("IMAGINED_ENGINE_EXECUTABLE");
    if (executable == NULL || executable[0] == '\0') executable = "/proc/self/exe";
    engine_client *c = calloc(1, sizeof *c);
    if (c == NULL) return error_no_memory(e, "the engine's client", sizeof *c);
    *c = (engine_client){.options = *options, .events = *events, .socket = -1};
    c->device = strdup(options->device);
    c->executable = strdup(executable);
    c->options.device = c->device;
    bool ok = c->device != NULL && c->executable != NULL;
    if (!ok) error_no_memory(e, "the engine's client", strlen(options->device) + strlen(executable));
    if (!ok || !start(c, e)) {
        engine_client_free(c);
        return false;
    }
    *out = c;
    return true;
}

/* --- death --- */

static void kill_within(engine_client *c, double seconds) { c->kill_at = fmin(c->kill_at, clock_seconds() + seconds); }

static void kill_now(engine_client *c) {
    kill(c->pid, SIGKILL);
    c->killed_at = clock_seconds();
}

static void close_socket(engine_client *c) {
    if (c->socket < 0) return;
    close(c->socket);
    c->socket = -1;
    kill_within(c, death_seconds);
}

/* The next start follows the first death at once, later ones after pauses that double; a finished task ends the series. */
static void plan_start(engine_client *c) {
    c->start_at = clock_seconds() + c->pause;
    c->pause = c->pause == 0 ? first_pause : fmin(2 * c->pause, longest_pause);
}

/* The end of an engine that was told to stop. */
static void bury_stopped(engine_client *c) {
    close_socket(c);
    c->pid = 0;
    c->running_count = 0;
    c->ending = false;
    c->start_at = clock_seconds();
}

static void describe_death(const engine_client *c, int status, bool oom, char *out, size_t capacity) {
    if (c->malformed) snprintf(out, capacity, "killed for sending something that is no message");
    else if (c->hung && c->watchdog.still >= c->options.timeout_seconds)
        snprintf(out, capacity, "killed because it hung: no message and no work for %.0f s", c->watchdog.still);
    else if (c->hung) snprintf(out, capacity, "killed because it hung: no message for %.0f s", c->watchdog.silent);
    else if (c->last_words[0] != '\0') snprintf(out, capacity, "%s", c->last_words);
    else if (c->stuck) snprintf(out, capacity, "killed");
    else engine_death_describe(status, oom, out, capacity);
}

static void tell_death(engine_client *c, int status) {
    bool oom = engine_oom_kills("") > c->oom_kills;
    engine_death death = {.status = status, .hung = c->hung, .engine = c->number, .pid = c->pid};
    describe_death(c, status, oom, death.reason, sizeof death.reason);
    size_t n = strlen(death.reason);
    if (c->stuck)
        snprintf(death.reason + n, sizeof death.reason - n,
                 ", but process %ld does not end: it waits in the kernel, for a driver or a disk", (long)c->pid);
    if (c->hung && c->running_count == 0) snprintf(death.owed, sizeof death.owed, "%s", engine_debts_suspect(&c->debts));
    bool worked = c->running_count > 0 && (c->hung || engine_death_is_charged(status, oom));
    death.charged = !c->malformed && (worked || death.owed[0] != '\0');
    if (c->running_count > 0) {
        memcpy(death.running, c->running[0], sizeof death.running);
        death.sharing_count = c->running_count - 1;
        memcpy(death.sharing, c->running[1], (size_t)death.sharing_count * sizeof c->running[1]);
    }
    close_socket(c);
    if (!c->stuck) c->pid = 0;
    c->ready = c->ending = false;
    c->running_count = 0;
    plan_start(c);
    c->events.died(c->events.context, &death);
}

static void bury(engine_client *c, int status) {
    if (c->ending) {
        bury_stopped(c);
    } else if (c->stuck) { /* its death was told */
        c->pid = 0;
        c->stuck = false;
    } else {
        tell_death(c, status);
    }
}

/* Kills what is due, and gives up waiting for what does not end of that: its tasks go on waiting for another engine. */
static void enforce_end(engine_client *c) {
    double now = clock_seconds();
    if (c->stuck || now < c->kill_at) return;
    if (c->killed_at == 0) kill_now(c);
    if (now - c->killed_at < stuck_seconds) return;
    c->stuck = true;
    tell_death(c, 0);
}

/* --- hanging --- */

/* Whether the engine must give a sign of life: it is to say hello, to answer something, or to read what was sent. */
static bool is_awaited(const engine_client *c) { return !c->ready || c->unread || engine_debts_due(&c->debts); }

static bool is_watched(const engine_client *c) {
    return c->options.timeout_seconds > 0 && c->socket >= 0 && !c->ending && !c->hung && is_awaited(c);
}

static void note_full_socket(engine_client *c) {
    if (!is_awaited(c)) watchdog_begin(&c->watchdog, clock_seconds());
    c->unread = true;
}

static bool socket_is_full(const engine_client *c) {
    struct pollfd p = {.fd = c->socket, .events = POLLOUT};
    return poll(&p, 1, 0) < 1;
}

/* Looks for signs of life when it is time to; without any for too long, the engine is aborted, and killed if that does not end it. */
static void watch(engine_client *c) {
    double now = clock_seconds(), timeout = c->options.timeout_seconds;
    if (!is_watched(c) || now < watchdog_due(&c->watchdog, timeout)) return;
    c->unread = c->unread && socket_is_full(c);
    process_time t;
    bool told = process_time_read(c->pid, &t);
    const watchdog_sight sight = {.now = now, .awaited = is_awaited(c), .heard = c->heard, .debugged = told && t.state == 't', .on_cpu = c->on_cpu,
                                  .cpu = told ? t.cpu_seconds : -1};
    c->heard = false;
    if (watchdog_look(&c->watchdog, &sight, timeout) == WATCHDOG_ALIVE) return;
    c->hung = true;
    c->ready = false;
    kill(c->pid, SIGABRT);
    kill_within(c, abort_seconds);
}

/* Whether the process has ended. A process that somebody else waited for counts as ended, its status unknown. */
static bool reap(engine_client *c, int *status) {
    pid_t n;
    do n = waitpid(c->pid, status, WNOHANG);
    while (n < 0 && errno == EINTR);
    if (n < 0) *status = 0;
    return n != 0;
}

static void start_again(engine_client *c) {
    error fault = {0};
    c->start_at = 0;
    if (start(c, &fault)) return;
    engine_death death = {0};
    snprintf(death.reason, sizeof death.reason, "%s", fault.text);
    plan_start(c);
    c->events.died(c->events.context, &death);
}

/* --- messages --- */

/* A picture is taken only if reading its pages cannot fail later: the right size, and no way to shrink it. */
static bool picture_is_whole(int fd, int32_t width, int32_t height) {
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(fd, &info) == 0 &&
           info.st_size == (off_t)width * height * 3;
}

static int find_running(const engine_client *c, const char *id) {
    int i = 0;
    while (i < c->running_count && strcmp(c->running[i], id) != 0) i++;
    return i;
}

/* The first task that tells a slice's number begins the slice, the others join it. Number 0 is a slice of its own each time. What was
 * counted before an engine began a slice is not its own end; what is counted now may be, as its last words are read after it. */
static void note_running(engine_client *c, const char *id, uint64_t slice) {
    bool begins = slice == 0 || c->slice != slice;
    if (c->running_count == 0) c->oom_kills = count_oom_kills(c);
    else if (begins) c->oom_kills = c->counted;
    if (begins) c->running_count = 0;
    c->slice = slice;
    int i = find_running(c, id);
    if (i < c->running_count || i == ENGINE_MAX_SLICE_TASKS) return;
    memcpy(c->running[i], id, sizeof c->running[i]);
    c->running_count++;
}

static void forget_running(engine_client *c, const char *id) {
    int i = find_running(c, id);
    if (i < c->running_count) memmove(c->running[i], c->running[c->running_count - 1], sizeof c->running[i]);
    if (i < c->running_count) c->running_count--;
}

static void note_finished(engine_client *c, const char *id) {
    engine_debts_answered(&c->debts, id);
    forget_running(c, id);
    c->pause = 0;
}

/* False when an engine must not send this. */
static bool dispatch(engine_client *c, const engine_message *m, engine_files *files) {
    void *context = c->events.context;
    switch (m->kind) {
    case MESSAGE_HELLO:
        c->ready = !c->ending && !c->hung;
        c->on_cpu = strcmp(m->hello.device_kind, "cpu") == 0;
        if (c->ready) c->events.ready(context, m);
        return true;
    case MESSAGE_PROGRESS:
        engine_debts_begun(&c->debts, m->id);
        note_running(c, m->id, m->progress.slice);
        c->events.progress(context, m);
        return true;
    case MESSAGE_IMAGE:
        if (!picture_is_whole(files->fds[0], m->image.width, m->image.height)) return false;
        c->events.image(context, m, files->fds[0]);
        files->count = 0;
        return true;
    case MESSAGE_PREVIEW:
        if (!picture_is_whole(files->fds[0], m->preview.width, m->preview.height)) return false;
        if (c->events.preview == NULL) return true;
        c->events.preview(context, m, files->fds[0]);
        files->count = 0;
        return true;
    case MESSAGE_DONE:
        note_finished(c, m->id);
        c->events.done(context, m);
        return true;
    case MESSAGE_FAILED:
        if (m->id[0] == '\0') { /* no task's failure but the engine's own: it is told with the death that follows */
            memcpy(c->last_words, m->fault.text, sizeof c->last_words);
            return true;
        }
        note_finished(c, m->id);
        c->events.failed(context, m);
        return true;
    case MESSAGE_SNAPSHOT:
        if (c->events.snapshot != NULL) c->events.snapshot(context, &m->snapshot);
        return true;
    case MESSAGE_PLAN:
        if (c->events.plan != NULL) c->events.plan(context, m);
        return true;
    case MESSAGE_PROFILE:
        if (c->events.profile != NULL) c->events.profile(context, &m->profile);
        return true;
    case MESSAGE_ANSWER:
        engine_debts_answered(&c->debts, m->id);
        forget_running(c, m->id);
        if (c->events.answer != NULL) c->events.answer(context, m->id, &m->answer);
        return true;
    default: return false;
    }
}

/* Hands out what has arrived, `limit` messages at most (−1: all). Closes the socket at its end. */
static void read_messages(engine_client *c, int limit) {
    for (int i = 0; c->socket >= 0 && i != limit; i++) {
        engine_files files;
        bool got;
        engine_message *m = &c->message;
        bool ok = engine_message_receive(c->socket, 0, m, &files, &got, NULL);
        if (ok && !got) {
            if (c->running_count > 0 && clock_seconds() - c->counted_at >= oom_count_seconds) count_oom_kills(c);
            return;
        }
        c->heard |= ok;
        ok = ok && (m->engine != c->number /* stale */ || dispatch(c, m, &files));
        engine_files_close(&files); /* those that nobody took */
        if (ok) continue;
        if (!got) {
            /* The end of the socket comes with the end of the process, a moment before it; anything else must be brought to an end. */
            struct pollfd p = {.fd = c->socket};
            c->malformed = poll(&p, 1, 0) < 1 || (p.revents & POLLHUP) == 0;
        } else {
            c->malformed = true;
        }
        if (c->malformed) kill_now(c);
        close_socket(c);
    }
}

void engine_client_service(engine_client *c) {
    if (c->pid == 0) {
        if (!c->parked && clock_seconds() >= c->start_at) start_again(c);
        return;
    }
    int status = 0;
    bool dead = reap(c, &status); /* asked first: what it sent before is all in the socket then */
    read_messages(c, dead ? -1 : MESSAGES_AT_ONCE);
    if (!dead) watch(c);
    if (!dead) enforce_end(c);
    if (!dead && c->socket < 0) dead = reap(c, &status);
    if (dead) bury(c, status);
}

/* --- what the event loop asks --- */

int engine_client_fd(const engine_client *c) { return c->socket; }
bool engine_client_ready(const engine_client *c) { return c->ready && c->socket >= 0; }
pid_t engine_client_pid(const engine_client *c) { return c->pid; }
bool engine_client_stuck(const engine_client *c) { return c->stuck; }

bool engine_client_still(const engine_client *c) {
    if (c->pid == 0) return false;
    return c->hung || c->killed_at > 0 || (is_watched(c) && watchdog_is_still(&c->watchdog, c->options.timeout_seconds));
}

static int ms_until(double at) {
    double left = at - clock_seconds();
    return left <= 0 ? 0 : (int)(left * 1000.0) + 1;
}

int engine_client_wait_ms(const engine_client *c) {
    if (c->pid == 0) return c->parked ? -1 : ms_until(c->start_at);
    if (c->stuck) return (int)(stuck_poll_seconds * 1000.0);
    if (c->socket < 0 || c->killed_at > 0) return (int)(death_poll_seconds * 1000.0); /* it is about to end */
    double due = is_watched(c) ? watchdog_due(&c->watchdog, c->options.timeout_seconds) : INFINITY;
    due = fmin(due, c->kill_at);
    return isinf(due) ? -1 : ms_until(due);
}

/* --- stopping and starting --- */

void engine_client_stop(engine_client *c) {
    if (c->parked) return;
    c->parked = true;
    c->ready = false;
    if (c->pid == 0 || c->ending || c->hung || c->stuck) return; /* the last two end without being told to */
    c->ending = true;
    c->outgoing = (engine_message){.kind = MESSAGE_STOP, .engine = c->number};
    bool told = c->socket >= 0 && engine_message_send(c->socket, &c->outgoing, -1, NULL);
    kill_within(c, told ? stop_seconds : 0);
}

void engine_client_start(engine_client *c) {
    if (!c->parked) return;
    c->parked = false;
    if (c->pid == 0) c->start_at = clock_seconds();
}

bool engine_client_stopped(const engine_client *c) { return c->parked; }

/* --- tasks --- */

static bool send_with_files(engine_client *c, engine_message_kind kind, const char *id, const engine_files *files, error *e) {
    engine_message *m = &c->outgoing;
    m->kind = kind;
    m->engine = c->number;
    size_t n = strlen(id);
    bool nameless = kind == MESSAGE_STOP || kind == MESSAGE_KNOWN_PROFILE;
    if (n >= sizeof m->id || (n == 0 && !nameless)) return error_set(e, ERROR_INTERNAL, "'%s' is no task id", id);
    memset(m->id, 0, sizeof m->id);
    memcpy(m->id, id, n);
    if (!engine_client_ready(c)) return error_set(e, ERROR_BUSY, "no engine is ready");
    if (c->debts.count == ENGINE_DEBTS_MAX && engine_debts_adds(kind))
        return error_set(e, ERROR_BUSY, "the engine has %d tasks and commands to answer already", ENGINE_DEBTS_MAX);
    error fault = {0};
    if (!engine_message_send_files(c->socket, m, files, &fault)) {
        if (fault.code == ERROR_BUSY) note_full_socket(c);
        /* An engine that is gone is about to be replaced: the same to the caller as a busy one. */
        return error_set(e, ERROR_BUSY, "%s", fault.text);
    }
    if (!is_awaited(c)) watchdog_begin(&c->watchdog, clock_seconds());
    engine_debts_sent(&c->debts, kind, id);
    return true;
}

static bool send_to_engine(engine_client *c, engine_message_kind kind, const char *id, error *e) {
    return send_with_files(c, kind, id, &(engine_files){0}, e);
}

bool engine_client_admit(engine_client *c, const char *id, const engine_request *request, const engine_files *files, error *e) {
    c->outgoing.request = *request;
    return send_with_files(c, MESSAGE_ADMIT, id, files, e);
}

bool engine_client_cancel(engine_client *c, const char *id, error *e) { return send_to_engine(c, MESSAGE_CANCEL, id, e); }
bool engine_client_suspend(engine_client *c, const char *id, error *e) { return send_to_engine(c, MESSAGE_SUSPEND, id, e); }
bool engine_client_resume(engine_client *c, const char *id, error *e) { return send_to_engine(c, MESSAGE_RESUME, id, e); }

bool engine_client_set_priority(engine_client *c, const char *id, int priority, error *e) {
    c->outgoing.priority = priority;
    return send_to_engine(c, MESSAGE_PRIORITY, id, e);
}

bool engine_client_command(engine_client *c, engine_message_kind kind, const char *id, const engine_model_name *model, error *e) {
    if (model != NULL) c->outgoing.model = *model;
    return send_to_engine(c, kind, id, e);
}

bool engine_client_tell_profile(engine_client *c, const engine_profile *p, error *e) {
    c->outgoing.profile = *p;
    return send_to_engine(c, MESSAGE_KNOWN_PROFILE, "", e);
}

bool engine_death_charges(const engine_death *d, const char *id) {
    if (!d->charged || id[0] == '\0') return false;
    bool blamed = strcmp(d->running, id) == 0 || strcmp(d->owed, id) == 0;
    for (int i = 0; !blamed && i < d->sharing_count; i++) blamed = strcmp(d->sharing[i], id) == 0;
    return blamed;
}

/* --- end --- */

/* Waits for the process to end, reading (and dropping) what it still sends so that it is never stuck in a send. */
static bool wait_for_end(engine_client *c, double seconds) {
    double deadline = clock_seconds() + seconds;
    int status;
    while (!reap(c, &status)) {
        if (clock_seconds() >= deadline) return false;
        struct pollfd p = {.fd = c->socket, .events = POLLIN};
        poll(&p, 1, c->socket >= 0 ? 20 : 2);
        engine_files files;
        bool got = true;
        while (c->socket >= 0 && got) {
            if (!engine_message_receive(c->socket, 0, &c->message, &files, &got, NULL)) close_socket(c);
            else engine_files_close(&files);
        }
    }
    return true;
}

void engine_client_free(engine_client *c) {
    if (c == NULL) return;
    if (c->pid != 0) {
        c->outgoing = (engine_message){.kind = MESSAGE_STOP, .engine = c->number};
        bool told = c->socket >= 0 && engine_message_send(c->socket, &c->outgoing, -1, NULL);
        if (!told || !wait_for_end(c, stop_seconds)) {
            kill(c->pid, SIGKILL);
            wait_for_end(c, c->stuck ? 0 : stuck_seconds); /* who does not end of that must not keep the front */
        }
    }
    close_socket(c);
    free(c->device);
    free(c->executable);
    free(c);
}
