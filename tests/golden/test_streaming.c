/* A Flux transformer with random weights under every budget from "all of it fits" down to "two blocks fit": the same numbers to the bit,
 * never more of the device than the budget says, and what the ledger says it is, and below that a refusal that names what is missing.
 *
 *     test_streaming [DEVICE]        "cpu" (the default), "vulkan", …
 *
 * The same on a device that pretends to have neither events nor memory it can copy from by itself. On the CPU, where streaming is advice
 * about pages: never about private memory, and never more pages in memory than allowed, even while a block is in use.
 *
 * Exits with 77, which meson shows as skipped, when there is no such device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "../http/count_buffers.h"
#include "../unit/safetensors_file.h"
#include "base/clock.h"
#include "compute/ops.h"
#include "compute/residency.h"
#include "models/flux_transformer.h"
#include "random_flux.h"

enum { SKIPPED = 77, ROWS = 6, COLUMNS = 5, TEXT = 7, BATCH = 2, STEPS = 2, NUMBERS = BATCH * ROWS * COLUMNS * RANDOM_FLUX_IN };

static const random_flux model = {.heads = 6, .doubles = 2, .singles = 4};
static device *dev;
static char folder[64];
static float expected[2][NUMBERS]; /* without a budget */
static size_t all, least, step;    /* bytes that the weights want and can do with, and what a step takes, as measured beforehand */

static void fill(float *values, size_t count, uint32_t seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

static bool load_within(size_t budget, flux_transformer **out, error *e) {
    const load_options o = {.precision = PRECISION_AUTO, .resident_bytes = budget};
    return flux_transformer_load(dev, folder, &o, out, e);
}

static size_t mapped_and_resident(void);

/* The linker puts these in the place of the real ones. */
void __real_ggml_backend_dev_get_props(ggml_backend_dev_t d, struct ggml_backend_dev_props *p);
void __wrap_ggml_backend_dev_get_props(ggml_backend_dev_t d, struct ggml_backend_dev_props *p);
ggml_backend_buffer_type_t __real_ggml_backend_dev_host_buffer_type(ggml_backend_dev_t d);
ggml_backend_buffer_type_t __wrap_ggml_backend_dev_host_buffer_type(ggml_backend_dev_t d);
int __real_madvise(void *address, size_t length, int advice);
int __wrap_madvise(void *address, size_t length, int advice);

static bool plain_device;  /* nothing but what every device has */
static size_t most_mapped; /* of the weights' file, each time pages were let go: a block was just used */
static int let_go;

void __wrap_ggml_backend_dev_get_props(ggml_backend_dev_t d, struct ggml_backend_dev_props *p) {
    __real_ggml_backend_dev_get_props(d, p);
    if (plain_device) p->caps.async = p->caps.events = p->caps.host_buffer = false;
}

ggml_backend_buffer_type_t __wrap_ggml_backend_dev_host_buffer_type(ggml_backend_dev_t d) {
    return plain_device ? NULL : __real_ggml_backend_dev_host_buffer_type(d);
}

int __wrap_madvise(void *address, size_t length, int advice) {
    if (advice == MADV_DONTNEED) {
        size_t now = mapped_and_resident();
        if (now > most_mapped) most_mapped = now;
        let_go++;
    }
    return __real_madvise(address, length, advice);
}

static flux_transformer *load(size_t budget) {
    error e = {0};
    flux_transformer *t;
    if (!load_within(budget, &t, &e)) fail_msg("%s", e.text);
    return t;
}

/* A few Euler steps with two pictures' graphs in turn, as tasks of two shapes would run them; the last latents of both. The device holds no
 * more than the graphs and the budget. */
static double denoise(flux_transformer *t, size_t budget, float latents[2][NUMBERS]) {
    const flux_step_shape shapes[2] = {{ROWS, COLUMNS, TEXT, BATCH}, {ROWS, COLUMNS, TEXT, 1}};
    float hidden[BATCH * TEXT * RANDOM_FLUX_TEXT], pooled[BATCH * RANDOM_FLUX_POOLED], velocity[NUMBERS];
    flux_step *steps[2];
    error e = {0};
    fill(hidden, sizeof hidden / sizeof *hidden, 1);
    fill(pooled, sizeof pooled / sizeof *pooled, 2);
    for (int i = 0; i < 2; i++) {
        if (!flux_step_new(t, &shapes[i], &steps[i], &e)) fail_msg("%s", e.text);
        if (i == 0 && step > 0) assert_int_equal(flux_step_bytes(steps[i]), step);
        flux_step_condition(steps[i], hidden, pooled);
        fill(latents[i], NUMBERS, 3 + (uint32_t)i);
    }
    /* Counted where ggml allocates, not from our own figures. */
    if (!device_is_cpu(dev)) assert_true(count_buffers_now(false) <= budget + flux_step_bytes(steps[0]) + flux_step_bytes(steps[1]));
    double start = clock_seconds();
    for (int n = 0; n < STEPS; n++)
        for (int i = 0; i < 2; i++) {
            const float time = 1.0f - (float)n / STEPS;
            if (!flux_step_run(steps[i], latents[i], (float[]){time, time}, NULL, velocity, &e)) fail_msg("%s", e.text);
            for (int k = 0; k < NUMBERS / BATCH * shapes[i].batch; k++) latents[i][k] -= velocity[k] / STEPS;
        }
    double seconds = clock_seconds() - start;
    for (int i = 0; i < 2; i++) flux_step_free(steps[i]);
    return seconds / (2 * STEPS);
}

/* Bytes of the weights' file that are in this process's memory. */
static size_t mapped_and_resident(void) {
    char line[512], rights[8];
    unsigned long from, to;
    size_t total = 0, kilobytes;
    bool ours = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3) ours = strstr(line, folder) != NULL;
        else if (ours && sscanf(line, "Rss: %zu kB", &kilobytes) == 1) total += kilobytes << 10;
    }
    fclose(f);
    return total;
}

