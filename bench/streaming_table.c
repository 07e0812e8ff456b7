/* How long a denoising step takes when fewer and fewer of the transformer's blocks stay on the device.
 *
 *     streaming_table DEVICE FOLDER [ROWS COLUMNS TEXT_TOKENS]
 *
 * FOLDER holds a transformer alone (bench/random_flux.py makes one of any size); rows and columns are image tokens, a sixteenth of the
 * pixels. Prints a Markdown table: the largest budget that streams, the smallest that works, and a few between them, beside "all of it". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "models/flux_transformer.h"

enum { ROUNDS = 3, BUDGETS = 5 };

typedef struct table {
    device *d;
    const char *folder;
    flux_step_shape shape;
    float *hidden, *pooled, *latents, *velocity, *first; /* the first budget's velocity */
    size_t numbers;
} table;

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float *random_numbers(size_t count) {
    float *values = malloc(count * sizeof *values);
    if (values == NULL) exit(1);
    for (size_t i = 0; i < count; i++) values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return values;
}

static void make_inputs(table *t, const flux_config *c) {
    if (t->hidden != NULL) return;
    t->numbers = (size_t)t->shape.rows * (size_t)t->shape.columns * (size_t)c->in_channels;
    t->hidden = random_numbers((size_t)t->shape.text_tokens * (size_t)c->joint_attention_dim);
    t->pooled = random_numbers((size_t)c->pooled_projection_dim);
    t->latents = random_numbers(t->numbers);
    t->velocity = random_numbers((size_t)t->shape.rows * (size_t)t->shape.columns * (size_t)c->out_channels);
}

/* One step to make the device ready, then the median of ROUNDS; also whether the numbers are those of the first budget. */
static bool run(table *t, flux_step *s, double *seconds, bool *same, error *e) {
    double times[ROUNDS];
    for (int i = -1; i < ROUNDS; i++) {
        double start = clock_seconds();
        if (!flux_step_run(s, t->latents, (float[]){0.5f}, (float[]){3.5f}, t->velocity, e)) return false;
        if (i >= 0) times[i] = clock_seconds() - start;
    }
    qsort(times, ROUNDS, sizeof *times, by_size);
    *seconds = times[ROUNDS / 2];
    if (t->first == NULL) {
        t->first = random_numbers(t->numbers);
        memcpy(t->first, t->velocity, t->numbers * sizeof *t->first);
    }
    *same = memcmp(t->first, t->velocity, t->numbers * sizeof *t->first) == 0;
    return true;
}

static bool row(table *t, size_t budget, error *e) {
    const load_options o = {.precision = PRECISION_AUTO, .resident_bytes = budget};
    flux_transformer *m;
    flux_step *s = NULL;
    double seconds = 0;
    bool same = false;
    if (!flux_transformer_load(t->d, t->folder, &o, &m, e)) return false;
    make_inputs(t, flux_transformer_config(m));
    bool ok = flux_step_new(m, &t->shape, &s, e);
    if (ok) {
        flux_step_condition(s, t->hidden, t->pooled);
        ok = run(t, s, &seconds, &same, e);
    }
    weight_residency r = flux_transformer_residency(m);
    size_t taken = ledger_total(device_ledger(t->d));
    if (ok)
        printf("| %.1f MB | %d | %d | %.1f MB | %.1f MB | %.3f s | %s |\n",
               budget == SIZE_MAX ? (double)r.resident_bytes / 1e6 : (double)budget / 1e6, r.resident_groups, r.streamed_groups,
               (double)taken / 1e6, (double)r.pinned_bytes / 1e6, seconds, same ? "yes" : "no");
    fflush(stdout);
    flux_step_free(s);
    flux_transformer_free(m);
    return ok;
}

int main(int argc, char **argv) {
    error e = {0};
    table t = {.shape = {32, 32, 256, 1}};
    if (argc != 3 && argc != 6) {
        fprintf(stderr, "usage: streaming_table DEVICE FOLDER [ROWS COLUMNS TEXT_TOKENS]\n");
        return 2;
    }
    t.folder = argv[2];
    if (argc == 6) t.shape = (flux_step_shape){atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), 1};
    flux_needs needs;
    bool ok = device_open(argv[1], 0, &t.d, &e) && flux_transformer_measure(t.d, t.folder, &LOAD_OPTIONS(PRECISION_AUTO), &t.shape, &needs, &e);
    if (ok) printf("%s, %d × %d image and %d text tokens\n\n| budget | blocks that stay | streamed | device bytes in all | pinned | step | same numbers |\n"
                   "|---|---|---|---|---|---|---|\n", device_name(t.d), t.shape.columns, t.shape.rows, t.shape.text_tokens);
    ok = ok && row(&t, SIZE_MAX, &e);
    for (int i = 0; ok && i < BUDGETS; i++)
        ok = row(&t, needs.weights - 1 - (needs.weights - 1 - needs.least_weights) / (BUDGETS - 1) * (size_t)i, &e);
    if (!ok) fprintf(stderr, "%s\n", e.text);
    device_free(t.d);
    free(t.hidden);
    free(t.pooled);
    free(t.latents);
    free(t.velocity);
    free(t.first);
    return !ok;
}
