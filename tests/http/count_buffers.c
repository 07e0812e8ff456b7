#include "count_buffers.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <ggml-backend.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_BUFFERS = 1 << 16 };

typedef struct counted {
    ggml_backend_buffer_t buffer;
    size_t size;
    bool host;
} counted;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static counted buffers[MAX_BUFFERS];
static size_t buffer_count, now[2], peak[2];

/* The next one in the order of libraries: ggml's own. */
static void *original(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (symbol == NULL) abort();
    return symbol;
}

/* Written at each change: the process may be killed. One write of one length, so that a reader never sees half of it. */
static void tell(void) {
    const char *path = getenv("COUNT_BUFFERS_FILE");
    char text[64];
    if (path == NULL) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600),
        length = snprintf(text, sizeof text, "%20zu %20zu\n", peak[false], now[false]);
    if (fd < 0 || pwrite(fd, text, (size_t)length, 0) != length) abort();
    close(fd);
}

static void add(ggml_backend_buffer_t buffer, size_t size, bool host) {
    pthread_mutex_lock(&lock);
    if (buffer_count == MAX_BUFFERS) abort();
    buffers[buffer_count++] = (counted){buffer, size, host};
    now[host] += size;
    if (now[host] > peak[host]) peak[host] = now[host];
    if (!host) tell();
    pthread_mutex_unlock(&lock);
}

static void take_away(ggml_backend_buffer_t buffer) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < buffer_count; i++) {
        if (buffers[i].buffer != buffer) continue;
        now[buffers[i].host] -= buffers[i].size;
        if (!buffers[i].host) tell();
        buffers[i] = buffers[--buffer_count];
        break;
    }
    pthread_mutex_unlock(&lock);
}

ggml_backend_buffer_t ggml_backend_buft_alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t (*allocate)(ggml_backend_buffer_type_t, size_t);
    size_t (*size_of)(ggml_backend_buffer_t);
    bool (*is_host)(ggml_backend_buffer_t);
    *(void **)&allocate = original("ggml_backend_buft_alloc_buffer");
    *(void **)&size_of = original("ggml_backend_buffer_get_size");
    *(void **)&is_host = original("ggml_backend_buffer_is_host");
    ggml_backend_buffer_t buffer = allocate(type, size);
    if (buffer != NULL) add(buffer, size_of(buffer), is_host(buffer));
    return buffer;
}

void ggml_backend_buffer_free(ggml_backend_buffer_t buffer) {
    void (*release)(ggml_backend_buffer_t);
    *(void **)&release = original("ggml_backend_buffer_free");
    if (buffer != NULL) take_away(buffer);
    release(buffer);
}

static size_t read_count(const size_t count[2], bool host) {
    pthread_mutex_lock(&lock);
    size_t value = count[host];
    pthread_mutex_unlock(&lock);
    return value;
}

size_t count_buffers_now(bool host) { return read_count(now, host); }
size_t count_buffers_peak(bool host) { return read_count(peak, host); }
