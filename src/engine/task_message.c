#include "engine/task_message.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    SOCKET_BUFFER_BYTES = 1 << 20, /* the kernel halves or caps it as it likes; some hundred progress messages fit in the least it gives */
    MAX_RECEIVED_FDS = 4,          /* room to see, and close, descriptors that should not be there */
};

#define MESSAGE_BYTES(member) (offsetof(engine_message, member) + sizeof ((engine_message *)NULL)->member)

/* A message ends where its kind's member of the union ends: most are far smaller than a request with its two prompts. 0: no such kind. */
static size_t message_bytes(int kind) {
    switch (kind) {
    case MESSAGE_ADMIT: return MESSAGE_BYTES(request);
    case MESSAGE_CANCEL:
    case MESSAGE_SUSPEND:
    case MESSAGE_RESUME:
    case MESSAGE_CLEANUP:
    case MESSAGE_STOP: return MESSAGE_BYTES(id);
    case MESSAGE_PRIORITY: return MESSAGE_BYTES(priority);
    case MESSAGE_LOAD:
    case MESSAGE_PRELOAD:
    case MESSAGE_UNLOAD: return MESSAGE_BYTES(model);
    case MESSAGE_KNOWN_PROFILE:
    case MESSAGE_PROFILE: return MESSAGE_BYTES(profile);
    case MESSAGE_SNAPSHOT: return MESSAGE_BYTES(snapshot);
    case MESSAGE_PLAN: return MESSAGE_BYTES(plan);
    case MESSAGE_ANSWER: return MESSAGE_BYTES(answer);
    case MESSAGE_HELLO: return MESSAGE_BYTES(hello);
    case MESSAGE_PROGRESS: return MESSAGE_BYTES(progress);
    case MESSAGE_IMAGE: return MESSAGE_BYTES(image);
    case MESSAGE_PREVIEW: return MESSAGE_BYTES(preview);
    case MESSAGE_DONE: return MESSAGE_BYTES(metrics);
    case MESSAGE_FAILED: return MESSAGE_BYTES(fault);
    }
    return 0;
}

const char *engine_phase_name(engine_phase p) {
    switch (p) {
    case PHASE_LOAD: return "load";
    case PHASE_ENCODE: return "encode";
    case PHASE_DENOISE: return "denoise";
    case PHASE_DECODE: return "decode";
    }
    return "";
}

bool engine_message_pair(int ends[2], error *e) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return error_system(e, "make", "a socket pair for the engine");
    for (int i = 0; i < 2; i++) {
        int size = SOCKET_BUFFER_BYTES;
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* a smaller one works as well, only less smoothly */
    }
    return true;
}

/* --- sending --- */

void engine_files_close(engine_files *f) {
    for (int i = 0; i < f->count; i++) close(f->fds[i]);
    *f = (engine_files){0};
}

bool engine_message_send(int socket, const engine_message *m, int fd, error *e) {
    const engine_files files = {fd >= 0, {fd}};
    return engine_message_send_files(socket, m, &files, e);
}

bool engine_message_send_files(int socket, const engine_message *m, const engine_files *files, error *e) {
    size_t bytes = (size_t)files->count * sizeof files->fds[0];
    struct iovec part = {(void *)m, message_bytes((int)m->kind)};
    if (part.iov_len == 0) return error_set(e, ERROR_INTERNAL, "message of unknown kind %d", (int)m->kind);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * ENGINE_MAX_FILES)];
    } control = {0};
    struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1};
    if (files->count > 0) {
        datagram.msg_control = control.bytes;
        datagram.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&datagram);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), files->fds, bytes);
    }
    ssize_t n;
    do n = sendmsg(socket, &datagram, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return true; /* a datagram goes whole or not at all */
    /* ETOOMANYREFS: too many descriptors are on their way to a peer that does not read. */
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)
        return error_set(e, ERROR_BUSY, "the socket of the engine is full");
    return error_set(e, ERROR_IO, "cannot send on the socket of the engine: %s", strerror(errno));
}

bool engine_message_send_within(int socket, const engine_message *m, int fd, int timeout_ms, error *e) {
    double deadline = timeout_ms < 0 ? INFINITY : clock_seconds() + timeout_ms / 1000.0;
    error fault = {0};
    while (!engine_message_send(socket, m, fd, &fault)) {
        double left = deadline - clock_seconds();
        if (fault.code != ERROR_BUSY || left <= 0) {
            if (e != NULL) *e = fault;
            return false;
        }
        /* Not all that makes a socket busy shows in POLLOUT, so the wait is cut into short ones. */
        struct pollfd p = {.fd = socket, .events = POLLOUT};
        if (poll(&p, 1, left < 0.02 ? 1 : 20) > 0 && (p.revents & POLLOUT) != 0) poll(NULL, 0, 1);
    }
    return true;
}

/* --- receiving: nothing that arrives is believed --- */

