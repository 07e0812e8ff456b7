#include "compute/widen.h"

#include <string.h>

#include "compute/vectorize.h"

VECTORIZED static void widen_bf16(const uint16_t *in, float *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[i] = bits_to_f32((uint32_t)in[i] << 16);
}

/* The exponent of f32 has 112 more: a product with 2^112 moves it, and makes normal numbers of subnormal ones as well. */
VECTORIZED static void widen_f16(const uint16_t *in, float *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t magnitude = (uint32_t)(in[i] & 0x7fff) << 13, sign = (uint32_t)(in[i] & 0x8000) << 16;
        uint32_t bits = f32_to_bits(bits_to_f32(magnitude) * 0x1p112f);
        bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0;
        out[i] = bits_to_f32(bits | sign);
    }
}

void widen(enum ggml_type type, const void *data, float *out, int64_t count) {
    if (type == GGML_TYPE_BF16) widen_bf16(data, out, count);
    else if (type == GGML_TYPE_F16) widen_f16(data, out, count);
    else if (type == GGML_TYPE_F32) memcpy(out, data, (size_t)count * sizeof *out);
    else ggml_get_type_traits(type)->to_float(data, out, count);
}

const float *widen_rows(const struct ggml_tensor *matrix, int64_t first, int64_t rows, float *scratch) {
    size_t row = ggml_row_size(matrix->type, matrix->ne[0]);
    const char *data = (const char *)matrix->data + (size_t)first * row;
    if (matrix->type == GGML_TYPE_F32) return (const float *)data;
    widen(matrix->type, data, scratch, rows * matrix->ne[0]);
    return scratch;
}
