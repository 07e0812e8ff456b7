/* How a device multiplies: a matrix product with weights of one type, held against the product in f64, and timed. */
#ifndef IMAGINED_COMPUTE_PRODUCT_PROBE_H
#define IMAGINED_COMPUTE_PRODUCT_PROBE_H

#include <ggml.h>
#include <stdbool.h>

#include "compute/device.h"

typedef struct product_probe {
    bool runs;       /* the device has such a product, and memory for it */
    double distance; /* largest error over the largest result, with weights as the type holds them; infinite where a result is no number */
    double seconds;  /* of the fastest of a few, of 2·size³ operations */
    int64_t size;
} product_probe;

/* Multiplies size × size matrices as compute_linear does with weights of the type: on the CPU with our kernels, on others with ggml's.
 * `size` 0: grows until a product takes some milliseconds, or memory is short. */
product_probe product_probe_measure(device *d, enum ggml_type type, int64_t size);

#endif
