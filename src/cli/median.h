/* The middle of a few runs: figures of the bench are read beside each other, and a machine has noisy moments. */
#ifndef IMAGINED_CLI_MEDIAN_H
#define IMAGINED_CLI_MEDIAN_H

/* Sorts the values, of which there is one at least; of an even number the mean of the two in the middle. */
double median(double *values, int count);

#endif
