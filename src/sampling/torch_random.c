#include "sampling/torch_random.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Where the reference's compiler fuses a multiplication and an addition, fmaf is written out; everywhere else each operation rounds on
 * its own, so this file relies on -ffp-contract=off (set for the whole build). */

enum { MT_WORDS = 624, MT_MIDDLE = 397, BLOCK = 16 };

/* Matsumoto and Nishimura's MT19937 with the initialisation of 2002. */
typedef struct mersenne_twister {
    uint32_t word[MT_WORDS];
    size_t next;
} mersenne_twister;

static void mt_seed(mersenne_twister *m, uint32_t seed) {
    m->word[0] = seed;
    for (uint32_t i = 1; i < MT_WORDS; i++) m->word[i] = 1812433253u * (m->word[i - 1] ^ (m->word[i - 1] >> 30)) + i;
    m->next = MT_WORDS;
}

static void mt_refill(mersenne_twister *m) {
    for (size_t i = 0; i < MT_WORDS; i++) {
        uint32_t following = m->word[(i + 1) % MT_WORDS];
        uint32_t joined = (m->word[i] & 0x80000000u) | (following & 0x7fffffffu);
        m->word[i] = m->word[(i + MT_MIDDLE) % MT_WORDS] ^ (joined >> 1) ^ ((following & 1) != 0 ? 0x9908b0dfu : 0);
    }
    m->next = 0;
}

static uint32_t mt_next(mersenne_twister *m) {
    if (m->next == MT_WORDS) mt_refill(m);
    uint32_t x = m->word[m->next++];
    x ^= x >> 11;
    x ^= (x << 7) & 0x9d2c5680u;
    x ^= (x << 15) & 0xefc60000u;
    return x ^ (x >> 18);
}

/* Uniform in [0, 1): 24 bits for float, 53 for double, whose first draw gives the high word. */
static float uniform_float(mersenne_twister *m) { return (float)(mt_next(m) & 0xffffffu) * 0x1p-24f; }

static double uniform_double(mersenne_twister *m) {
    uint64_t high = mt_next(m), low = mt_next(m);
    return (double)(((high << 32) | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* The polynomial in x, highest coefficient first, by Horner's rule with fused steps. */
static float horner(float x, const float *coefficient, size_t count) {
    float y = coefficient[0];
    for (size_t i = 1; i < count; i++) y = fmaf(y, x, coefficient[i]);
    return y;
}

/* log of a normal positive number, with the polynomial of Cephes' logf in the order of operations of PyTorch's vector code:
 * x = m·2^e with m in [√½, √2), log x = e·log 2 + log m. */
static float cephes_log(float x) {
    static const float polynomial[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                                       -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    const float log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
    int exponent;
    float m = frexpf(x, &exponent); /* in [½, 1) */
    if (m < 0.707106781186547524f) {
        exponent--;
        m += m - 1.0f; /* exact, as m − 1 is */
    } else {
        m -= 1.0f;
    }
    float e = (float)exponent, square = m * m;
    float y = horner(m, polynomial, 9) * m;
    y = fmaf(y, square, e * log2_low);
    y -= square * 0.5f;
    return fmaf(e, log2_high, m + y);
}

/* sine and cosine of 0 ≤ x ≤ 2π, after Cephes' sinf and cosf: x less a multiple of π/2 in three parts, then one polynomial for each. */
static void cephes_sincos(float x, float *sine, float *cosine) {
    static const float sine_polynomial[] = {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f};
    static const float cosine_polynomial[] = {2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f};
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1; /* even: 0, 2, 4, 6 or 8 eighths of a turn */
    float j = (float)octant;
    x = fmaf(j, -0.78515625f, x);
    x = fmaf(j, -2.4187564849853515625e-4f, x);
    x = fmaf(j, -3.77489497744594108e-8f, x);
    float z = x * x;
    float c = fmaf(horner(z, cosine_polynomial, 3) * z, z, z * -0.5f) + 1.0f;
    float s = fmaf(horner(z, sine_polynomial, 3) * z, x, x);
    bool quarter = (octant & 2) != 0;
    float at_sine = quarter ? c : s, at_cosine = quarter ? s : c;
    *sine = (octant & 4) != 0 ? -at_sine : at_sine;
    *cosine = ((octant - 2) & 4) == 0 ? -at_cosine : at_cosine;
}

/* Box–Muller: 8 pairs of uniforms, first halves in the first 8 places, become 16 normals in the same places. */
static void normal_block(float *data) {
    for (size_t i = 0; i < BLOCK / 2; i++) {
        float radius = sqrtf(-2.0f * cephes_log(1.0f - data[i]));
        float sine, cosine;
        cephes_sincos(6.28318530717958647692f * data[i + BLOCK / 2], &sine, &cosine);
        data[i] = radius * cosine + 0.0f; /* the mean: −0 becomes 0 */
        data[i + BLOCK / 2] = radius * sine + 0.0f;
    }
}

/* Fewer than 16 numbers: one by one in double, the sine of each pair kept for the next. */
static void fill_few(mersenne_twister *m, float *out, size_t count) {
    double kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (i % 2 == 1) {
            out[i] = (float)kept;
            continue;
        }
        double turn = uniform_double(m);
        double radius = sqrt(-2.0 * log1p(-uniform_double(m)));
        double theta = 2.0 * 3.14159265358979323846 * turn;
        kept = radius * sin(theta);
        out[i] = (float)(radius * cos(theta));
    }
}

static void fill_many(mersenne_twister *m, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = uniform_float(m);
    for (size_t i = 0; i + BLOCK <= count; i += BLOCK) normal_block(out + i);
    if (count % BLOCK == 0) return;
    float *last = out + (count - BLOCK); /* the tail is drawn anew and overlaps the last whole block */
    for (size_t i = 0; i < BLOCK; i++) last[i] = uniform_float(m);
    normal_block(last);
}

void torch_randn(uint64_t seed, float *out, size_t count) {
    mersenne_twister m;
    mt_seed(&m, (uint32_t)seed);
    if (count < BLOCK) fill_few(&m, out, count);
    else fill_many(&m, out, count);
}
