/* Weights that pass through a device: two slots of its memory, filled in turn from main memory by a second stream while the first computes.
 *
 *     staging_begin(s);
 *     for (k = 0; k < groups; k++) { staging_acquire(s, k); compute group k; staging_release(s, k); }
 *     staging_end(s);
 *
 * Group k always lies in slot k % 2, so that a graph which was built once finds it there in every run. The streams wait for each other by
 * events; where a device has none, every wait and copy is synchronous. For streaming.c. */
#ifndef IMAGINED_COMPUTE_STAGING_H
#define IMAGINED_COMPUTE_STAGING_H

#include "compute/streaming.h"

typedef struct staging staging;

/* Allocates the slots and gives each weight its place there. weights[count] in order of group; borrowed, as are their sources. */
bool staging_new(device *d, const streamed_weight *weights, size_t count, int groups, staging **out, error *e);
void staging_free(staging *s); /* waits for copies on their way; NULL is fine */
size_t staging_bytes(const staging *s); /* of both slots */

void staging_begin(staging *s);              /* the first groups set out, unless they are there */
void staging_acquire(staging *s, int group); /* what the device computes from now on finds the group in its slot */
void staging_release(staging *s, int group); /* what the device computes from now on does not need it */
void staging_end(staging *s);                /* waits for everything computed; the first groups set out for the next run meanwhile */

#endif