/* Under a budget that holds some blocks but not all. */
static void check_figures(flux_transformer *t, size_t budget) {
    weight_residency r = flux_transformer_residency(t);
    assert_true(r.streamed_groups > STAGING_SLOTS);
    assert_int_equal(r.resident_groups + r.streamed_groups, model.doubles + model.singles);
    assert_true(r.resident_bytes + STAGING_SLOTS * r.slot_bytes <= budget);
    if (device_is_cpu(dev)) {
        /* What is touched faults in up to 64 KiB around it: the resident blocks' ends and every bias. */
        size_t resident = mapped_and_resident();
        print_message("    %zu KB of %zu KB mapped are in memory, at most %zu KB were\n", resident >> 10,
                      flux_transformer_mapped_bytes(t) >> 10, most_mapped >> 10);
        assert_true(resident <= most_mapped && most_mapped <= budget && resident < flux_transformer_mapped_bytes(t));
        assert_int_equal(r.pinned_bytes, 0);
    } else {
        assert_true(flux_transformer_device_bytes(t) <= budget);
        assert_true(r.pinned_bytes > 0);
        assert_int_equal(flux_transformer_private_bytes(t), r.pinned_bytes);
        assert_int_equal(device_ledger(dev)->claimed[DEVICE_PINNED], r.pinned_bytes);
        assert_int_equal(ledger_total(device_ledger(dev)), flux_transformer_device_bytes(t));
    }
}

static int without_budget(void **state) {
    (void)state;
    flux_transformer *t = load(SIZE_MAX);
    weight_residency r = flux_transformer_residency(t);
    all = r.resident_bytes;
    denoise(t, all, expected); /* the device makes its programs ready */
    print_message("    budget        resident streamed seconds a step\n    %9.2f MB  %-8d %-8d %.4f\n", (double)all / 1e6,
                  r.resident_groups, r.streamed_groups, denoise(t, all, expected));
    assert_true(r.streamed_groups == 0 && r.slot_bytes == 0 && r.pinned_bytes == 0);
    flux_needs needs;
    assert_true(
        flux_transformer_measure(dev, folder, &LOAD_OPTIONS(PRECISION_AUTO), &(flux_step_shape){ROWS, COLUMNS, TEXT, BATCH}, &needs, NULL));
    assert_int_equal(needs.weights, all);
    least = needs.least_weights;
    step = needs.step;
    if (device_is_cpu(dev)) assert_true(mapped_and_resident() > all - (1 << 16));
    flux_transformer_free(t);
    return 0;
}

