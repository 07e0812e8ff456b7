#include "queue/histogram.h"

const double histogram_bounds[HISTOGRAM_BUCKETS] = {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000};

void histogram_add(histogram *h, double seconds) {
    if (!(seconds > 0)) seconds = 0; /* the clock of dates may be set back */
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) h->at_most[i] += seconds <= histogram_bounds[i];
    h->count++;
    h->sum += seconds;
}
