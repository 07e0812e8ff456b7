/* Loops that the compiler turns into vector instructions, in one version for each level of the instruction set; the dynamic linker takes
 * the best one that the machine has. What they compute is the same to the bit in every version: sums run over 16 lanes whatever the
 * hardware's width, and products are never fused with sums (-ffp-contract=off). */
#ifndef IMAGINED_COMPUTE_VECTORIZE_H
#define IMAGINED_COMPUTE_VECTORIZE_H

#include <stdint.h>
#include <string.h>

/* The choice is made before the thread sanitizer is ready for it: one version there. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define VECTORIZED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORIZED
#endif

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

/* 16 floats anywhere in memory. Passed by address only: how such a value is passed depends on the instruction set. */
typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));

INLINE float bits_to_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t f32_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Pairwise, so that the order is one for all. */
INLINE float lanes_sum(const lanes *v) {
    float s[LANES];
    memcpy(s, v, sizeof s);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

/* Of n floats. */
INLINE float lanes_sum_of(const float *x, int64_t n) {
    lanes sum = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) sum += *(const lanes *)(x + i);
    float total = lanes_sum(&sum);
    for (; i < n; i++) total += x[i];
    return total;
}

/* e^x: x = n ln 2 + r with |r| ≤ ½ ln 2, and e^r by its series to r^7 (the rest is below 6e-9). Relative error below 2e-7; 0 below −87.3
 * (where results stop being normal numbers), no infinity above 88. */
INLINE float exp_f32(float x) {
    const float shift = 0x1.8p23f; /* adding it leaves n in the low bits */
    float y = x < -87.3f ? -87.3f : x;
    y = y > 88.0f ? 88.0f : y;
    float t = y * 1.44269504088896341f + shift;
    float n = t - shift;
    float r = y - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f; /* ln 2 in two parts: n times the first is exact */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    float power = bits_to_f32((f32_to_bits(t) - 0x4b400000u + 127u) << 23);
    return x < -87.3f ? 0.0f : p * power;
}

#endif