static void the_numbers_are_the_same_under_every_budget(void **state) {
    (void)state;
    static float latents[2][NUMBERS];
    weight_residency r;
    flux_transformer *t = load(all); /* the very size fits */
    assert_int_equal(flux_transformer_residency(t).streamed_groups, 0);
    flux_transformer_free(t);

    int plans = 0, last = model.doubles + model.singles;
    error e = {0};
    size_t budget = all - 1;
    for (; load_within(budget, &t, &e); plans++) {
        r = flux_transformer_residency(t);
        memset(latents, 0, sizeof latents);
        most_mapped = 0;
        double seconds = denoise(t, budget, latents);
        print_message("    %9.2f MB  %-8d %-8d %.4f\n", (double)budget / 1e6, r.resident_groups, r.streamed_groups, seconds);
        assert_memory_equal(latents, expected, sizeof expected);
        check_figures(t, budget);
        assert_true(r.resident_groups < last);
        last = r.resident_groups;
        flux_transformer_free(t);
        assert_int_equal(ledger_total(device_ledger(dev)) + device_ledger(dev)->claimed[DEVICE_PINNED], 0);
        budget = r.resident_bytes + STAGING_SLOTS * r.slot_bytes - 1; /* at least one block fewer */
    }
    assert_int_equal(e.code, ERROR_OUT_OF_MEMORY);
    assert_non_null(strstr(e.text, "are missing"));
    assert_int_equal(last, 0); /* it came down to two blocks */
    assert_int_equal(budget, least - 1);
    assert_true(plans >= 3);
}

static void a_plain_device_streams_as_well(void **state) {
    (void)state;
    static float latents[2][NUMBERS];
    if (device_is_cpu(dev)) skip();
    plain_device = true;
    flux_transformer *t = load(least);
    denoise(t, least, latents);
    assert_memory_equal(latents, expected, sizeof expected);
    check_figures(t, least);
    flux_transformer_free(t);
    plain_device = false;
}

static void private_memory_stays(void **state) {
    (void)state;
    static float latents[2][NUMBERS];
    if (!device_is_cpu(dev)) skip();
    const load_options o = {.precision = PRECISION_AUTO, .copied = true, .resident_bytes = least};
    flux_transformer *t;
    let_go = 0;
    assert_true(flux_transformer_load(dev, folder, &o, &t, NULL));
    denoise(t, least, latents);
    assert_memory_equal(latents, expected, sizeof expected);
    assert_int_equal(let_go, 0);
    assert_int_equal(flux_transformer_residency(t).streamed_groups, 0);
    flux_transformer_free(t);
}

/* Blocks in another order than the groups were named in would find foreign weights in their slots. */
static void groups_out_of_order_are_refused(void **state) {
    (void)state;
    static const char *const stems[] = {"diffusion_pytorch_model", NULL};
    const int64_t n = (int64_t)model.heads * RANDOM_FLUX_HEAD;
    error e = {0};
    tensor_store *store;
    weight_loader *l;
    weight_set *set;
    struct ggml_tensor *w[4];
    assert_true(tensor_store_open(folder, stems, &store, &e));
    assert_true(weight_loader_new(dev, store, PRECISION_AUTO, &l, &e));
    for (int i = 0; i < 4; i++) {
        weight_group(l, 1 + i);
        w[i] = weight_take(l, 2, (int64_t[]){n, n}, "single_transformer_blocks.%d.attn.to_q.weight", i);
    }
    weight_loader_budget(l, 2 * (size_t)(n * n) * sizeof(uint16_t) + 4096);
    if (!weight_loader_finish(l, &set, &e)) fail_msg("%s", e.text);
    assert_int_equal(weight_set_residency(set).streamed_groups, 4);
    for (int swapped = 0; swapped < 2; swapped++) {
        graph *g;
        assert_true(graph_new(dev, 64, &g, &e));
        graph_stream(g, weight_set_streaming(set));
        struct ggml_tensor *x = graph_input(g, GGML_TYPE_F32, n, 3, 1, 1);
        const int order[4] = {0, swapped ? 2 : 1, swapped ? 1 : 2, 3};
        for (int i = 0; i < 4; i++) x = compute_linear(g, x, w[order[i]], NULL);
        graph_output(g, x);
        assert_int_equal(graph_reserve(g, &e), !swapped);
        graph_free(g);
    }
    assert_int_equal(e.code, ERROR_INTERNAL);
    assert_non_null(strstr(e.text, "single_transformer_blocks.1.attn.to_q.weight"));
    weight_set_free(set);
    tensor_store_free(store);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_numbers_are_the_same_under_every_budget),
                                       cmocka_unit_test(a_plain_device_streams_as_well), cmocka_unit_test(private_memory_stays),
                                       cmocka_unit_test(groups_out_of_order_are_refused)};
    error e = {0};
    if (!device_open(argc > 1 ? argv[1] : "cpu", 2, &dev, &e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return SKIPPED;
    }
    make_folder(folder);
    random_flux_write(folder, &model);
    int failed = cmocka_run_group_tests(tests, without_budget, NULL);
    remove_file(folder, "config.json");
    remove_file(folder, "diffusion_pytorch_model.safetensors");
    rmdir(folder);
    device_free(dev);
    return failed;
}
