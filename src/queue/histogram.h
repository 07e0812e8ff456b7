/* How often a duration was how long: buckets on a logarithmic scale, as Prometheus counts them. */
#ifndef IMAGINED_QUEUE_HISTOGRAM_H
#define IMAGINED_QUEUE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 16 };
extern const double histogram_bounds[HISTOGRAM_BUCKETS]; /* seconds, rising */

typedef struct histogram {
    uint64_t at_most[HISTOGRAM_BUCKETS]; /* values up to that bound: each includes those before it */
    uint64_t count;                      /* all, also those beyond the last bound */
    double sum;                          /* seconds */
} histogram;

void histogram_add(histogram *h, double seconds); /* below 0 counts as 0 */

#endif
