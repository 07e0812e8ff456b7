/* Weights that do not stay where they are computed with, because a budget bounds them: they come a group (a block of a model) at a time, in
 * order, while the group before is computed. On a GPU through two staging slots (staging.h); on the CPU the mapping's pages are read ahead
 * and let go (paging.h).
 *
 * A weight_set makes it; graph_run drives it:
 *
 *     streaming_begin(s);
 *     for (k = 0; k < streaming_groups(s); k++) { streaming_acquire(s, k); start computing group k; streaming_release(s, k); }
 *     streaming_end(s);                                      everything started is computed
 *
 * One thread. A run that fails midway ends with streaming_end as well. */
#ifndef IMAGINED_COMPUTE_STREAMING_H
#define IMAGINED_COMPUTE_STREAMING_H

#include <ggml.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "compute/device.h"

typedef struct streaming streaming;

typedef struct streamed_weight {
    struct ggml_tensor *tensor; /* what graphs compute with */
    const void *source;         /* ggml_nbytes(tensor) bytes of main memory that hold its values; on the CPU the mapping itself */
    int group;                  /* from 0, in order of use */
} streamed_weight;

/* The list is copied, the tensors and sources stay borrowed. On a GPU this gives the tensors their places, in memory allocated here. */
bool streaming_new(device *d, const streamed_weight *weights, size_t count, int groups, streaming **out, error *e);
void streaming_free(streaming *s); /* NULL is fine */

int streaming_groups(const streaming *s);
/* The group of a tensor, -1 for one that is not streamed. */
int streaming_group_of(const streaming *s, const struct ggml_tensor *t);
size_t streaming_device_bytes(const streaming *s); /* of the staging slots */

void streaming_settle(streaming *s); /* loading is over: what it touched of the streamed weights leaves the process's memory (CPU) */
void streaming_begin(streaming *s);
void streaming_acquire(streaming *s, int group);
void streaming_release(streaming *s, int group);
void streaming_end(streaming *s);

#endif
