#include "compute/device.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/machine.h"
#include "compute/backends.h"

struct device {
    ggml_backend_dev_t dev;
    ggml_backend_t backend;
    team *team; /* the CPU's threads; NULL elsewhere */
    int threads;
    bool is_cpu;
    precision autocast;
    char kind[32];
    ledger ledger;
};

static const char *const precision_names[] = {
    [PRECISION_AUTO] = "auto", [PRECISION_F32] = "f32", [PRECISION_BF16] = "bf16", [PRECISION_F16] = "f16", [PRECISION_INT8] = "int8"};

bool precision_parse(const char *text, precision *out) {
    for (size_t i = 0; i < sizeof precision_names / sizeof *precision_names; i++)
        if (strcmp(text, precision_names[i]) == 0) {
            *out = (precision)i;
            return true;
        }
    return false;
}

const char *precision_name(precision p) { return precision_names[p]; }

static bool is_gpu(ggml_backend_dev_t dev) {
    enum ggml_backend_dev_type type = ggml_backend_dev_type(dev);
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

/* A discrete GPU before an integrated one, and a vendor's own interface before Vulkan. */
static int preference(ggml_backend_dev_t dev) {
    int discrete = ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_GPU ? 2 : 0;
    return discrete + (strcasecmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(dev)), "vulkan") != 0);
}

static ggml_backend_dev_t best_gpu(void) {
    ggml_backend_dev_t best = NULL;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t dev = ggml_backend_dev_get(i);
        if (is_gpu(dev) && (best == NULL || preference(dev) > preference(best))) best = dev;
    }
    return best;
}

/* A device by ggml's own name ("Vulkan0"), whose letters are its backend's name, or the first of a backend ("vulkan"). */
static ggml_backend_dev_t named(const char *name) {
    char kind[32];
    snprintf(kind, sizeof kind, "%s", name);
    for (char *c = kind; *c != '\0'; c++) *c = (char)tolower((unsigned char)*c);
    if (!backends_load(kind)) {
        kind[strcspn(kind, "0123456789")] = '\0';
        if (!backends_load(kind)) return NULL;
    }
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t dev = ggml_backend_dev_get(i);
        if (strcasecmp(ggml_backend_dev_name(dev), name) == 0 ||
            strcasecmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(dev)), name) == 0)
            return dev;
    }
    return NULL;
}

static ggml_backend_dev_t choose(const char *name) {
    if (strcasecmp(name, "cpu") == 0) return backends_cpu();
    if (strcasecmp(name, "auto") != 0) return named(name);
    backends_load_all();
    ggml_backend_dev_t gpu = best_gpu();
    return gpu != NULL ? gpu : backends_cpu();
}

static bool complain(const char *name, error *e) {
    backends_cpu();
    backends_load_all();
    buffer list = {0};
    for (size_t i = 0; i < ggml_backend_dev_count(); i++)
        buffer_printf(&list, "%s%s", list.size > 0 ? ", " : "", ggml_backend_dev_name(ggml_backend_dev_get(i)));
    error_set(e, ERROR_DEVICE, "there is no device '%s'; there are: %s", name, list.size > 0 ? buffer_text(&list) : "none");
    buffer_free(&list);
    return false;
}

/* Our operations share themselves out over the team's threads. ggml's own, which are few and small on the CPU, run on the leader alone: its
 * threads would meet at a barrier after every one of them, which on a machine with other work to do takes longer than the work. */
static bool start_threads(device *d, error *e) {
    ggml_backend_set_n_threads_t set_threads = NULL;
    *(void **)&set_threads = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(d->dev), "ggml_backend_set_n_threads");
    if (set_threads != NULL) set_threads(d->backend, 1);
    return team_new(d->threads, &d->team, e);
}