static bool ends(const char *text, size_t capacity) { return memchr(text, '\0', capacity) != NULL; }
#define ENDS(array) ends(array, sizeof(array))
static bool within(int64_t n, int64_t low, int64_t high) { return n >= low && n <= high; }

/* A bool that is neither 0 nor 1 must not be read as one. */
static bool is_flag(const bool *b) {
    unsigned char value;
    memcpy(&value, b, sizeof value);
    return value <= 1;
}

static bool duration_holds(double seconds) { return isfinite(seconds) && seconds >= 0; }

static bool priority_holds(int32_t priority) { return within(priority, 0, 3); }

static bool picture_holds(const engine_request *r) {
    if (!is_flag(&r->has_image) || !is_flag(&r->has_mask) || !is_flag(&r->mask_is_alpha)) return false;
    return r->has_image ? r->strength > 0 && r->strength <= 1 : !r->has_mask;
}

static bool request_holds(const engine_request *r) {
    return ENDS(r->model) && is_flag(&r->has_negative_prompt) && is_flag(&r->alone) && priority_holds(r->priority) &&
           ENDS(r->model_folder) && ENDS(r->precision) && ENDS(r->prompt) && ENDS(r->negative_prompt) && picture_holds(r) &&
           within(r->width, 1, MODEL_MAX_SIDE) && within(r->height, 1, MODEL_MAX_SIDE) && within(r->steps, 1, ENGINE_MAX_STEPS) &&
           within(r->count, 1, ENGINE_MAX_IMAGES) && r->max_sequence_length >= 1 && isfinite(r->guidance_scale) &&
           isfinite(r->true_cfg_scale);
}

static bool metrics_hold(const engine_metrics *s) {
    return isfinite(s->load_seconds) && isfinite(s->encode_seconds) && isfinite(s->denoise_seconds) && isfinite(s->decode_seconds) &&
           s->steps_run >= 0 && s->largest_batch >= 0 && duration_holds(s->mean_batch) && is_flag(&s->encode_cached);
}

static bool model_name_holds(const engine_model_name *n) {
    return ENDS(n->model) && ENDS(n->folder) && ENDS(n->precision) && is_flag(&n->only_if_free) && n->model[0] != '\0';
}

static bool fault_holds(const error *e, error_code lowest) {
    return within((int64_t)e->code, (int64_t)lowest, ERROR_INTERNAL) && ENDS(e->field) && ENDS(e->text);
}

static bool answer_holds(const engine_answer *a) {
    bool holds = is_flag(&a->ok) && within(a->unloaded_count, 0, ENGINE_MODEL_ROWS) && within(a->skipped_count, 0, ENGINE_MODEL_ROWS) &&
                 duration_holds(a->seconds) && fault_holds(&a->fault, ERROR_NONE);
    for (size_t i = 0; holds && i < ENGINE_MODEL_ROWS; i++) holds = ENDS(a->unloaded[i]) && ENDS(a->skipped[i]);
    return holds;
}

static bool plan_holds(const engine_plan *p) {
    bool holds = p->level >= 0 && within(p->step_count, 0, ENGINE_PLAN_STEPS);
    for (size_t i = 0; holds && i < ENGINE_PLAN_STEPS; i++) holds = ENDS(p->steps[i]);
    return holds;
}

static bool choice_holds(const engine_choice *c) { return ENDS(c->value) && ENDS(c->reason); }

static bool snapshot_holds(const engine_snapshot *s) {
    bool holds = ENDS(s->state) && within(s->model_count, 0, ENGINE_MODEL_ROWS) && is_flag(&s->amp_enabled) &&
                 is_flag(&s->flash_attention_available) && choice_holds(&s->dtype) && choice_holds(&s->attention) &&
                 choice_holds(&s->vae) && choice_holds(&s->tf32);
    for (size_t i = 0; holds && i < ENGINE_MODEL_ROWS; i++) {
        const engine_model_row *m = &s->models[i];
        holds = ENDS(m->name) && ENDS(m->precision) && within((int64_t)m->state, MODEL_LOADING, MODEL_IN_USE) && m->leases >= 0 &&
                duration_holds(m->load_seconds);
    }
    return holds;
}

static bool profile_holds(const engine_profile *p) {
    return ENDS(p->model) && ENDS(p->precision) && is_flag(&p->guidance_pair) && within(p->width, 1, MODEL_MAX_SIDE) &&
           within(p->height, 1, MODEL_MAX_SIDE) && p->text_tokens >= 1 && p->batch >= 1 && duration_holds(p->step_seconds) &&
           duration_holds(p->load_seconds) && duration_holds(p->encode_seconds) && duration_holds(p->decode_seconds);
}

