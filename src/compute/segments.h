/* A graph's order cut where the next group of streamed weights is needed: segment 0 uses none, segment k + 1 those of group k. For graph.c. */
#ifndef IMAGINED_COMPUTE_SEGMENTS_H
#define IMAGINED_COMPUTE_SEGMENTS_H

#include "compute/streaming.h"

typedef struct segments segments;

/* `tensors` holds the operations in the order in which they were made, `whole` those that are needed, in any order that can be computed.
 * ERROR_INTERNAL when the graph uses groups out of their order. */
bool segments_new(struct ggml_context *tensors, struct ggml_cgraph *whole, const streaming *s, segments **out, error *e);
void segments_free(segments *s); /* NULL is fine */

/* The operations of `whole`, segment after segment: what memory is laid out for. */
struct ggml_cgraph *segments_order(const segments *s);
/* streaming_groups + 1. A segment may be empty. */
int segments_count(const segments *s);
struct ggml_cgraph *segments_at(const segments *s, int index);

#endif