bool device_open(const char *name, int threads, device **out, error *e) {
    *out = NULL;
    ggml_backend_dev_t dev = choose(name);
    if (dev == NULL) return complain(name, e);
    device *d = calloc(1, sizeof *d);
    if (d == NULL) return error_no_memory(e, "a device", sizeof *d);
    d->dev = dev;
    d->autocast = PRECISION_F32;
    d->is_cpu = ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU;
    d->threads = threads > 0 ? threads : machine_cores();
    if (d->threads > GGML_MAX_N_THREADS) d->threads = GGML_MAX_N_THREADS;
    snprintf(d->kind, sizeof d->kind, "%s", ggml_backend_reg_name(ggml_backend_dev_backend_reg(dev)));
    for (char *c = d->kind; *c != '\0'; c++) *c = (char)tolower((unsigned char)*c);
    d->backend = ggml_backend_dev_init(dev, NULL);
    if (d->backend == NULL) {
        device_free(d);
        return error_set(e, ERROR_DEVICE, "the device %s could not be started", ggml_backend_dev_name(dev));
    }
    if (d->is_cpu && !start_threads(d, e)) {
        device_free(d);
        return false;
    }
    *out = d;
    return true;
}

void device_free(device *d) {
    if (d == NULL) return;
    if (d->backend != NULL) ggml_backend_free(d->backend);
    team_free(d->team);
    free(d);
}

const char *device_kind(const device *d) { return d->kind; }
const char *device_name(const device *d) { return ggml_backend_dev_description(d->dev); }
void device_set_autocast(device *d, precision p) { d->autocast = p; }
precision device_autocast(const device *d) { return d->autocast; }
bool device_is_cpu(const device *d) { return d->is_cpu; }
int device_threads(const device *d) { return d->threads; }
team *device_team(const device *d) { return d->team; }
ggml_backend_t device_backend(const device *d) { return d->backend; }
bool device_supports(const device *d, const struct ggml_tensor *op) { return ggml_backend_dev_supports_op(d->dev, op); }

void device_memory(const device *d, size_t *free_bytes, size_t *total_bytes) {
    if (d->is_cpu) machine_memory(free_bytes, total_bytes);
    else ggml_backend_dev_memory(d->dev, free_bytes, total_bytes);
}

/* ── the ledger ── */

/* Of the memory that this use is made of. A device that reports nothing at all is asked by allocating. */
static size_t reported_free(const device *d, device_use use) {
    size_t free_bytes = 0, total_bytes = 0;
    if (use == DEVICE_PINNED) machine_memory(&free_bytes, &total_bytes);
    else device_memory(d, &free_bytes, &total_bytes);
    return total_bytes > 0 ? free_bytes : SIZE_MAX;
}

static bool claim_from(const device *d, ledger *l, device_use use, size_t bytes, error *e) {
    char place[64];
    bool is_main = d->is_cpu || use == DEVICE_PINNED;
    snprintf(place, sizeof place, "%s memory", is_main ? "main" : d->kind);
    return ledger_claim(l, use, bytes, reported_free(d, use), place, e);
}

bool device_claim(device *d, device_use use, size_t bytes, error *e) { return claim_from(d, &d->ledger, use, bytes, e); }

bool device_could_claim(const device *d, device_use use, size_t bytes, error *e) {
    ledger copy = d->ledger;
    return claim_from(d, &copy, use, bytes, e);
}

void device_unclaim(device *d, device_use use, size_t bytes) { ledger_unclaim(&d->ledger, use, bytes); }
void device_correct(device *d, device_use use, size_t claimed, size_t real) { ledger_correct(&d->ledger, use, claimed, real); }
size_t device_available(const device *d) { return ledger_available(&d->ledger, DEVICE_WEIGHTS, reported_free(d, DEVICE_WEIGHTS)); }
void device_set_limit(device *d, size_t bytes) { d->ledger.limit = bytes; }
void device_reset_peak(device *d) { d->ledger.peak = ledger_total(&d->ledger); }
const ledger *device_ledger(const device *d) { return &d->ledger; }