static bool message_holds(const engine_message *m) {
    if (!ENDS(m->id)) return false;
    switch (m->kind) {
    case MESSAGE_ADMIT: return m->id[0] != '\0' && request_holds(&m->request);
    case MESSAGE_CANCEL:
    case MESSAGE_SUSPEND:
    case MESSAGE_RESUME:
    case MESSAGE_CLEANUP: return m->id[0] != '\0';
    case MESSAGE_STOP: return true;
    case MESSAGE_PRIORITY: return m->id[0] != '\0' && priority_holds(m->priority);
    case MESSAGE_LOAD:
    case MESSAGE_PRELOAD:
    case MESSAGE_UNLOAD: return m->id[0] != '\0' && model_name_holds(&m->model);
    case MESSAGE_KNOWN_PROFILE:
    case MESSAGE_PROFILE: return profile_holds(&m->profile);
    case MESSAGE_SNAPSHOT: return snapshot_holds(&m->snapshot);
    case MESSAGE_PLAN: return m->id[0] != '\0' && plan_holds(&m->plan);
    case MESSAGE_ANSWER: return m->id[0] != '\0' && answer_holds(&m->answer);
    case MESSAGE_HELLO: return ENDS(m->hello.device_kind) && ENDS(m->hello.device_name) && m->hello.threads >= 0;
    case MESSAGE_PROGRESS:
        return within((int64_t)m->progress.phase, PHASE_LOAD, PHASE_DECODE) && within(m->progress.images, 1, ENGINE_MAX_IMAGES) &&
               within(m->progress.image, 0, m->progress.images) && within(m->progress.steps, 0, ENGINE_MAX_STEPS) &&
               within(m->progress.step, 0, m->progress.steps);
    case MESSAGE_IMAGE:
        return within(m->image.index, 0, ENGINE_MAX_IMAGES - 1) && within(m->image.width, 1, MODEL_MAX_SIDE) &&
               within(m->image.height, 1, MODEL_MAX_SIDE);
    case MESSAGE_PREVIEW:
        return m->id[0] != '\0' && within(m->preview.index, 0, ENGINE_MAX_IMAGES - 1) && within(m->preview.step, 1, ENGINE_MAX_STEPS) &&
               within(m->preview.width, 1, ENGINE_PREVIEW_SIDE) && within(m->preview.height, 1, ENGINE_PREVIEW_SIDE);
    case MESSAGE_DONE: return metrics_hold(&m->metrics);
    case MESSAGE_FAILED: return fault_holds(&m->fault, ERROR_INVALID);
    }
    return false;
}

/* How many descriptors a message that holds has beside it. */
static int files_of(const engine_message *m) {
    if (m->kind == MESSAGE_ADMIT) return m->request.has_image + m->request.has_mask;
    return m->kind == MESSAGE_IMAGE || m->kind == MESSAGE_PREVIEW;
}

/* Takes as many descriptors as may come and closes all others. Returns how many came. */
static int take_descriptors(struct msghdr *datagram, engine_files *files) {
    int count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(datagram); c != NULL; c = CMSG_NXTHDR(datagram, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++, count++) {
            int received;
            memcpy(&received, CMSG_DATA(c) + i * sizeof received, sizeof received);
            if (files->count < ENGINE_MAX_FILES) files->fds[files->count++] = received;
            else close(received);
        }
    }
    return count;
}

static bool wait_readable(int socket, int timeout_ms, bool *ready, error *e) {
    double deadline = clock_seconds() + timeout_ms / 1000.0;
    struct pollfd p = {.fd = socket, .events = POLLIN};
    for (;;) {
        int left = timeout_ms < 0 ? -1 : (int)((deadline - clock_seconds()) * 1000.0 + 0.5);
        int n = poll(&p, 1, timeout_ms >= 0 && left < 0 ? 0 : left);
        *ready = n > 0;
        if (n >= 0) return true;
        if (errno != EINTR) return error_set(e, ERROR_IO, "cannot wait for the engine's socket: %s", strerror(errno));
    }
}

bool engine_message_receive(int socket, int timeout_ms, engine_message *m, engine_files *files, bool *got, error *e) {
    *got = false;
    *files = (engine_files){0};
    bool ready = true;
    if (timeout_ms != 0 && !wait_readable(socket, timeout_ms, &ready, e)) return false;
    if (!ready) return true;

    memset(m, 0, sizeof *m);
    struct iovec part = {m, sizeof *m};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MAX_RECEIVED_FDS * sizeof(int))];
    } control;
    struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do n = recvmsg(socket, &datagram, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0) return error_set(e, ERROR_IO, "cannot receive from the socket of the engine: %s", strerror(errno));

    int descriptors = take_descriptors(&datagram, files);
    if (n == 0 && descriptors == 0) return error_set(e, ERROR_IO, "the other end of the engine's socket is gone");
    int kind;
    memcpy(&kind, &m->kind, sizeof kind);
    bool holds = (datagram.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && (size_t)n >= sizeof kind && message_bytes(kind) == (size_t)n &&
                 message_holds(m) && descriptors == files_of(m);
    if (!holds) {
        engine_files_close(files);
        return error_set(e, ERROR_IO, "%zd bytes with %d descriptors came through the engine's socket that are no message", n, descriptors);
    }
    *got = true;
    return true;
}
