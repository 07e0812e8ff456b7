#include "compute/streaming.h"

#include <stdlib.h>
#include <string.h>

#include "compute/paging.h"
#include "compute/staging.h"

struct streaming {
    streamed_weight *weights; /* in order of group */
    streamed_weight *sorted;  /* the same in order of tensor, to be looked up */
    size_t count;
    int groups;
    staging *staging; /* NULL on the CPU */
};

static int by_group(const void *a, const void *b) {
    const streamed_weight *x = a, *y = b;
    return (x->group > y->group) - (x->group < y->group);
}

static int by_tensor(const void *a, const void *b) {
    const streamed_weight *x = a, *y = b;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static streamed_weight *sorted_copy(const streamed_weight *weights, size_t count, int (*order)(const void *, const void *)) {
    streamed_weight *copy = malloc((count + 1) * sizeof *copy);
    if (copy == NULL) return NULL;
    memcpy(copy, weights, count * sizeof *copy);
    qsort(copy, count, sizeof *copy, order);
    return copy;
}

bool streaming_new(device *d, const streamed_weight *weights, size_t count, int groups, streaming **out, error *e) {
    *out = NULL;
    streaming *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->weights = sorted_copy(weights, count, by_group);
        s->sorted = sorted_copy(weights, count, by_tensor);
        s->count = count;
        s->groups = groups;
    }
    bool ok = s != NULL && s->weights != NULL && s->sorted != NULL;
    if (!ok) error_no_memory(e, "a list of weights", 2 * count * sizeof *weights);
    ok = ok && (device_is_cpu(d) || staging_new(d, s->weights, count, groups, &s->staging, e));
    if (!ok) streaming_free(s);
    else *out = s;
    return ok;
}

void streaming_free(streaming *s) {
    if (s == NULL) return;
    staging_free(s->staging);
    free(s->weights);
    free(s->sorted);
    free(s);
}

int streaming_groups(const streaming *s) { return s->groups; }

int streaming_group_of(const streaming *s, const struct ggml_tensor *t) {
    const streamed_weight key = {.tensor = (struct ggml_tensor *)(uintptr_t)t};
    const streamed_weight *found = bsearch(&key, s->sorted, s->count, sizeof key, by_tensor);
    return found != NULL ? found->group : -1;
}

size_t streaming_device_bytes(const streaming *s) { return s->staging != NULL ? staging_bytes(s->staging) : 0; }

void streaming_settle(streaming *s) {
    for (int group = 0; s->staging == NULL && group < s->groups; group++) paging_drop(s->weights, s->count, group);
}

void streaming_begin(streaming *s) {
    if (s->staging != NULL) staging_begin(s->staging);
    else paging_want(s->weights, s->count, 0);
}

void streaming_acquire(streaming *s, int group) {
    if (s->staging != NULL) staging_acquire(s->staging, group);
    else if (group + 1 < s->groups) paging_want(s->weights, s->count, group + 1);
}

void streaming_release(streaming *s, int group) {
    if (s->staging != NULL) staging_release(s->staging, group);
    else paging_drop(s->weights, s->count, group);
}

void streaming_end(streaming *s) {
    if (s->staging != NULL) staging_end(s->staging);
}
