/* Weights of any type as f32, quickly. */
#ifndef IMAGINED_COMPUTE_WIDEN_H
#define IMAGINED_COMPUTE_WIDEN_H

#include <ggml.h>
#include <stdint.h>

/* `count` numbers (whole blocks of a quantised type) of `data`. Exact for f16 and bf16. */
void widen(enum ggml_type type, const void *data, float *out, int64_t count);

/* Rows [first, first + rows) of a matrix: in place where they are f32 already, else widened into `scratch` (rows × ne[0] floats). */
const float *widen_rows(const struct ggml_tensor *matrix, int64_t first, int64_t rows, float *scratch);

#endif
