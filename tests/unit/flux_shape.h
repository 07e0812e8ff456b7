/* A model of Flux.1-dev's shape and precision (33.7 GB of bf16), all weights zero: sparse files that take no room on disk and cost only
 * what is read. */
#ifndef IMAGINED_TESTS_FLUX_SHAPE_H
#define IMAGINED_TESTS_FLUX_SHAPE_H

/* Writes the model into `folder`, which exists. False when the file system does not take files of that size. */
int flux_shape_write(const char *folder);

#endif
