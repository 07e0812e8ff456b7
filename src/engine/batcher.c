#include "engine/batcher.h"

#include <string.h>

static const double newest_weight = 0.25; /* of the latest step in the mean */

static bool same_key(const batch_key *a, const batch_key *b) {
    return a->width == b->width && a->height == b->height && a->text_tokens == b->text_tokens && a->guidance_pair == b->guidance_pair &&
           strcmp(a->model, b->model) == 0 && strcmp(a->precision, b->precision) == 0;
}

static const batch_record *find(const batcher *b, const batch_key *key) {
    for (size_t i = 0; i < BATCHER_KEYS; i++)
        if (b->records[i].used > 0 && same_key(&b->records[i].key, key)) return &b->records[i];
    return NULL;
}

/* The record of the key, a new one where there is none. */
static batch_record *take(batcher *b, const batch_key *key) {
    batch_record *r = (batch_record *)find(b, key);
    if (r == NULL) {
        r = &b->records[0];
        for (size_t i = 1; i < BATCHER_KEYS; i++)
            if (b->records[i].used < r->used) r = &b->records[i];
        *r = (batch_record){.key = *key};
    }
    r->used = ++b->uses;
    return r;
}

static bool judged(const batch_record *r, int size) { return r->sizes[size].no_memory || r->sizes[size].samples > BATCHER_SAMPLES; }

/* Whether `size` images a step, judged as the size below it is, are worth it. */
static bool pays(const batch_record *r, int size) {
    return !r->sizes[size].no_memory && r->sizes[size].seconds * BATCHER_GAIN * (size - 1) < r->sizes[size - 1].seconds * size;
}

/* A growth that was given up long ago is judged anew. */
static void forget_the_growth(batch_record *r, int size) {
    r->sizes[size].samples = 0;
    r->sizes[size].seconds = 0;
    r->sizes[size].no_memory = false;
    r->since_given_up = 0;
}

static int at_most(int a, int b) { return a < b ? a : b; }

/* The size just below the first that found no memory. */
static int within_memory(batch_record *r, int size) {
    for (int i = 2; i <= size; i++) {
        if (!r->sizes[i].no_memory) continue;
        if (r->since_given_up < BATCHER_RETRY) return i - 1;
        forget_the_growth(r, i);
    }
    return size;
}

int batcher_choose(batcher *b, const batch_key *key, int available) {
    available = at_most(available, BATCHER_MAX);
    batch_record *r = take(b, key);
    if (b->fixed > 0) return within_memory(r, at_most(available, b->fixed));
    int size = 1;
    while (size < available && judged(r, size)) {
        if (judged(r, size + 1) && !pays(r, size + 1)) {
            if (r->since_given_up < BATCHER_RETRY) break;
            forget_the_growth(r, size + 1);
        }
        size++;
    }
    return size;
}

void batcher_note(batcher *b, const batch_key *key, int size, double seconds) {
    if (size < 1 || size > BATCHER_MAX || !(seconds > 0)) return;
    batch_record *r = take(b, key);
    bool was_judged = judged(r, size);
    r->since_given_up++;
    r->sizes[size].no_memory = false;
    if (r->sizes[size].samples++ == 0) return;
    double *mean = &r->sizes[size].seconds;
    *mean = *mean == 0 ? seconds : *mean + newest_weight * (seconds - *mean);
    if (!was_judged && judged(r, size) && size > 1 && judged(r, size - 1) && !pays(r, size)) r->since_given_up = 0;
}

void batcher_no_memory(batcher *b, const batch_key *key, int size) {
    if (size < 2 || size > BATCHER_MAX) return; /* one image must be tried whatever happened */
    batch_record *r = take(b, key);
    r->sizes[size].no_memory = true;
    r->since_given_up = 0;
}

void batcher_prime(batcher *b, const batch_key *key, int size, double seconds) {
    if (size < 1 || size > BATCHER_MAX || !(seconds > 0)) return;
    batch_record *r = take(b, key);
    if (r->sizes[size].samples > 0) return;
    r->sizes[size].seconds = seconds;
    r->sizes[size].samples = BATCHER_SAMPLES + 1;
}

double batcher_seconds(const batcher *b, const batch_key *key, int size) {
    const batch_record *r = find(b, key);
    return r == NULL || size < 1 || size > BATCHER_MAX ? 0 : r->sizes[size].seconds;
}
