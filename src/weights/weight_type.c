#include <string.h>

#include "weights/tensor_store.h"

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [WEIGHT_F32] = {"F32", 4}, [WEIGHT_F16] = {"F16", 2}, [WEIGHT_BF16] = {"BF16", 2}, [WEIGHT_F64] = {"F64", 8},
    [WEIGHT_I64] = {"I64", 8}, [WEIGHT_I32] = {"I32", 4}, [WEIGHT_OTHER] = {"other", 0},
};

size_t weight_type_size(weight_type t) { return types[t].size; }
const char *weight_type_name(weight_type t) { return types[t].name; }

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE binary16 to binary32. A subnormal is its 10 bits × 2^-24, which f32 holds exactly. */
static float half_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 0x3ff;
    if (exponent == 0) {
        float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static void widen_16(weight_type t, const unsigned char *bytes, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
        out[i] = t == WEIGHT_F16 ? half_to_f32(bits) : from_bits((uint32_t)bits << 16);
    }
}

bool weight_to_f32(weight_type t, const void *data, float *out, size_t count) {
    switch (t) {
    case WEIGHT_F32:
        if (count > 0) memcpy(out, data, count * sizeof *out);
        return true;
    case WEIGHT_F16:
    case WEIGHT_BF16:
        widen_16(t, data, out, count);
        return true;
    case WEIGHT_F64:
        for (size_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, (const unsigned char *)data + i * sizeof value, sizeof value);
            out[i] = (float)value;
        }
        return true;
    case WEIGHT_I64:
    case WEIGHT_I32:
    case WEIGHT_OTHER:
        break;
    }
    return false;
}
