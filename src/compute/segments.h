/* A graph's order cut where the next group of streamed weights is needed: segment 0 uses none, segment k + 1 those of group k. For
 * graph.c. */
#ifndef IMAGINED_COMPUTE_SEGMENTS_H
#define IMAGINED_COMPUTE_SEGMENTS_H

#include "compute/streaming.h"

typedef struct segments segments;

/* ERROR_INTERNAL when the order uses weights of a group behind those of a later one. */
bool segments_new(struct ggml_cgraph *whole, const streaming *s, segments **out, error *e);
void segments_free(segments *s); /* NULL is fine */

/* streaming_groups + 1. A segment may be empty. */
int segments_count(const segments *s);
struct ggml_cgraph *segments_at(const segments *s, int index);

#endif
